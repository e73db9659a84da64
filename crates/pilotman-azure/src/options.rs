//! Which container, by which right, and how its blobs are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::base64;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::Url;
use azure_storage_blob::{BlobClient, BlobContainerClient};
use pilotman_core::{Error, NameRule, Result};

use crate::connection_string::ConnectionString;
use crate::sas::Sas;

/// The account of the emulator, which everybody knows.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
/// Its key.
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Where it listens unless told otherwise.
const EMULATOR: &str = "http://127.0.0.1:10000/devstoreaccount1";
/// A name of a blob has 1 024 characters.
const LONGEST_PREFIX: usize = 200;

/// A container of Azure Blob Storage, by which right it is used, and how its blobs are locks.
///
/// ```
/// use pilotman_azure::AzureBlob;
///
/// # fn main() -> pilotman_core::Result<()> {
/// let azure = AzureBlob::account("contoso", "locks")?.account_key("c2VjcmV0")?.create_container(true);
/// # let _ = azure;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct AzureBlob {
    pub(crate) place: Place,
    pub(crate) access: Access,
    pub(crate) names: NameRule,
    pub(crate) prefix: String,
    pub(crate) lease: Option<Duration>,
    pub(crate) create_container: bool,
    pub(crate) keep_blobs: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) ca: Option<Arc<[u8]>>,
}

/// Where the blobs are.
#[derive(Clone)]
pub(crate) enum Place {
    /// A container of an endpoint, reached by a client of ours.
    Endpoint { endpoint: Url, account: String, container: String },
    /// A client of the user's.
    Container(Arc<BlobContainerClient>),
    /// A client of the user's for the one blob that is the one lock.
    Blob(Arc<BlobClient>),
}

/// By which right requests are made.
#[derive(Clone)]
pub(crate) enum Access {
    /// None was given, or it is the user's client that has it.
    None,
    Key(Secret),
    Sas(Sas),
    Identity(Arc<dyn TokenCredential>),
}

impl AzureBlob {
    /// A container of this account: `https://ACCOUNT.blob.core.windows.net/CONTAINER`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of an account or of a container.
    pub fn account(account: &str, container: &str) -> Result<Self> {
        if !is_account(account) {
            return Err(
                bad("this is no name of a storage account").with_advice("it has 3 to 24 lower-case letters and digits")
            );
        }
        Self::endpoint(&format!("https://{account}.blob.core.windows.net"), container)
    }

    /// A container at this endpoint, for other clouds, domains of one's own and emulators. The account is the first part of the
    /// host's name; where the host is an IP address or `localhost`, it is the path.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no URL, or no name of a container.
    pub fn endpoint(endpoint: &str, container: &str) -> Result<Self> {
        let unreadable = |why: &str| {
            // It may hold a SAS.
            bad(format!("the endpoint {why}")).with_advice("write it as in https://contoso.blob.core.windows.net")
        };
        let mut url = Url::parse(endpoint).map_err(|_| unreadable("is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(unreadable("begins neither with https:// nor with http://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(unreadable("has parts that no endpoint has"));
        }
        let sas = url.query().filter(|query| !query.is_empty()).map(Sas::parse).transpose()?;
        url.set_query(None);
        let path = url.path().trim_matches('/').to_owned();
        url.set_path(&path);
        let host = url.host_str().unwrap_or_default();
        let is_numeric = host == "localhost" || host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
        let account = match (is_numeric, path.is_empty()) {
            (true, true) => {
                return Err(
                    unreadable("has an address but no account").with_advice(format!("write it as in {EMULATOR}"))
                );
            }
            (true, false) if !path.contains('/') => path,
            (false, true) => host.split('.').next().unwrap_or_default().trim_end_matches("-secondary").to_owned(),
            _ => return Err(unreadable("has too long a path")),
        };
        check_container(container)?;
        let place = Place::Endpoint { endpoint: url, account, container: container.to_owned() };
        Ok(Self { access: sas.map_or(Access::None, Access::Sas), ..Self::at(place) })
    }

    /// A container, by a connection string as the portal shows it: `DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…`,
    /// with `SharedAccessSignature=…`, or `UseDevelopmentStorage=true`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it can't be read or lacks something.
    pub fn connection_string(text: &str, container: &str) -> Result<Self> {
        let read = ConnectionString::parse(text)?;
        if read.emulator {
            return Self::emulator(container);
        }
        let mut azure = Self::endpoint(&read.endpoint()?, container)?;
        if let Some(account) = &read.account {
            azure = azure.account_name(account);
        }
        match (read.key, read.sas) {
            (Some(key), _) => azure.account_key(key),
            (None, Some(sas)) => azure.sas(sas),
            (None, None) => Ok(azure),
        }
    }

    /// As [`Self::connection_string`], from the environment variable `AZURE_STORAGE_CONNECTION_STRING`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is not set, or can't be read.
    pub fn from_env(container: &str) -> Result<Self> {
        match std::env::var(crate::connection_string::VARIABLE) {
            Ok(text) if !text.trim().is_empty() => Self::connection_string(&text, container),
            _ => Err(bad("no storage account is named").with_advice(format!(
                "give the account, the endpoint or a connection string, or set {}",
                crate::connection_string::VARIABLE
            ))),
        }
    }

    /// A container of an emulator (Azurite) on its usual port of this machine, with the key that it has by default.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of a container.
    pub fn emulator(container: &str) -> Result<Self> {
        Self::endpoint(EMULATOR, container)?.account_name(EMULATOR_ACCOUNT).account_key(EMULATOR_KEY)
    }

    /// A client that you already have. It stays yours: its credential, its transport and its retries are used as they are. Retries
    /// of the SDK's default go on for up to a minute, which is of no use here: each request is ended after the limit of an operation
    /// (2 s, a sixth of the lease at most).
    pub fn container_client(client: BlobContainerClient) -> Self {
        Self::at(Place::Container(Arc::new(client)))
    }

    /// A client of one blob that you already have. The only lock is the one that is called like the blob. A blob of any type will
    /// do; one that is not there is made as an empty block blob.
    pub fn blob_client(client: BlobClient) -> Self {
        Self { names: NameRule::Exact, ..Self::at(Place::Blob(Arc::new(client))) }
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            access: Access::None,
            names: NameRule::default(),
            prefix: String::new(),
            lease: Some(crate::AzureBackend::DEFAULT_LEASE),
            create_container: false,
            keep_blobs: false,
            connect_timeout: Duration::from_secs(5),
            ca: None,
        }
    }

