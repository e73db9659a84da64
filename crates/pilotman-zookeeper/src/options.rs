//! Which ensemble, and how its locks are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, NameRule, Result};

use crate::acl::AccessControl;
use crate::host::Host;
use crate::layout::Layout;
use crate::path;

/// A ZooKeeper ensemble, and how its locks are used.
///
/// ```
/// use std::time::Duration;
/// use pilotman_zookeeper::ZooKeeper;
///
/// # fn main() -> pilotman_core::Result<()> {
/// let zookeeper = ZooKeeper::hosts(["zk1.example", "zk2.example", "zk3.example:2181"])?.chroot("/app")?;
/// let zookeeper = zookeeper.session_timeout(Duration::from_secs(10)).digest("app", "s3cret");
/// # let _ = zookeeper;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ZooKeeper {
    pub(crate) hosts: Vec<Host>,
    pub(crate) chroot: Option<String>,
    pub(crate) directory: String,
    pub(crate) session_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) layout: Layout,
    pub(crate) names: NameRule,
    pub(crate) assume_path_exists: bool,
    pub(crate) auth: Vec<(String, Secret)>,
    pub(crate) sasl: Option<(String, Secret)>,
    pub(crate) acl: Vec<AccessControl>,
    pub(crate) tls: Option<Tls>,
}

/// What no log may show.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How connections are encrypted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Arc<[u8]>>,
    pub(crate) identity: Option<(Arc<[u8]>, Secret)>,
}

impl ZooKeeper {
    /// The shortest lease: below it there is no time for renewals on a real network.
    pub const SHORTEST_LEASE: Duration = Duration::from_millis(100);
    /// The shortest time-out of a session.
    pub const SHORTEST_SESSION: Duration = Duration::from_millis(500);
    /// The longest time-out of a session.
    pub const LONGEST_SESSION: Duration = Duration::from_secs(24 * 60 * 60);

    /// The server of this host: `zk.example`, `zk.example:2181` or `[::1]:2181`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no host.
    pub fn host(host: impl AsRef<str>) -> Result<Self> {
        Self::hosts([host])
    }

