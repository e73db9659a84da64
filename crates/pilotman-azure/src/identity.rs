//! Tokens of Entra ID by what the environment has.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_identity::{
    ClientSecretCredential, DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential,
};
use pilotman_core::{Error, Result};

/// How long a machine is asked for its identity before those who are logged in are.
const PATIENCE: Duration = Duration::from_secs(3);

/// The credential that the environment asks for; see [`AzureBlob::entra`](crate::AzureBlob::entra).
pub(crate) fn of_environment() -> Result<Arc<dyn TokenCredential>> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let made = match (set("AZURE_FEDERATED_TOKEN_FILE"), set("AZURE_CLIENT_SECRET"), set("AZURE_CLIENT_ID")) {
        (Some(_), _, _) => WorkloadIdentityCredential::new(None).map(|made| made as Arc<dyn TokenCredential>),
        (None, Some(secret), Some(client)) => {
            let tenant = set("AZURE_TENANT_ID")
                .ok_or_else(|| Error::misconfigured("AZURE_CLIENT_SECRET is set, but AZURE_TENANT_ID is not"))?;
            ClientSecretCredential::new(&tenant, client, Secret::new(secret), None)
                .map(|made| made as Arc<dyn TokenCredential>)
        }
        (None, Some(_), None) => {
            return Err(Error::misconfigured("AZURE_CLIENT_SECRET is set, but AZURE_CLIENT_ID is not"));
        }
        (None, None, client) => either(client),
    };
    // The error may have values of the environment.
    made.map_err(|_| Error::misconfigured("no credential can be made of what the AZURE_… variables say"))
}

fn either(client: Option<String>) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: client.map(UserAssignedId::ClientId),
        ..Default::default()
    };
    let machine = ManagedIdentityCredential::new(Some(options))?;
    Ok(Arc::new(Either { machine, person: DeveloperToolsCredential::new(None)? }))
}

/// The machine's own identity, or where it has none that of who is logged in.
#[derive(Debug)]
struct Either {
    machine: Arc<dyn TokenCredential>,
    person: Arc<dyn TokenCredential>,
}

#[async_trait::async_trait]
impl TokenCredential for Either {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        // Away from Azure nobody answers at the address that a machine asks for its identity.
        match tokio::time::timeout(PATIENCE, self.machine.get_token(scopes, options.clone())).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => self.person.get_token(scopes, options).await.map_err(|_| error),
            Err(_) => self.person.get_token(scopes, options).await,
        }
    }
}
