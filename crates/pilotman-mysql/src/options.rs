//! Where the servers are, and how their locks are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, NameRule, Result};
use pilotman_session::SessionOptions;

/// The port of both servers.
const PORT: u16 = 3306;
/// The longest name of a table.
const LONGEST_TABLE: usize = 64;

/// Whether connections are encrypted, and what is checked. Unix sockets never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server can; nothing is checked.
    #[default]
    Prefer,
    /// Always; nothing is checked, unless a certificate authority is given: then as [`Self::VerifyFull`].
    Require,
    /// Always; the certificate must be of a known authority, and for this host or [`MySql::tls_name`].
    VerifyFull,
}

/// A MySQL or MariaDB server, and how its locks are used.
///
/// ```
/// use pilotman_mysql::{MySql, TlsMode};
///
/// # fn main() -> pilotman_core::Result<()> {
/// let mysql = MySql::hosts(["db1.example:3306", "db2.example"])?.user("app").password("s3cret").database("shop");
/// let mysql = mysql.tls(TlsMode::VerifyFull);
/// # let _ = mysql;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct MySql {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<String>,
    pub(crate) application_name: String,
    pub(crate) tls: TlsMode,
    pub(crate) tls_name: Option<String>,
    pub(crate) ca: Option<Arc<[u8]>>,
    pub(crate) client_certificate: Option<(Arc<[u8]>, Secret)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) trusts_proxy: bool,
    pub(crate) names: NameRule,
    pub(crate) prefix: String,
    pub(crate) token_table: String,
    pub(crate) sessions: SessionOptions,
}

/// What no log may show.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One server of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Tcp(String, u16),
    /// The path of its socket.
    Unix(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // What stands there may be anything, also a password in the wrong place.
            Error::misconfigured(format!("a MySQL host {why}"))
                .with_advice("write it as in db.example, db.example:3306, [::1]:3306, or as the path of a socket")
        };
        let port = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(bad("has a port that is no port")),
            Ok(port) => Ok(port),
        };
        if text.starts_with('/') {
            return match text.contains('\0') {
                true => Err(bad("has a path that no socket can have")),
                false => Ok(Self::Unix(text.to_owned())),
            };
        }
        let (host, number) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, PORT),
            Some((host, rest)) => {
                (host, port(rest.strip_prefix(':').ok_or_else(|| bad("goes on after its closing bracket"))?)?)
            }
            None if text.matches(':').count() > 1 => (text, PORT),
            None => match text.split_once(':') {
                Some((host, number)) => (host, port(number)?),
                None => (text, PORT),
            },
        };
        match host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c)) {
            true => Err(bad("has no name that a host can have")),
            false => Ok(Self::Tcp(host.to_owned(), number)),
        }
    }
}

impl MySql {
    /// The server of this host: `db.example`, `db.example:3306`, `[::1]:3306`, or the path of a Unix socket.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no host.
    pub fn host(host: impl AsRef<str>) -> Result<Self> {
        Self::hosts([host])
    }

