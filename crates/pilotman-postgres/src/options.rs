//! Where the database is, and how its locks are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, NameRule, Result};
use pilotman_session::SessionOptions;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// Whether connections are encrypted, and what is checked: the words of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server can; nothing is checked.
    #[default]
    Prefer,
    /// Always; nothing is checked, unless a certificate authority is given: then as [`Self::VerifyCa`].
    Require,
    /// Always; the certificate must be of a known authority.
    VerifyCa,
    /// Always; the certificate must also be for this host.
    VerifyFull,
}

/// What a hold lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scope {
    /// A session. One carries many holds.
    #[default]
    Session,
    /// A transaction of our own, one for each hold: for connections through a pooler that gives transactions to servers.
    Transaction,
}

/// A PostgreSQL database, and how its locks are used.
///
/// ```
/// use pilotman_postgres::{Postgres, TlsMode};
///
/// # fn main() -> pilotman_core::Result<()> {
/// let postgres = Postgres::hosts(["db1.example:5432", "db2.example"])?.user("app").password("s3cret").database("shop");
/// let postgres = postgres.tls(TlsMode::VerifyFull);
/// # let _ = postgres;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Postgres {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<String>,
    pub(crate) application_name: String,
    pub(crate) tls: TlsMode,
    pub(crate) ca: Option<Arc<[u8]>>,
    pub(crate) client_certificate: Option<(Arc<[u8]>, Secret)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) scope: Scope,
    pub(crate) trusts_pooler: bool,
    pub(crate) names: NameRule,
    pub(crate) token_sequence: String,
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
    /// The directory of its socket, and the port that the socket's name ends with.
    Unix(String, u16),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(directory, port) => write!(f, "{directory}/.s.PGSQL.{port}"),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            // What stands there may be anything, also a password in the wrong place.
            Error::misconfigured(format!("a PostgreSQL host {why}"))
                .with_advice("write it as in db.example, db.example:5432, [::1]:5432, or as the directory of a socket")
        };
        let port = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(bad("has a port that is no port")),
            Ok(port) => Ok(port),
        };
        if text.starts_with('/') {
            return match text.rsplit_once(':') {
                Some((directory, number)) => Ok(Self::Unix(directory.to_owned(), port(number)?)),
                None => Ok(Self::Unix(text.to_owned(), PORT)),
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

impl Postgres {
    /// The server of this host: `db.example`, `db.example:5432`, `[::1]:5432`, or the directory of a Unix socket.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no host.
    pub fn host(host: impl AsRef<str>) -> Result<Self> {
        Self::hosts([host])
    }

    /// Several servers of which one is the primary: each is tried in turn, and those that take no writes are passed over.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if there is none, or one is no host.
    pub fn hosts(hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let hosts = hosts.into_iter().map(|host| Host::parse(host.as_ref())).collect::<Result<Vec<_>>>()?;
        if hosts.is_empty() {
            return Err(Error::misconfigured("no PostgreSQL host is given"));
        }
        Ok(Self {
            hosts,
            user: None,
            password: None,
            database: None,
            application_name: "pilotman".to_owned(),
            tls: TlsMode::default(),
            ca: None,
            client_certificate: None,
            connect_timeout: Duration::from_secs(5),
            scope: Scope::default(),
            trusts_pooler: false,
            names: NameRule::default(),
            token_sequence: "public.pilotman_fencing_token".to_owned(),
            sessions: SessionOptions::default(),
        })
    }

    /// The role. Default: the name of the operating system's user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password. Default: none.
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(Secret(password.as_ref().into()));
        self
    }

    /// The database. Locks of different databases have nothing to do with each other. Default: the one named as the role.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// What `pg_stat_activity` calls the sessions. Default: `pilotman`.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Whether connections are encrypted. Default: [`TlsMode::Prefer`].
    pub fn tls(mut self, mode: TlsMode) -> Self {
        self.tls = mode;
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

    /// What a hold lives on. Default: [`Scope::Session`].
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Says that what stands between here and the server gives each connection a server session of its own, as PgBouncer does
    /// with `pool_mode=session`. Without it [`Scope::Session`] is refused wherever something stands between.
    pub fn trust_pooler(mut self, trust: bool) -> Self {
        self.trusts_pooler = trust;
        self
    }

    /// How names become keys. Default: [`NameRule::DotNet`].
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// The sequence that fencing tokens come from, `name` or `schema.name`. It is made when the first token is asked for.
    /// All who lock the same names must use the same one. Default: `public.pilotman_fencing_token`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of a sequence.
    pub fn token_sequence(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_part = |part: &str| !part.is_empty() && part.len() < 64 && !part.contains(['\0', '"', '\\']);
        match name.split('.').count() <= 2 && name.split('.').all(is_part) {
            true => {
                self.token_sequence = name;
                Ok(self)
            }
            false => Err(Error::misconfigured("this is no name of a sequence")
                .with_advice("write it as in public.pilotman_fencing_token or app.fencing_token")),
        }
    }

    /// How many sessions there are, and how they are kept.
    pub fn sessions(mut self, options: SessionOptions) -> Self {
        self.sessions = options;
        self
    }

    /// The sequence as it is written in SQL.
    pub(crate) fn quoted_sequence(&self) -> String {
        let parts: Vec<_> = self.token_sequence.split('.').map(|part| format!("\"{part}\"")).collect();
        parts.join(".")
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("password", &self.password)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("scope", &self.scope)
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
            ("h", tcp("h", 5432)),
            ("h:1", tcp("h", 1)),
            ("[::1]:7", tcp("::1", 7)),
            ("::1", tcp("::1", 5432)),
            ("/run/pg", Host::Unix("/run/pg".into(), 5432)),
            ("/run/pg:6", Host::Unix("/run/pg".into(), 6)),
        ] {
            assert_eq!(Host::parse(text).unwrap(), host, "{text}");
        }
        for bad in ["", ":1", "h:", "h:x", "h:0", "h:70000", "[::1]x", "u@h", "a b", "h/db"] {
            let error = Host::parse(bad).unwrap_err();
            assert!(error.to_string().contains("write it as in"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let postgres = Postgres::host("h").unwrap().password("hunter2");
        assert!(!format!("{postgres:?}").contains("hunter2"));
    }

    #[test]
    fn a_sequence_is_quoted_and_nothing_else() {
        let named = |name: &str| Postgres::host("h").unwrap().token_sequence(name);
        assert_eq!(named("a.B c").unwrap().quoted_sequence(), "\"a\".\"B c\"");
        for bad in ["", "a.", "a.b.c", "a\"b", "a\0", "a\\b"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