    /// The name of the account where it is not the endpoint that tells, such as with a domain of one's own. Only shared keys need
    /// it.
    pub fn account_name(mut self, name: &str) -> Self {
        if let Place::Endpoint { account, .. } = &mut self.place {
            name.clone_into(account);
        }
        self
    }

    /// Signs requests with a key of the account.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no key: not in base 64.
    pub fn account_key(mut self, key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        match base64::decode(key.trim()) {
            Ok(bytes) if !bytes.is_empty() => {
                self.access = Access::Key(Secret::new(key.trim().to_owned()));
                Ok(self)
            }
            _ => Err(bad("the account key is none: it is not in base 64")
                .with_advice("copy it from the account's access keys")),
        }
    }

    /// Sends a shared access signature with each request. For all that locks do it needs the rights `rwdl` on the blobs of the
    /// container (`rwd` without lists).
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is none.
    pub fn sas(mut self, token: impl AsRef<str>) -> Result<Self> {
        self.access = Access::Sas(Sas::parse(token.as_ref())?);
        Ok(self)
    }

    /// Asks Entra ID for tokens by this credential, one of [`azure_identity`]'s or your own. It needs TLS.
    pub fn credential(mut self, credential: Arc<dyn TokenCredential>) -> Self {
        self.access = Access::Identity(credential);
        self
    }

    /// Asks Entra ID for tokens by what the environment has: the workload identity of Kubernetes (`AZURE_FEDERATED_TOKEN_FILE`), a
    /// client's secret (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`), else the managed identity of this machine
    /// (that of `AZURE_CLIENT_ID`, if that is set), and where there is none who is logged in with the developer's tools.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the environment contradicts itself.
    pub fn entra(self) -> Result<Self> {
        Ok(self.credential(crate::identity::of_environment()?))
    }

    /// How names become names of blobs. Default: [`NameRule::DotNet`].
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// What all names of blobs begin with, such as `locks/`. Default: nothing.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it has other characters than letters, digits and `-_./`, or begins with a slash.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Result<Self> {
        let prefix = prefix.into();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let is_dots = |part: &str| part.ends_with('.');
        if prefix.len() > LONGEST_PREFIX
            || prefix.starts_with('/')
            || !prefix.chars().all(is_plain)
            || prefix.split('/').any(is_dots)
            || prefix.contains("//")
        {
            return Err(bad("this prefix can't begin the name of a blob")
                .with_advice("write it with letters, digits, dashes and slashes, as in locks/"));
        }
        self.prefix = prefix;
        Ok(self)
    }

    /// The lease of locks that name none, 15 s to 60 s, in whole seconds (parts of one are rounded up at the server). Default:
    /// 30 s.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if Azure has no such leases.
    pub fn lease(mut self, lease: Duration) -> Result<Self> {
        let (min, max) = (crate::AzureBackend::SHORTEST_LEASE, crate::AzureBackend::LONGEST_LEASE);
        if lease < min || lease > max {
            return Err(bad(format!("a lease of {lease:?} is outside {min:?} … {max:?}")));
        }
        self.lease = Some(lease);
        Ok(self)
    }

    /// Locks that name no lease get one without an end. Then nothing frees the lock of a process that died but
    /// [`force_release`](pilotman_core::Locks::force_release), and a loss is only noticed by who waits to be told.
    pub fn infinite_lease(mut self) -> Self {
        self.lease = None;
        self
    }

    /// Makes the container if it is not there. Default: it must be there.
    pub fn create_container(mut self, create: bool) -> Self {
        self.create_container = create;
        self
    }

    /// Leaves blobs that were made for a lock where they are, for the next holder: half as many requests, and no trace in an account
    /// with soft delete, but blobs that nobody removes. Default: who made a blob removes it, as the .NET library does.
    pub fn keep_blobs(mut self, keep: bool) -> Self {
        self.keep_blobs = keep;
        self
    }

    /// How long connecting may take, and whatever else comes before the first lock: making the container, a token of Entra ID.
    /// Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Certificate authorities in PEM, instead of the system's.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(pem.as_ref().into());
        self
    }
}

