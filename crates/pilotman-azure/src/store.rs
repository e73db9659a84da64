//! The container, reached by the SDK, and what comes before the first attempt.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use azure_core::Error as SdkError;
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport, Url};
use azure_storage_blob::{
    BlobClient, BlobContainerClient, BlobContainerClientOptions, BlobServiceClient, BlobServiceClientOptions,
};
use pilotman_core::backend::Environment;
use pilotman_core::clock::{Sleep, Time};
use pilotman_core::{Error, Result};

use crate::bearer::Bearer;
use crate::blob::{Blob, Facts};
use crate::names::Naming;
use crate::options::{Access, AzureBlob, Place};
use crate::shared_key::SharedKey;
use crate::{failure, http, process};

/// So many blobs that stay are remembered.
const REMEMBERED: usize = 1000;
/// So long after it was refused, removing blobs is not tried. Rights can be granted while a program runs.
const BARRED: Duration = Duration::from_secs(5 * 60);

/// See the [module](self).
pub(crate) struct Store {
    pub(crate) options: AzureBlob,
    pub(crate) naming: Naming,
    container: Reach,
    environment: OnceLock<Environment>,
    owner: String,
    /// Where tokens of Entra ID are kept, if it is by them that requests are made.
    bearer: Option<Arc<Bearer>>,
    /// What comes before the first attempt has been done.
    is_ready: AtomicBool,
    /// Until when no blob is removed here: there was no right to.
    barred: Mutex<Option<Time>>,
    known: Mutex<HashMap<String, Facts>>,
}

/// What reaches the blobs.
enum Reach {
    /// A container, and for who wants to know about it the whole service.
    Container {
        container: Arc<BlobContainerClient>,
        service: Option<BlobServiceClient>,
    },
    One {
        blob: Arc<BlobClient>,
        name: String,
    },
}

impl Store {
    /// # Errors
    ///
    /// `Misconfigured` for options that contradict each other.
    pub(crate) fn new(options: AzureBlob) -> Result<Self> {
        let bearer = match &options.access {
            Access::Identity(credential) => Some(Bearer::new(credential.clone())),
            _ => None,
        };
        let (container, url) = match &options.place {
            Place::Endpoint { endpoint, account, container } => {
                ours(&options, bearer.clone(), endpoint, account, container)?
            }
            place => {
                if !matches!(options.access, Access::None) || options.ca.is_some() {
                    return Err(Error::misconfigured(
                        "a client that was handed in has its own access and certificates",
                    ));
                }
                theirs(place, &options)?
            }
        };
        Ok(Self {
            naming: Naming::new(options.names, &options.prefix, &url),
            container,
            environment: OnceLock::new(),
            owner: process::owner(),
            bearer,
            is_ready: AtomicBool::new(!options.needs_preparation()),
            barred: Mutex::default(),
            known: Mutex::default(),
            options,
        })
    }

