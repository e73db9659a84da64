//! Tokens of Entra ID by what the environment has.

use std::env;
use std::sync::{Arc, OnceLock};
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
    let person = DeveloperToolsCredential::new(None)?;
    Ok(Arc::new(Either { machine, person, chosen: OnceLock::new(), patience: PATIENCE }))
}

/// The machine's own identity, or where it has none that of who is logged in. Whoever gave the first token is asked for all others:
/// a machine that is slow for once must not make this another user.
#[derive(Debug)]
struct Either {
    machine: Arc<dyn TokenCredential>,
    person: Arc<dyn TokenCredential>,
    chosen: OnceLock<Arc<dyn TokenCredential>>,
    patience: Duration,
}

#[async_trait::async_trait]
impl TokenCredential for Either {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if let Some(chosen) = self.chosen.get() {
            return chosen.get_token(scopes, options).await;
        }
        // Away from Azure nobody answers at the address that a machine asks for its identity.
        let asked = tokio::time::timeout(self.patience, self.machine.get_token(scopes, options.clone())).await;
        let (given, by) = match asked {
            Ok(Ok(token)) => (Ok(token), &self.machine),
            Ok(Err(error)) => (self.person.get_token(scopes, options).await.map_err(|_| error), &self.person),
            Err(_) => (self.person.get_token(scopes, options).await, &self.person),
        };
        if given.is_ok() {
            self.chosen.get_or_init(|| by.clone());
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use azure_core::time::OffsetDateTime;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// Gives tokens, but for the times at which it hangs.
    #[derive(Debug)]
    struct Slow(&'static str, std::ops::Range<usize>, AtomicUsize);

    #[async_trait::async_trait]
    impl TokenCredential for Slow {
        async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
            let Self(token, hangs, count) = self;
            if hangs.contains(&count.fetch_add(1, Ordering::SeqCst)) {
                pending::<()>().await;
            }
            Ok(AccessToken::new(*token, OffsetDateTime::now_utc()))
        }
    }

    fn either(machine_hangs: std::ops::Range<usize>) -> Either {
        let slow = |name, hangs| Arc::new(Slow(name, hangs, AtomicUsize::new(0)));
        let (machine, person) = (slow("machine", machine_hangs), slow("person", 0..0));
        Either { machine, person, chosen: OnceLock::new(), patience: SHORT }
    }

    #[tokio::test]
    async fn who_gave_the_first_token_gives_all() {
        let ask = async |either: &Either| either.get_token(&[], None).await.unwrap().token.secret().to_owned();
        let away = either(0..1);
        assert_eq!((ask(&away).await, ask(&away).await), ("person".into(), "person".into()));
        // Given at once, however busy the machine that runs this is.
        let there = Either { patience: SHORT * 200, ..either(1..2) };
        assert_eq!(ask(&there).await, "machine");
        let there = Either { patience: SHORT, ..there };
        let slow = tokio::time::timeout(SHORT * 10, ask(&there)).await;
        assert!(slow.is_err(), "it is waited for: {slow:?}");
        assert_eq!(ask(&there).await, "machine");
    }
}
