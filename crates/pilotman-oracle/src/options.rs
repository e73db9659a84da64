//! Where the database is, and how its locks are used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, NameRule, Result};
use pilotman_session::SessionOptions;

/// How a connect string is written.
pub(crate) const HOW: &str = "write it as in db.example:1521/SERVICE, tcps://db.example:2484/SERVICE, (DESCRIPTION=…), or as an \
                              alias of a tnsnames.ora";
/// The shortest heartbeat: a wait is asked after once in a slice of a second, and has to be answered in time.
pub(crate) const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(2);
/// The longest name of a sequence, and of its owner, that all versions take.
const LONGEST_SEQUENCE: usize = 30;

/// An Oracle Database, and how its locks are used.
///
/// ```
/// use pilotman_oracle::Oracle;
///
/// # fn main() -> pilotman_core::Result<()> {
/// let oracle = Oracle::new("db.example:1521/SHOP")?.user("app").password("s3cret");
/// let oracle = oracle.token_sequence("APP.LOCK_TOKEN")?;
/// # let _ = oracle;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Oracle {
    pub(crate) connect_string: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) wallet: Option<String>,
    pub(crate) wallet_password: Option<Secret>,
    pub(crate) application_name: String,
    pub(crate) client_library: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) names: NameRule,
    pub(crate) prefix: String,
    pub(crate) dotnet_rw: bool,
    pub(crate) token_sequence: String,
    pub(crate) sessions: SessionOptions,
}