/// Refuses what is no name of a container, before anything is sent.
fn check_container(name: &str) -> Result<()> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let fits = (3..=63).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    match fits || name == "$root" {
        true => Ok(()),
        false => Err(bad("this is no name of a container")
            .with_advice("it has 3 to 63 lower-case letters, digits and single dashes, as in azblob://locks")),
    }
}

fn is_account(name: &str) -> bool {
    (3..=24).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn bad(message: impl Into<String>) -> Error {
    Error::misconfigured(message.into())
}

impl fmt::Debug for AzureBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureBlob")
            .field("place", &self.place)
            .field("access", &self.access)
            .field("names", &self.names)
            .field("prefix", &self.prefix)
            .field("lease", &self.lease)
            .field("create_container", &self.create_container)
            .field("keep_blobs", &self.keep_blobs)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL of a client may have a SAS behind its path.
        let shown = |url: &Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
        match self {
            Self::Endpoint { endpoint, account, container } => {
                write!(f, "{} {account} {container}", shown(endpoint))
            }
            Self::Container(client) => f.write_str(&shown(client.url())),
            Self::Blob(client) => f.write_str(&shown(client.url())),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Key(_) => "account key",
            Self::Sas(_) => "sas",
            Self::Identity(_) => "identity",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(azure: &AzureBlob) -> (String, String, String) {
        match &azure.place {
            Place::Endpoint { endpoint, account, container } => {
                (endpoint.to_string(), account.clone(), container.clone())
            }
            _ => unreachable!("it was made of an endpoint"),
        }
    }

    #[test]
    fn endpoints_name_their_account() {
        for (endpoint, account) in [
            ("https://contoso.blob.core.windows.net", "contoso"),
            ("https://contoso-secondary.blob.core.windows.net/", "contoso"),
            ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
            ("http://localhost:1/acc/", "acc"),
            ("http://[::1]:1/acc", "acc"),
        ] {
            assert_eq!(place(&AzureBlob::endpoint(endpoint, "locks").unwrap()).1, account, "{endpoint}");
        }
        for bad in [
            "",
            "contoso",
            "ftp://h",
            "https://",
            "http://127.0.0.1:1",
            "http://127.0.0.1:1/a/b",
            "https://u:p@h",
            "https://h/p",
        ] {
            let error = AzureBlob::endpoint(bad, "locks").unwrap_err();
            assert!(error.to_string().contains("endpoint"), "{bad}: {error}");
        }
    }

    #[test]
    fn names_of_accounts_and_containers_are_checked() {
        for good in ["abc", "a-b-c", "$root", &"a".repeat(63)] {
            assert!(AzureBlob::account("contoso", good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "Abc", "a_b", "a--b", "-ab", "ab-", "a b", &"a".repeat(64)] {
            let error = AzureBlob::account("contoso", bad).unwrap_err();
            assert!(error.to_string().contains("container"), "{bad}: {error}");
        }
        for bad in ["", "ab", "Contoso", "con-toso", "contoso.blob", "a/b"] {
            assert!(AzureBlob::account(bad, "locks").is_err(), "{bad}");
        }
    }

    #[test]
    fn leases_are_those_of_azure() {
        let azure = || AzureBlob::account("contoso", "locks").unwrap();
        for seconds in [15, 60] {
            assert!(azure().lease(Duration::from_secs(seconds)).is_ok());
        }
        for seconds in [0, 10, 14, 61, 3600] {
            let error = azure().lease(Duration::from_secs(seconds)).unwrap_err();
            assert!(error.to_string().contains("15s … 60s"), "{error}");
        }
    }

    #[test]
    fn prefixes_begin_names_of_blobs() {
        let azure = || AzureBlob::account("contoso", "locks").unwrap();
        for good in ["", "locks/", "a.b/c-d_", "x"] {
            assert!(azure().prefix(good).is_ok(), "{good}");
        }
        for bad in ["/a", "a\\b", "a b", "ü", "../", "a/./b", "a//b", "dot.", &"x".repeat(201)] {
            assert!(azure().prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let key = "aHVudGVyMg==";
        let azure = AzureBlob::account("contoso", "locks").unwrap();
        let sas = azure.clone().sas("sv=1&sp=rwd&sig=hunter2").unwrap();
        let url = Url::parse("https://h.example/locks?sig=hunter2").unwrap();
        let client = AzureBlob::container_client(BlobContainerClient::new(url, None, None).unwrap());
        for shown in [format!("{:?}", azure.account_key(key).unwrap()), format!("{sas:?}"), format!("{client:?}")] {
            assert!(!shown.contains(key) && !shown.contains("hunter2"), "{shown}");
        }
        let error = AzureBlob::account("contoso", "locks").unwrap().account_key("hunter2!").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let error = AzureBlob::endpoint("hunter2", "locks").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
