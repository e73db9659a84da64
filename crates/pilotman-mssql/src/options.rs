//! Which server, and how its locks are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::{Error, NameRule, Result};
use pilotman_session::SessionOptions;

use crate::names::Naming;

/// The port of SQL Server.
const PORT: u16 = 1433;
/// The longest part of the name of a sequence, in characters.
const LONGEST_NAME: usize = 128;

/// Which server, and how its locks are used.
///
/// ```
/// # fn main() -> pilotman_core::Result<()> {
/// use pilotman_mssql::{MsSql, TlsMode};
///
/// let mssql = MsSql::host("db.example")?.login("app", "…").database("shop").tls(TlsMode::VerifyFull);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MsSql {
    pub(crate) host: Host,
    pub(crate) login: Login,
    pub(crate) database: Option<String>,
    pub(crate) application_name: String,
    pub(crate) tls: TlsMode,
    pub(crate) tls_name: Option<String>,
    pub(crate) ca: Option<Arc<[u8]>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) naming: Naming,
    pub(crate) token_sequence: String,
    pub(crate) sessions: SessionOptions,
}

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TlsMode {
    /// Not at all, the password included: for a server on the same machine.
    Disable,
    /// Only while logging in, to whatever server answers, where the server doesn't demand more.
    LoginOnly,
    /// Always, and to whatever server answers, unless a [certificate authority](MsSql::ca) is given: then its certificate must
    /// be one of those, for the host that is connected to.
    Require,
    /// Always, to a server with a certificate that is trusted and for the host that is connected to. The default, as that of
    /// Microsoft's drivers.
    #[default]
    VerifyFull,
    /// As [`Self::VerifyFull`], from the first byte on (TDS 8, SQL Server 2022 and later).
    Strict,
}

/// What no log may show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

type TokenSource = Arc<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>;

/// Who logs in, and how.
#[derive(Clone, Default)]
pub(crate) enum Login {
    #[default]
    Missing,
    /// By the server's own passwords.
    Password(String, Secret),
    /// By a token of Microsoft Entra.
    Token(TokenSource),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("none"),
            Self::Password(user, password) => f.debug_tuple("Password").field(user).field(password).finish(),
            Self::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// `None`: the usual one, or that of the instance.
    pub(crate) port: Option<u16>,
    /// Its port is asked of the SQL Server Browser, unless there is a port.
    pub(crate) instance: Option<String>,
}

impl Host {
    pub(crate) fn new(name: &str, port: Option<u16>, instance: Option<&str>) -> Result<Self> {
        let bad = |why: &str| {
            // What stands there may be anything, also a password in the wrong place.
            Error::misconfigured(format!("a SQL Server host {why}"))
                .with_advice(r"write it as in db.example, db.example:1433, [::1]:1433 or db.example\INSTANCE")
        };
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#,;\\".contains(c);
        if name.is_empty() || name.contains(is_odd) {
            return Err(bad("has no name that a host can have"));
        }
        if instance.is_some_and(|instance| instance.is_empty() || instance.len() > 255 || instance.contains(is_odd)) {
            return Err(bad("has no name that an instance can have"));
        }
        if port == Some(0) {
            return Err(bad("has a port that is no port"));
        }
        Ok(Self { name: name.to_owned(), port, instance: instance.map(str::to_owned) })
    }