    /// Several servers of which one takes writes: each is tried in turn, and those that are read-only are passed over. Locks of
    /// different servers have nothing to do with each other, so there must never be two that take writes.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if there is none, or one is no host.
    pub fn hosts(hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let hosts = hosts.into_iter().map(|host| Host::parse(host.as_ref())).collect::<Result<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(Error::misconfigured("no MySQL host is given"));
        }
        Ok(Self {
            hosts,
            user: None,
            password: None,
            database: None,
            application_name: "pilotman".to_owned(),
            tls: TlsMode::default(),
            tls_name: None,
            ca: None,
            client_certificate: None,
            connect_timeout: Duration::from_secs(5),
            trusts_proxy: false,
            names: NameRule::default(),
            prefix: String::new(),
            token_table: "pilotman_fencing_token".to_owned(),
            sessions: SessionOptions::default(),
        })
    }

    /// The user. Default: the name of the operating system's user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password, which is UTF-8. Default: none.
    pub fn password(mut self, password: impl AsRef<str>) -> Self {
        self.password = Some(Secret(password.as_ref().as_bytes().into()));
        self
    }

    /// The database with the table of the fencing tokens. Locks are the server's, whatever the database. Default: none.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// What the server calls our sessions (`program_name` in `performance_schema.session_connect_attrs`). Default: `pilotman`.
    /// Servers see it only on connections without TLS: the driver announces it too late for others.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Whether connections are encrypted. Default: [`TlsMode::Prefer`].
    pub fn tls(mut self, mode: TlsMode) -> Self {
        self.tls = mode;
        self
    }

    /// The name that the server's certificate must be for. Default: the host's.
    pub fn tls_name(mut self, name: impl Into<String>) -> Self {
        self.tls_name = Some(name.into());
        self
    }

    /// Certificate authorities in PEM, instead of the system's.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(pem.as_ref().into());
        self
    }

    /// A certificate of the client and its key, in PEM.
    pub fn client_certificate(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.client_certificate = Some((certificate.as_ref().into(), Secret(key.as_ref().into())));
        self
    }

    /// How long connecting to one host may take, TLS and log-in included. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Says that what stands between here and the server gives each connection a server session of its own, always at the same
    /// server. Without it a proxy that can be seen is refused.
    pub fn trust_proxy(mut self, trust: bool) -> Self {
        self.trusts_proxy = trust;
        self
    }

    /// How names become names of the server. Default: [`NameRule::DotNet`].
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// What all names begin with before they are mapped: a server's locks are common to all its databases. Default: nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The table that fencing tokens come from, `table` or `database.table`. It is made when the first token is asked for.
    /// Default: `pilotman_fencing_token`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of a table.
    pub fn token_table(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_$-".contains(c);
        let is_part = |part: &str| !part.is_empty() && part.len() <= LONGEST_TABLE && part.chars().all(is_plain);
        match name.split('.').count() <= 2 && name.split('.').all(is_part) {
            true => {
                self.token_table = name;
                Ok(self)
            }
            false => Err(Error::misconfigured("this is no name of a table").with_advice(
                "write it as in pilotman_fencing_token or app.fencing_token, with letters and digits only",
            )),
        }
    }

    /// How many sessions there are, and how they are kept. A session with holds is asked four times a second whether it is there,
    /// whatever the heartbeat: the driver keeps its socket to itself.
    pub fn sessions(mut self, options: SessionOptions) -> Self {
        self.sessions = options;
        self
    }

    /// The user as he logs in.
    pub(crate) fn user_name(&self) -> String {
        let of_system = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        self.user.clone().or_else(of_system).unwrap_or_else(|| "root".to_owned())
    }

    /// The table as it is written in SQL.
    pub(crate) fn quoted_table(&self) -> String {
        let parts: Vec<_> = self.token_table.split('.').map(|part| format!("`{part}`")).collect();
        parts.join(".")
    }
}

impl fmt::Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySql")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("password", &self.password)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("names", &self.names)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        let tcp = |host: &str, port| Host::Tcp(host.to_owned(), port);
        for (text, host) in [
            ("h", tcp("h", 3306)),
            ("h:1", tcp("h", 1)),
            ("[::1]:7", tcp("::1", 7)),
            ("::1", tcp("::1", 3306)),
            ("/run/mysqld/mysqld.sock", Host::Unix("/run/mysqld/mysqld.sock".into())),
        ] {
            assert_eq!(Host::parse(text).unwrap(), host, "{text}");
        }
        for bad in ["", ":1", "h:", "h:x", "h:0", "h:70000", "[::1]x", "u@h", "a b", "h/db", "/a\0"] {
            let error = Host::parse(bad).unwrap_err();
            assert!(error.to_string().contains("write it as in"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let mysql = MySql::host("h").unwrap().password("hunter2");
        assert!(!format!("{mysql:?}").contains("hunter2"));
    }

    #[test]
    fn a_table_is_quoted_and_nothing_else() {
        let named = |name: &str| MySql::host("h").unwrap().token_table(name);
        assert_eq!(named("a.b-c").unwrap().quoted_table(), "`a`.`b-c`");
        for bad in ["", "a.", "a.b.c", "a`b", "a\0", "ä", "a b"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