    /// The members of an ensemble. One that can be reached is enough.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if there is none, or one is no host.
    pub fn hosts(hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let hosts = hosts.into_iter().map(|host| Host::parse(host.as_ref())).collect::<Result<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(Error::misconfigured("no ZooKeeper host is given"));
        }
        Ok(Self {
            hosts,
            chroot: None,
            directory: "/".to_owned(),
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            layout: Layout::default(),
            names: NameRule::default(),
            assume_path_exists: false,
            auth: Vec::new(),
            sasl: None,
            acl: vec![AccessControl::everybody()],
            tls: None,
        })
    }

    /// The node below which everything happens, as in `/app`. It must be there. Default: none.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no path.
    pub fn chroot(mut self, path: impl Into<String>) -> Result<Self> {
        let path = path::checked(path.into(), "chroot")?;
        self.chroot = (path != "/").then_some(path);
        Ok(self)
    }

    /// The node whose children stand for the locks, below the chroot. It is made when it is missing, unless
    /// [`Self::assume_path_exists`] says otherwise. Default: `/`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no path.
    pub fn directory(mut self, path: impl Into<String>) -> Result<Self> {
        self.directory = path::checked(path.into(), "directory")?;
        Ok(self)
    }

    /// How long the ensemble keeps a session, and its locks, of which it hears nothing. It is also the longest lease, and
    /// the one of locks that name none. The servers have bounds of their own: by default 2 and 20 of their ticks of 2 s.
    /// Default: 10 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long opening a session may take. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// A session that nobody has needed for this long is closed; the next lock opens another. Default: 60 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How nodes are laid out. Default: as the .NET library does.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// How names become names of nodes. Default: as the .NET library maps them.
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// Whether the nodes that stand for the locks are there already, and are neither made nor removed. Default: no.
    pub fn assume_path_exists(mut self, assume: bool) -> Self {
        self.assume_path_exists = assume;
        self
    }

    /// Shows this to the servers, by a scheme that they know. Several are shown one after the other.
    pub fn auth(mut self, scheme: impl Into<String>, secret: impl AsRef<[u8]>) -> Self {
        self.auth.push((scheme.into(), Secret(secret.as_ref().into())));
        self
    }

    /// Shows a user and a password: the scheme `digest`. The password goes over the wire as it is; use TLS.
    pub fn digest(self, user: &str, password: &str) -> Self {
        self.auth("digest", format!("{user}:{password}"))
    }

    /// Shows that it knows this user's password by SASL with `DIGEST-MD5`, on each connection and before anything else. The servers
    /// need a JAAS section `Server` with `DigestLoginModule`. The password is not sent, but who listens can try to guess it; use TLS.
    pub fn sasl_digest_md5(mut self, user: impl Into<String>, password: impl AsRef<str>) -> Self {
        self.sasl = Some((user.into(), Secret(password.as_ref().as_bytes().into())));
        self
    }

    /// The access control list of all nodes that are made. Default: [`AccessControl::everybody`].
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is empty.
    pub fn acl(mut self, entries: impl IntoIterator<Item = AccessControl>) -> Result<Self> {
        self.acl = entries.into_iter().collect();
        match self.acl.is_empty() {
            true => Err(Error::misconfigured("the access control list is empty, so nobody could use a lock")
                .with_advice("leave it out, or give it an entry such as auth::cdrwa")),
            false => Ok(self),
        }
    }

    /// Encrypts connections, and checks that the certificate is of an authority that the system knows and for the host.
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// As [`Self::tls`], with these authorities instead of the system's, in PEM.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.get_or_insert_default().ca = Some(pem.as_ref().into());
        self
    }

    /// As [`Self::tls`], and shows this certificate, in PEM, with its key.
    pub fn client_certificate(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let identity = (certificate.as_ref().into(), Secret(key.as_ref().into()));
        self.tls.get_or_insert_default().identity = Some(identity);
        self
    }

    /// Whether these options can work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.session_timeout < Self::SHORTEST_SESSION || self.session_timeout > Self::LONGEST_SESSION {
            return Err(Error::misconfigured(format!(
                "a session time-out of {:?} is outside {:?} … {:?}",
                self.session_timeout,
                Self::SHORTEST_SESSION,
                Self::LONGEST_SESSION
            )));
        }
        if self.connect_timeout.is_zero() {
            return Err(Error::misconfigured("a connect time-out of zero would never connect"));
        }
        Ok(())
    }

    /// The members as the driver reads them.
    pub(crate) fn cluster(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        format!("{}{}", hosts.join(","), self.chroot.as_deref().unwrap_or_default())
    }
}

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let schemes: Vec<&str> = self.auth.iter().map(|(scheme, _)| scheme.as_str()).collect();
        f.debug_struct("ZooKeeper")
            .field("hosts", &hosts)
            .field("chroot", &self.chroot)
            .field("directory", &self.directory)
            .field("session_timeout", &self.session_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("layout", &self.layout)
            .field("names", &self.names)
            .field("assume_path_exists", &self.assume_path_exists)
            .field("auth", &schemes)
            .field("sasl", &self.sasl.is_some())
            .field("acl", &self.acl)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let zookeeper = ZooKeeper::host("h").unwrap().digest("me", "hunter2").client_certificate("c", "hunter2");
        let zookeeper = zookeeper.sasl_digest_md5("me", "hunter2");
        assert!(!format!("{zookeeper:?}").contains("hunter2"));
    }

    #[test]
    fn bad_options_are_refused() {
        let host = || ZooKeeper::host("h").unwrap();
        assert!(ZooKeeper::hosts(Vec::<String>::new()).is_err());
        assert!(host().chroot("app").is_err() && host().chroot("/app/").is_err());
        assert!(host().directory("/a//b").is_err());
        assert!(host().acl([]).is_err());
        assert!(host().session_timeout(Duration::ZERO).check().is_err());
        assert!(host().session_timeout(Duration::MAX).check().is_err());
        assert!(host().connect_timeout(Duration::ZERO).check().is_err());
        assert!(host().check().is_ok());
    }

    #[test]
    fn members_are_written_for_the_driver() {
        let zookeeper = ZooKeeper::hosts(["a", "[::1]:7"]).unwrap();
        assert_eq!(zookeeper.clone().chroot("/").unwrap().cluster(), "a:2181,[::1]:7");
        assert_eq!(zookeeper.chroot("/x/y").unwrap().cluster(), "a:2181,[::1]:7/x/y");
    }
}