    fn parse(text: &str) -> Result<Self> {
        let (text, instance) = match text.split_once('\\') {
            Some((host, instance)) => (host, Some(instance)),
            None => (text, None),
        };
        // The port stands behind the instance.
        let (instance, behind) = match instance.and_then(|instance| instance.split_once(':')) {
            Some((instance, port)) => (Some(instance), Some(port)),
            None => (instance, None),
        };
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("x"))),
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        // What is no port is none that can be had.
        let port = behind.or(port).map(|port| port.parse().unwrap_or(0));
        Self::new(host, port, instance)
    }

    /// The port to connect to, where it is known.
    pub(crate) fn known_port(&self) -> Option<u16> {
        self.port.or(self.instance.is_none().then_some(PORT))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]", self.name)?,
            false => f.write_str(&self.name)?,
        }
        if let Some(instance) = &self.instance {
            write!(f, "\\{instance}")?;
        }
        match self.known_port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl MsSql {
    /// The server of this host: `db.example`, `db.example:1433`, `[::1]:1433`, `db.example\INSTANCE`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is no host.
    pub fn host(host: impl AsRef<str>) -> Result<Self> {
        Ok(Self::at(Host::parse(host.as_ref())?))
    }

    /// The server of an [ADO.NET connection string](crate#connection-strings), such as
    /// `Server=tcp:db.example,1433;Database=shop;User ID=app;Password=…`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is none, has a keyword that is not known here, or asks for what is not to be had.
    pub fn ado(text: impl AsRef<str>) -> Result<Self> {
        crate::ado::read(text.as_ref())
    }

    pub(crate) fn at(host: Host) -> Self {
        Self {
            host,
            login: Login::default(),
            database: None,
            application_name: "pilotman".to_owned(),
            tls: TlsMode::default(),
            tls_name: None,
            ca: None,
            connect_timeout: Duration::from_secs(5),
            naming: Naming { rule: NameRule::default(), prefix: String::new(), dotnet_rw: false },
            token_sequence: "dbo.pilotman_fencing_token".to_owned(),
            sessions: SessionOptions::default(),
        }
    }

    /// A login of SQL Server's own and its password. Default: none, with which nothing can be connected.
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::Password(user.into(), Secret(password.into()));
        self
    }

    /// A token of Microsoft Entra (Azure Active Directory) for `https://database.windows.net/`, instead of a password. It serves
    /// as long as it is valid, for each session that is opened; [`Self::entra_token_from`] gets new ones.
    pub fn entra_token(self, token: impl Into<String>) -> Self {
        let token = Secret(token.into());
        self.entra_token_from(move || {
            let token = token.clone();
            Box::pin(async move { Ok(token.0) })
        })
    }

    /// Where tokens of Microsoft Entra come from: asked for one for each session that is opened.
    pub fn entra_token_from(
        mut self,
        source: impl Fn() -> BoxFuture<'static, Result<String>> + Send + Sync + 'static,
    ) -> Self {
        self.login = Login::Token(Arc::new(source));
        self
    }

    /// The database. Locks belong to a database: those of another one have nothing to do with them. Default: the login's own.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// What the server calls our sessions (`program_name`). Default: `pilotman`.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// How connections are encrypted. Default: [`TlsMode::VerifyFull`].
    pub fn tls(mut self, mode: TlsMode) -> Self {
        self.tls = mode;
        self
    }

    /// The name that the server's certificate must be for. Default: the host's.
    pub fn tls_name(mut self, name: impl Into<String>) -> Self {
        self.tls_name = Some(name.into());
        self
    }

    /// Certificate authorities in PEM, beside the system's.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(pem.as_ref().into());
        self
    }

    /// How long connecting may take, TLS and log-in included. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How names become resources of the server. Default: [`NameRule::DotNet`].
    pub fn names(mut self, rule: NameRule) -> Self {
        self.naming.rule = rule;
        self
    }

    /// What all names begin with before they are mapped. Default: nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.naming.prefix = prefix.into();
        self
    }

    /// Has reader-writer locks where the .NET library has them. There a mutex and a reader-writer lock of one name are the same
    /// lock. Default: no, so that they don't disturb each other.
    pub fn dotnet_rw(mut self, shared: bool) -> Self {
        self.naming.dotnet_rw = shared;
        self
    }

    /// The sequence that fencing tokens come from, `sequence` or `schema.sequence`. It is made when the first token is asked for.
    /// Default: `dbo.pilotman_fencing_token`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of a sequence.
    pub fn token_sequence(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_$-".contains(c);
        let is_part = |part: &str| !part.is_empty() && part.len() <= LONGEST_NAME && part.chars().all(is_plain);
        match name.split('.').count() <= 2 && name.split('.').all(is_part) {
            true => {
                self.token_sequence = name;
                Ok(self)
            }
            false => Err(Error::misconfigured("this is no name of a sequence").with_advice(
                "write it as in pilotman_fencing_token or app.fencing_token, with letters and digits only",
            )),
        }
    }

    /// How many sessions there are, and how they are kept.
    pub fn sessions(mut self, options: SessionOptions) -> Self {
        self.sessions = options;
        self
    }

    /// The sequence as it is written in SQL.
    pub(crate) fn quoted_sequence(&self) -> String {
        let parts: Vec<_> = self.token_sequence.split('.').map(|part| format!("[{part}]")).collect();
        parts.join(".")
    }
}

impl fmt::Debug for MsSql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsSql")
            .field("host", &self.host)
            .field("login", &self.login)
            .field("database", &self.database)
            .field("application_name", &self.application_name)
            .field("tls", &self.tls)
            .field("tls_name", &self.tls_name)
            .field("connect_timeout", &self.connect_timeout)
            .field("naming", &self.naming)
            .field("token_sequence", &self.token_sequence)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        for (text, name, port, instance, shown) in [
            ("h", "h", None, None, "h:1433"),
            ("h:1", "h", Some(1), None, "h:1"),
            ("[::1]:7", "::1", Some(7), None, "[::1]:7"),
            ("::1", "::1", None, None, "[::1]:1433"),
            (r"h\I", "h", None, Some("I"), r"h\I"),
            (r"h\I:9", "h", Some(9), Some("I"), r"h\I:9"),
        ] {
            let host = Host::parse(text).unwrap();
            assert_eq!(host, Host::new(name, port, instance).unwrap(), "{text}");
            assert_eq!(host.to_string(), shown);
        }
        for bad in ["", ":1", "h:", "h:x", "h:0", "h:70000", "[::1]x", "u@h", "a b", "h/db", "h\\", "h\\a b", "a,1"] {
            let error = Host::parse(bad).unwrap_err();
            assert!(error.to_string().contains("write it as in"), "{bad}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mssql = MsSql::host("h").unwrap();
        for mssql in [mssql.clone().login("u", "hunter2"), mssql.entra_token("hunter2")] {
            assert!(!format!("{mssql:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_sequence_is_quoted_and_nothing_else() {
        let named = |name: &str| MsSql::host("h").unwrap().token_sequence(name);
        assert_eq!(named("a.b-c").unwrap().quoted_sequence(), "[a].[b-c]");
        for bad in ["", "a.", "a.b.c", "a]b", "a\0", "ä", "a b"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