    pub(crate) fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.environment.set(environment);
    }

    pub(crate) fn environment(&self) -> Option<&Environment> {
        self.environment.get()
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The blob of a lock.
    pub(crate) fn blob(&self, name: &str) -> Result<Blob> {
        match &self.container {
            Reach::Container { container, .. } => {
                let name = self.naming.blob(name)?;
                Ok(Blob::new(Arc::new(container.blob_client(&name)), name))
            }
            Reach::One { blob, name: only } if name == only => Ok(Blob::new(blob.clone(), only.clone())),
            Reach::One { name: only, .. } => {
                Err(Error::invalid_name(format!("this blob's only lock is called '{}'", failure::shown(only)))
                    .with_advice("hand in the container's client for locks of other names"))
            }
        }
    }

    /// The blob of this name in the container.
    pub(crate) fn blob_itself(&self, name: String) -> Option<Blob> {
        match &self.container {
            Reach::Container { container, .. } => Some(Blob::new(Arc::new(container.blob_client(&name)), name)),
            Reach::One { .. } => None,
        }
    }

    /// The one blob that there is, with its name.
    pub(crate) fn only_blob(&self) -> Option<&str> {
        match &self.container {
            Reach::One { name, .. } => Some(name),
            Reach::Container { .. } => None,
        }
    }

    pub(crate) fn container(&self) -> Option<&BlobContainerClient> {
        match &self.container {
            Reach::Container { container, .. } => Some(container),
            Reach::One { .. } => None,
        }
    }

    pub(crate) fn service(&self) -> Option<&BlobServiceClient> {
        match &self.container {
            Reach::Container { service, .. } => service.as_ref(),
            Reach::One { .. } => None,
        }
    }

    pub(crate) fn keeps_blobs(&self) -> bool {
        self.options.keep_blobs
    }

    /// Whether it is worth trying to remove a blob that was made for a lock.
    pub(crate) fn removes_blobs(&self) -> bool {
        let barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
        match (*barred, self.environment()) {
            (Some(until), Some(environment)) => until <= environment.clock.now(),
            _ => true,
        }
    }

    /// A blob could not be removed, while its lease could be given back: it is the right to remove that is missing.
    pub(crate) fn may_not_remove(&self, error: &SdkError) {
        let Some(environment) = self.environment() else { return };
        let until = environment.clock.now().after(BARRED);
        let before = self.barred.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        let error = failure::error("the blob of a lock can't be removed", error);
        match before {
            None => tracing::warn!(%error, lock.backend = "azure", "blobs that are made for locks stay"),
            Some(_) => tracing::debug!(%error, lock.backend = "azure", "blobs that are made for locks still stay"),
        }
    }

    /// What to tell the caller of a request that failed.
    pub(crate) fn failed(&self, what: &str, error: &SdkError) -> Error {
        if let (Some(bearer), Some(401)) = (&self.bearer, failure::said(error).map(|said| said.status)) {
            bearer.doubt();
        }
        if failure::is(error, &["ContainerNotFound"]) && self.options.create_container {
            // It was removed; the next attempt makes it again.
            self.is_ready.store(false, Ordering::Release);
            return Error::unavailable(format!("{what}: the container has been removed")).no_effect(true);
        }
        failure::error(what, error)
    }

    /// As [`Self::failed`], of something that was to be given back. As long as its lease lasts that is worth another try also when
    /// it is refused: a secret is renewed, a right is granted again, and until then nobody else has the lock.
    pub(crate) fn kept(&self, what: &str, error: &SdkError) -> Error {
        let failed = self.failed(what, error);
        match failure::is_refusal(error) {
            true => failed.retryable(true),
            false => failed,
        }
    }

    /// What stands in a blob that stays, if it is remembered.
    pub(crate) fn known(&self, name: &str) -> Option<Facts> {
        self.remembered().get(name).cloned()
    }

    /// Remembers what stands in a blob that stays.
    pub(crate) fn learn(&self, name: &str, facts: &Facts) {
        let mut known = self.remembered();
        if facts.is_disposable() {
            known.remove(name);
            return;
        }
        if known.len() >= REMEMBERED && !known.contains_key(name) {
            known.clear();
        }
        known.insert(name.to_owned(), facts.clone());
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Facts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether attempts can be made. A token of Entra ID takes longer than an operation may.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire) && self.bearer.as_ref().is_none_or(|bearer| bearer.has_token())
    }

    /// Makes the container if that is wanted, and gets a first token if there are any.
    pub(crate) async fn prepare(&self) -> Result<()> {
        let limit = self.options.connect_timeout;
        let prepared = within(self.environment(), limit, self.prepare_now()).await;
        prepared.unwrap_or_else(|| {
            Err(Error::unavailable(format!("the service gave no answer within {limit:?}")).no_effect(true))
        })?;
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    async fn prepare_now(&self) -> Result<()> {
        let Some(container) = self.container() else { return Ok(()) };
        if !self.options.create_container || self.is_ready.load(Ordering::Acquire) {
            // Whatever the service says, it has taken the token.
            return match container.get_properties(None).await {
                Err(error) if failure::said(&error).is_none() => {
                    Err(failure::error("the container can't be reached", &error))
                }
                _ => Ok(()),
            };
        }
        match container.create(None).await {
            Ok(_) => Ok(()),
            Err(error) if failure::is(&error, &["ContainerAlreadyExists"]) => Ok(()),
            // Who may not make one may still use one that is there.
            Err(error) if failure::said(&error).is_some_and(|said| said.status == 403) => {
                match container.get_properties(None).await {
                    Ok(_) => Ok(()),
                    Err(_) => Err(failure::error("the container can't be made", &error)),
                }
            }
            Err(error) => Err(failure::error("the container can't be made", &error)),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

impl AzureBlob {
    fn needs_preparation(&self) -> bool {
        !matches!(self.place, Place::Blob(_)) && self.create_container
    }
}

/// Waits for something for so long at most.
pub(crate) async fn within<T>(
    environment: Option<&Environment>,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let Some(environment) = environment else { return Some(work.await) };
    tokio::select! {
        done = work => Some(done),
        () = Sleep::new(environment.clock.clone(), limit) => None,
    }
}

/// Bounds what the engine doesn't: looking at locks.
pub(crate) async fn asked<T>(store: &Store, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    within(store.environment(), limit, work)
        .await
        .unwrap_or_else(|| Err(Error::unavailable(format!("the service gave no answer within {limit:?}"))))
}

/// Clients of our own.
fn ours(
    options: &AzureBlob,
    bearer: Option<Arc<Bearer>>,
    endpoint: &Url,
    account: &str,
    container: &str,
) -> Result<(Reach, String)> {
    let mut client_options = ClientOptions {
        retry: RetryOptions::none(),
        transport: Some(Transport::new(http::client(endpoint, options.ca.as_deref(), options.connect_timeout)?)),
        ..ClientOptions::default()
    };
    let mut credential: Option<Arc<dyn TokenCredential>> = None;
    let (mut service_url, mut url) = (endpoint.clone(), endpoint.clone());
    let unusable = || Error::misconfigured("the endpoint can't have a container");
    url.path_segments_mut().map_err(|()| unusable())?.pop_if_empty().push(container);
    let plain = url.to_string();
    match &options.access {
        Access::Key(key) => {
            client_options.per_try_policies.push(Arc::new(SharedKey::new(account.to_owned(), key.clone())));
        }
        Access::Sas(sas) => {
            sas.sign(&mut url);
            sas.sign(&mut service_url);
        }
        Access::Identity(_) if endpoint.scheme() != "https" => {
            return Err(Error::misconfigured("tokens of Entra ID are sent by TLS only")
                .with_advice("use an endpoint with https://"));
        }
        Access::Identity(_) => credential = bearer.map(|bearer| bearer as Arc<dyn TokenCredential>),
        Access::None => {
            return Err(Error::misconfigured("nothing shows the service that this program may use the account")
                .with_advice("give an account key, a SAS, or let Entra ID say who it is (auth=entra)"));
        }
    }
    let container_options =
        BlobContainerClientOptions { client_options: client_options.clone(), ..BlobContainerClientOptions::default() };
    let service_options = BlobServiceClientOptions { client_options, ..BlobServiceClientOptions::default() };
    let container =
        BlobContainerClient::new(url, credential.clone(), Some(container_options)).map_err(|_| unusable())?;
    let service = BlobServiceClient::new(service_url, credential, Some(service_options)).map_err(|_| unusable())?;
    Ok((Reach::Container { container: Arc::new(container), service: Some(service) }, plain))
}

/// Clients of the user.
fn theirs(place: &Place, options: &AzureBlob) -> Result<(Reach, String)> {
    match place {
        Place::Container(client) => {
            let url = client.url().to_string();
            Ok((Reach::Container { container: client.clone(), service: None }, url))
        }
        Place::Blob(client) => {
            if !options.prefix.is_empty() || options.create_container {
                return Err(Error::misconfigured("a prefix and create-container are for containers; here is one blob"));
            }
            let url = client.url();
            let name = blob_name(url).ok_or_else(|| Error::misconfigured("the URL of this client names no blob"))?;
            Ok((Reach::One { blob: client.clone(), name }, url.to_string()))
        }
        Place::Endpoint { .. } => Err(Error::misconfigured("this place has clients of ours")),
    }
}

/// The name of a blob in its URL: what follows the container, and on addresses the account.
fn blob_name(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let has_account = host == "localhost" || host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let mut path = url.path().trim_start_matches('/').splitn(if has_account { 3 } else { 2 }, '/');
    let name = if has_account { path.nth(2) } else { path.nth(1) };
    name.filter(|name| !name.is_empty()).and_then(decoded)
}

/// A path without its percent-encoding.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        match byte {
            b'%' => bytes.push(u8::try_from(hex(rest.next())? * 16 + hex(rest.next())?).ok()?),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_called_as_its_url_says() {
        for (url, name) in [
            ("https://contoso.blob.core.windows.net/locks/a%2Fb/c%20d", Some("a/b/c d")),
            ("http://127.0.0.1:1/acc/locks/a", Some("a")),
            ("https://contoso.blob.core.windows.net/locks", None),
            ("https://contoso.blob.core.windows.net/locks/", None),
            ("https://contoso.blob.core.windows.net/locks/%ff", None),
        ] {
            assert_eq!(blob_name(&Url::parse(url).unwrap()).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn contradictions_are_found_beforehand() {
        let azure = || AzureBlob::account("contoso", "locks").unwrap();
        let error = Store::new(azure()).unwrap_err().to_string();
        assert!(error.contains("account key") && error.contains("auth=entra"), "{error}");
        let plain = AzureBlob::endpoint("http://contoso.example", "locks").unwrap();
        let error =
            Store::new(plain.credential(azure_identity::DeveloperToolsCredential::new(None).unwrap())).unwrap_err();
        assert!(error.to_string().contains("https"), "{error}");
        let url = Url::parse("https://contoso.blob.core.windows.net/locks/a").unwrap();
        let client = || BlobClient::new(url.clone(), None, None).unwrap();
        assert!(Store::new(AzureBlob::blob_client(client()).prefix("x").unwrap()).is_err());
        let theirs = AzureBlob::blob_client(client()).account_key("c2VjcmV0").unwrap();
        assert!(Store::new(theirs).is_err());
        let store = Store::new(AzureBlob::blob_client(client())).unwrap();
        assert!(store.blob("a").is_ok());
        let error = store.blob("b").err().unwrap();
        assert!(error.to_string().contains("called 'a'"), "{error}");
    }
}
