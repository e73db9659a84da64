//! Opens sessions.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts};
use pilotman_core::backend::{BoxFuture, Environment};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};
use pilotman_session::Driver;

use crate::calm::calmly;
use crate::failure;
use crate::options::{Host, MySql, TlsMode};
use crate::session::MySqlSession;
use crate::statements::{is_on, number, text};
use crate::tls;

/// No time-out of the server may end a session or a wait of ours. 24 days is the longest that all platforms of the server take.
const SETTINGS: &str = "SET SESSION wait_timeout=2147483, SESSION interactive_timeout=2147483, SESSION autocommit=1";
const IDENTITY: &str = "SELECT CONNECTION_ID(), VERSION(), @@global.read_only, @@global.innodb_read_only, \
                        (SELECT HOST FROM information_schema.PROCESSLIST WHERE ID=CONNECTION_ID())";
/// What the driver sends and takes at most in one piece. Its own default is to ask the server.
const PACKET: usize = 16 << 20;

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct MySqlDriver(pub(crate) Arc<Connector>);

/// What sessions have in common.
pub(crate) struct Connector {
    pub(crate) mysql: MySql,
    pub(crate) environment: OnceLock<Environment>,
    tls: OnceLock<Option<SslOpts>>,
}

/// What a session is known by.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its number, which the server gives again only after a restart.
    pub(crate) id: u64,
    /// Where its client is, with the client's port where there is one: so a number that came again is told from it.
    pub(crate) client: String,
    pub(crate) is_mariadb: bool,
}

impl fmt::Debug for MySqlDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.mysql.fmt(f)
    }
}

impl Driver for MySqlDriver {
    type Session = MySqlSession;

    fn connect(&self) -> BoxFuture<'_, Result<MySqlSession>> {
        Box::pin(self.0.any_host())
    }
}

impl Connector {
    pub(crate) fn new(mysql: MySql) -> Self {
        Self { mysql, environment: OnceLock::new(), tls: OnceLock::new() }
    }