/// What no log may show.
#[derive(Clone)]
pub(crate) struct Secret(
    #[cfg_attr(not(any(feature = "odpi", feature = "thin")), allow(dead_code))] pub(crate) Arc<str>,
);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Oracle {
    /// The database of this connect string: `host:port/service` (Easy Connect, also `tcps://host:port/service`), a whole descriptor
    /// `(DESCRIPTION=…)`, or an alias of a `tnsnames.ora` in the directory that `TNS_ADMIN` names. It has neither user nor password.
    /// `Debug` doesn't show it.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is empty, has control characters, seems to have a password in it, asks for a failover that would go on
    /// with another session as if nothing had happened (`FAILOVER_MODE`), or for a pooled server (`SERVER=POOLED`, `:pooled`). The
    /// error doesn't quote it.
    pub fn new(connect_string: impl Into<String>) -> Result<Self> {
        let connect_string = connect_string.into();
        let bad = |why: &str| Error::misconfigured(format!("the connect string {why}")).with_advice(HOW);
        let signs = connect_string.chars().filter(|c| !c.is_whitespace());
        let upper = signs.map(|c| c.to_ascii_uppercase()).collect::<String>();
        if upper.is_empty() {
            return Err(bad("is empty"));
        }
        if connect_string.contains(|c: char| c.is_control()) {
            return Err(bad("has control characters"));
        }
        // A descriptor may have the sign in it; what stands before one is a user and his password, as tools take them.
        if connect_string.contains('@') && !upper.starts_with('(') {
            return Err(bad("has an @ in it: user and password are options of their own"));
        }
        if upper.contains("FAILOVER_MODE") {
            return Err(Error::misconfigured("the connect string asks for transparent failover (FAILOVER_MODE)")
                .with_advice(
                    "take that out: after a failover the session is another one, and its locks are gone without a word",
                ));
        }
        if upper.contains("SERVER=POOLED") || upper.contains(":POOLED") {
            return Err(Error::misconfigured("the connect string asks for a pooled server (DRCP)").with_advice(
                "use a dedicated server: a session of a pool may go to another client, or end, and its locks with it",
            ));
        }
        Ok(Self {
            connect_string,
            user: None,
            password: None,
            wallet: None,
            wallet_password: None,
            application_name: "pilotman".to_owned(),
            client_library: cfg!(not(feature = "thin")),
            connect_timeout: Duration::from_secs(5),
            names: NameRule::default(),
            prefix: String::new(),
            dotnet_rw: false,
            token_sequence: "\"PILOTMAN_FENCING_TOKEN\"".to_owned(),
            sessions: SessionOptions::default(),
        })
    }

    /// The connect string, as it was given.
    pub fn connect_string(&self) -> &str {
        &self.connect_string
    }

    /// The user. Default: none, which only the client library can do (authentication by the operating system or a wallet).
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password. Default: none.
    pub fn password(mut self, password: impl AsRef<str>) -> Self {
        self.password = Some(Secret(password.as_ref().into()));
        self
    }

    /// The directory of a wallet (`ewallet.pem`), for connections with TLS: its certificate authorities, and the certificate of the
    /// client if it has one. Default: none; the authorities are those of the web then. The client library finds its own wallet.
    pub fn wallet(mut self, directory: impl Into<String>) -> Self {
        self.wallet = Some(directory.into());
        self
    }

    /// The password of the wallet. Default: none.
    pub fn wallet_password(mut self, password: impl AsRef<str>) -> Self {
        self.wallet_password = Some(Secret(password.as_ref().into()));
        self
    }

    /// What the database calls our sessions (`MODULE` in `V$SESSION`, 48 bytes of it). Default: `pilotman`.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// Uses Oracle's client library (feature `odpi`) instead of the driver in Rust. Default: `false`, where the latter is built in
    /// (feature `thin`).
    pub fn client_library(mut self, uses: bool) -> Self {
        self.client_library = uses;
        self
    }

    /// How long connecting may take, log-in included. Default: 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How names become names of `DBMS_LOCK`. Default: [`NameRule::DotNet`].
    pub fn names(mut self, rule: NameRule) -> Self {
        self.names = rule;
        self
    }

    /// What all names begin with before they are mapped: locks are common to all users of a database. Default: nothing.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Gives reader-writer locks the names that the .NET library gives them, so that they exclude those of .NET. There a mutex and a
    /// reader-writer lock of one name are one lock, and exclude each other. Default: `false`.
    pub fn dotnet_rw(mut self, same: bool) -> Self {
        self.dotnet_rw = same;
        self
    }

    /// The sequence that fencing tokens come from, `SEQUENCE` or `OWNER.SEQUENCE`, in upper case as the database keeps it unless it
    /// was quoted. It is made when the first token is asked for. Tokens are in order only among those who use one sequence: where
    /// several users take the same locks, name one with its owner. Default: `PILOTMAN_FENCING_TOKEN` of the user, so one for each
    /// schema.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if that is no name of a sequence.
    pub fn token_sequence(mut self, name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_$#".contains(c);
        let is_part = |part: &str| !part.is_empty() && part.len() <= LONGEST_SEQUENCE && part.chars().all(is_plain);
        match name.split('.').count() <= 2 && name.split('.').all(is_part) {
            true => {
                let parts: Vec<_> = name.split('.').map(|part| format!("\"{part}\"")).collect();
                self.token_sequence = parts.join(".");
                Ok(self)
            }
            false => Err(Error::misconfigured("this is no name of a sequence")
                .with_advice("write it as in LOCK_TOKEN or APP.LOCK_TOKEN, with letters, digits, _, $ and # only")),
        }
    }

    /// How many sessions there are, and how they are kept. A session with holds is asked four times a second whether it is there,
    /// whatever the heartbeat, which is 2 s at least. Each session has a thread.
    pub fn sessions(mut self, options: SessionOptions) -> Self {
        self.sessions = options;
        self
    }

    /// The application's name as a network name: others than these signs are not taken there.
    #[cfg(feature = "thin")]
    pub(crate) fn program(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        self.application_name.chars().take(48).map(plain).collect()
    }
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle")
            // Whoever has put a password into it, in whatever way, doesn't want to see it in a log.
            .field("connect_string", &format_args!("…"))
            .field("user", &self.user)
            .field("password", &self.password)
            .field("wallet", &self.wallet)
            .field("names", &self.names)
            .field("dotnet_rw", &self.dotnet_rw)
            .field("token_sequence", &self.token_sequence)
            .field("client_library", &self.client_library)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_are_taken_or_refused() {
        for good in [
            "h/S",
            "h:1521/S",
            "h:1521/S:dedicated",
            "tcps://h:2484/S",
            "(DESCRIPTION=(ADDRESS=(PROTOCOL=TCP)(HOST=h)(PORT=1)))",
            " (DESCRIPTION=(SECURITY=(SSL_SERVER_CERT_DN=\"CN=h,EMAIL=a@b\")))",
            "ALIAS",
        ] {
            assert!(Oracle::new(good).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("", "empty"),
            (" ", "empty"),
            ("h/\u{1}", "control"),
            ("scott/tiger@h/S", "options of their own"),
            ("scott/tiger@(DESCRIPTION=(ADDRESS=(HOST=h)))", "options of their own"),
            ("scott/ti(ger@h/S", "options of their own"),
            ("(DESCRIPTION=(CONNECT_DATA=(SERVER = pooled)(SERVICE_NAME=S)))", "pooled server"),
            ("h:1521/S:pooled", "pooled server"),
            ("h/S:POOLED/INSTANCE", "pooled server"),
            ("(DESCRIPTION=(CONNECT_DATA=(failover_mode=(TYPE=select))))", "transparent failover"),
        ] {
            let error = Oracle::new(bad).unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(error.contains(says), "{bad}: {error}");
            assert!(!error.contains("tiger") && !error.contains("ti(ger"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let oracle = Oracle::new("h/S").unwrap().password("hunter2").wallet_password("hunter3");
        assert!(!format!("{oracle:?}").contains("hunter"));
        // Two words may be a host and a service, or what they should not be.
        assert!(!format!("{:?}", Oracle::new("scott/tiger").unwrap()).contains("tiger"));
    }

    #[test]
    fn a_sequence_is_quoted_and_nothing_else() {
        let named = |name: &str| Oracle::new("h/S").unwrap().token_sequence(name);
        assert_eq!(named("A.B_c").unwrap().token_sequence, "\"A\".\"B_c\"");
        for bad in ["", "A.", "A.B.C", "A\"B", "A\0", "ä", "A B", "A-B", &"x".repeat(31)] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