    pub(crate) fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    /// Gives up after this time.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
        late: impl FnOnce() -> Error,
    ) -> Result<T> {
        let timer = Sleep::new(self.environment()?.clock.clone(), limit);
        tokio::select! {
            biased;
            done = work => done,
            () = timer => Err(late()),
        }
    }

    /// The first host that has what is needed.
    async fn any_host(self: &Arc<Self>) -> Result<MySqlSession> {
        let mut first = None;
        for host in &self.mysql.hosts {
            let limit = self.mysql.connect_timeout;
            let late = || {
                Error::unavailable(format!("{host} did not begin a session within {limit:?}"))
                    .with_advice("see whether the host can be reached and its server answers")
                    .no_effect(true)
            };
            match self.within(limit, self.begin(host), late).await {
                Ok(session) => return Ok(session),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::misconfigured("no MySQL host is given")))
    }

    fn tls(&self) -> Result<Option<SslOpts>> {
        if let Some(known) = self.tls.get() {
            return Ok(known.clone());
        }
        let options = tls::options(&self.mysql)?;
        Ok(self.tls.get_or_init(|| options).clone())
    }

    fn options(&self, host: &Host, tls: Option<SslOpts>) -> Opts {
        let mysql = &self.mysql;
        let password = mysql.password.as_ref().map(|secret| String::from_utf8_lossy(&secret.0).into_owned());
        let builder = OptsBuilder::default()
            .user(Some(mysql.user_name()))
            .pass(password)
            .db_name(mysql.database.clone())
            .connect_attribute("program_name", mysql.application_name.clone())
            .prefer_socket(false)
            .stmt_cache_size(0)
            .tcp_keepalive(Some(Duration::from_secs(10)))
            .max_allowed_packet(Some(PACKET))
            .wait_timeout(Some(2_147_483));
        match host {
            Host::Tcp(host, port) => builder.ip_or_hostname(host.clone()).tcp_port(*port).ssl_opts(tls),
            Host::Unix(path) => builder.socket(Some(path.clone())),
        }
        .into()
    }

    /// A connection that can be asked something, whatever its server is.
    pub(crate) async fn log_in(&self, host: &Host) -> Result<Conn> {
        let tls = match host {
            Host::Tcp(..) => self.tls()?,
            Host::Unix(_) => None,
        };
        let offers = tls.is_some() && self.mysql.tls == TlsMode::Prefer;
        let connected = match calmly(Conn::new(self.options(host, tls))).await {
            Err(error) if offers && failure::has_no_tls(&error) => calmly(Conn::new(self.options(host, None))).await,
            connected => connected,
        };
        connected.map_err(|error| failure::of_connecting(&host.to_string(), &self.mysql.user_name(), error))
    }

    async fn begin(self: &Arc<Self>, host: &Host) -> Result<MySqlSession> {
        let mut conn = self.log_in(host).await?;
        let failed = |error| failure::of_connecting(&host.to_string(), &self.mysql.user_name(), error);
        let row: Option<Row> = calmly(conn.query_first(IDENTITY)).await.map_err(failed)?;
        let strange = || {
            Error::misconfigured(format!("{host} answers like no MySQL or MariaDB"))
                .with_advice("see whether the port is the right one")
                .no_effect(true)
        };
        let row = row.ok_or_else(strange)?;
        let (id, version) = (number(&row, 0).ok_or_else(strange)?, text(&row, 1).ok_or_else(strange)?);
        let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
        self.refuse_old(host, &version, is_mariadb)?;
        if is_on(&row, 2) || is_on(&row, 3) {
            return Err(failure::is_read_only(&host.to_string()));
        }
        // The first message of a server has but 32 bits of its number.
        if !self.mysql.trusts_proxy && (id & u64::from(u32::MAX)) != u64::from(conn.id()) {
            return Err(Error::misconfigured(format!(
                "a proxy stands before {host}: it may give a session's locks to others"
            ))
            .with_advice(
                "connect to the server itself; if the proxy gives each connection a session of its own at one and the \
                     same server, say so (proxy=session)",
            )
            .no_effect(true));
        }
        let unlimited = if is_mariadb { "max_statement_time=0" } else { "max_execution_time=0" };
        // Whoever has locked the table of the tokens makes an error of it, before the heartbeat makes a loss of all holds.
        let patience = (self.mysql.sessions.heartbeat / 2).as_secs().max(1);
        let patience = format!("SESSION lock_wait_timeout={patience}, SESSION innodb_lock_wait_timeout={patience}");
        calmly(conn.query_drop(format!("{SETTINGS}, SESSION {unlimited}, {patience}"))).await.map_err(failed)?;
        let identity = Identity { id, client: text(&row, 4).unwrap_or_default(), is_mariadb };
        Ok(MySqlSession::new(self.clone(), host.clone(), conn, identity))
    }

    /// Before these, a second `GET_LOCK` released the first.
    fn refuse_old(&self, host: &Host, version: &str, is_mariadb: bool) -> Result<()> {
        let needed = if is_mariadb { [10, 0, 2] } else { [5, 7, 5] };
        if parsed(version) >= needed {
            return Ok(());
        }
        let [major, minor, patch] = needed;
        Err(Error::misconfigured(format!("{host} has a version that is too old to hold several locks in a session"))
            .with_advice(format!("it must be {major}.{minor}.{patch} or newer"))
            .no_effect(true))
    }
}

/// The numbers that a version begins with; some servers put `5.5.5-` before it for old clients.
fn parsed(version: &str) -> [u32; 3] {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parsed("9.7.4"), [9, 7, 4]);
        assert_eq!(parsed("10.11.19-MariaDB-0+deb12u1"), [10, 11, 19]);
        assert_eq!(parsed("5.5.5-10.4.1-MariaDB"), [10, 4, 1]);
        assert_eq!(parsed("8.0"), [8, 0, 0]);
        assert_eq!(parsed("x"), [0, 0, 0]);
    }

    #[test]
    fn servers_that_release_the_first_lock_are_refused() {
        let connector = Connector::new(MySql::host("h").unwrap());
        let host = Host::Tcp("h".into(), 1);
        for (version, is_mariadb, fine) in [
            ("5.7.4", false, false),
            ("5.7.5", false, true),
            ("9.7.4", false, true),
            ("10.0.1-MariaDB", true, false),
            ("10.0.2-MariaDB", true, true),
        ] {
            assert_eq!(connector.refuse_old(&host, version, is_mariadb).is_ok(), fine, "{version}");
        }
    }
}
