//! Opens sessions.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::select_ok;
use pilotman_core::backend::{BoxFuture, Environment};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};
use pilotman_session::Driver;
use tiberius::{AuthMethod, Config, EncryptionLevel, SqlBrowser};
use tokio::net::{TcpStream, lookup_host};

use crate::driver::{Client, Row};
use crate::failure::{self, Failure};
use crate::options::{Login, MsSql, TlsMode};
use crate::session::MsSqlSession;
use crate::statements::IDENTITY;
use crate::wire::{self, Tiberius};

/// So often a server may send its clients on to another.
const MOST_ROUTES: usize = 3;
/// The operating system counts in seconds how long a connection was idle.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct MsSqlDriver(pub(crate) Arc<Connector>);

/// What sessions have in common.
pub(crate) struct Connector {
    pub(crate) mssql: MsSql,
    pub(crate) environment: OnceLock<Environment>,
    /// The sequence of the fencing tokens is there, and fit for them.
    pub(crate) has_sequence: AtomicBool,
    /// A session was begun.
    was_there: AtomicBool,
}

/// What a session is known by.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its number, which the server gives to others as soon as it has ended.
    pub(crate) id: i32,
    pub(crate) database: String,
    pub(crate) edition: i64,
    pub(crate) version: String,
}

impl fmt::Debug for MsSqlDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.mssql.fmt(f)
    }
}

impl Driver for MsSqlDriver {
    type Session = MsSqlSession;

    fn connect(&self) -> BoxFuture<'_, Result<MsSqlSession>> {
        Box::pin(async {
            let (host, limit) = (&self.0.mssql.host, self.0.mssql.connect_timeout);
            let late = || {
                Error::unavailable(format!("{host} did not begin a session within {limit:?}"))
                    .with_advice("see whether the host can be reached and its server answers")
                    .no_effect(true)
            };
            self.0.within(limit, self.0.begin(), late).await
        })
    }
}

impl Connector {
    pub(crate) fn new(mssql: MsSql) -> Self {
        Self { mssql, environment: OnceLock::new(), has_sequence: false.into(), was_there: false.into() }
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

    async fn config(&self, route: Option<&(String, u16)>) -> Result<Config> {
        let mssql = &self.mssql;
        let mut config = Config::new();
        let (host, port) = match route {
            Some((host, port)) => (host.as_str(), Some(*port)),
            None => (mssql.host.name.as_str(), mssql.host.known_port()),
        };
        config.host(host);
        match port {
            Some(port) => config.port(port),
            None => config.instance_name(mssql.host.instance.as_deref().unwrap_or_default()),
        }
        if let Some(database) = &mssql.database {
            config.database(database);
        }
        config.application_name(&mssql.application_name);
        // The server's views cut resources, maybe in the middle of a pair.
        config.lossy_utf16_decoding(true);
        // Both are bounded here: a wait for a lock must not be.
        config.command_timeout(None);
        config.handshake_timeout(None);
        config.authentication(match &mssql.login {
            Login::Missing => {
                return Err(Error::misconfigured("no login is given for SQL Server")
                    .with_advice("name user and password, or a token of Microsoft Entra")
                    .no_effect(true));
            }
            Login::Password(user, password) => AuthMethod::sql_server(user, &password.0),
            Login::Token(source) => AuthMethod::aad_token(source().await?),
        });
        let (level, looks) = match mssql.tls {
            TlsMode::Disable => (EncryptionLevel::NotSupported, false),
            TlsMode::LoginOnly => (EncryptionLevel::Off, mssql.ca.is_some()),
            TlsMode::Require => (EncryptionLevel::Required, mssql.ca.is_some()),
            TlsMode::VerifyFull => (EncryptionLevel::Required, true),
            TlsMode::Strict => (EncryptionLevel::Strict, true),
        };
        config.encryption(level);
        match (&mssql.ca, looks) {
            (_, false) => config.trust_cert(),
            (Some(ca), true) => config.trust_cert_ca_bundle(ca.to_vec()),
            (None, true) => {}
        }
        if let Some(name) = &mssql.tls_name {
            config.hostname_in_certificate(name);
        }
        Ok(config)
    }

    /// A connection to one of the host's addresses: of an availability group's listener only one answers.
    async fn stream(&self, config: &Config, route: Option<&(String, u16)>) -> std::io::Result<TcpStream> {
        let host = &self.mssql.host;
        let (name, port) = match (route, host.known_port()) {
            (Some((name, port)), _) => (name.as_str(), *port),
            (None, Some(port)) => (host.name.as_str(), port),
            (None, None) => {
                return TcpStream::connect_named(config)
                    .await
                    .map_err(|error| std::io::Error::other(error.to_string()));
            }
        };
        let attempts: Vec<_> = lookup_host((name, port)).await?.map(|at| Box::pin(TcpStream::connect(at))).collect();
        if attempts.is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address"));
        }
        select_ok(attempts).await.map(|(stream, _)| stream)
    }

    /// Logs in, wherever the server sends us.
    async fn log_in(&self) -> Result<Tiberius> {
        let host = self.mssql.host.to_string();
        let unreachable = |error: std::io::Error| {
            Error::unavailable(format!("{host} can't be reached"))
                .with_source(error)
                .with_advice("see whether host and port are right, and whether its server is up")
                .no_effect(true)
        };
        let mut route = None;
        for _ in 0..=MOST_ROUTES {
            let config = self.config(route.as_ref()).await?;
            let stream = self.stream(&config, route.as_ref()).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            let beat = self.mssql.sessions.heartbeat;
            keep_alive(&stream, beat).map_err(unreachable)?;
            match wire::log_in(config, stream, self.environment()?.clock.clone(), beat).await {
                Ok(client) => return Ok(client),
                Err(Failure::Routed(host, port)) => route = Some((host, port)),
                Err(failure) => return Err(self.refused(failure)),
            }
        }
        Err(self.refused(Failure::Routed(String::new(), 0)))
    }

    fn refused(&self, failure: Failure) -> Error {
        failure::of_connecting(&self.mssql.host.to_string(), failure, self.was_there.load(Ordering::Acquire))
    }

    async fn begin(self: &Arc<Self>) -> Result<MsSqlSession> {
        let mut client = self.log_in().await?;
        let host = self.mssql.host.to_string();
        let rows = client.rows(IDENTITY, &[]).await.map_err(|failure| self.refused(failure))?;
        let (identity, updates) = rows
            .first()
            .and_then(identity)
            .ok_or_else(|| Error::unavailable(format!("{host} does not say what its session is")).no_effect(true))?;
        if updates == "READ_ONLY" {
            return Err(failure::is_read_only(&host, &identity.database));
        }
        self.was_there.store(true, Ordering::Release);
        Ok(MsSqlSession::new(self.clone(), client, identity))
    }
}

/// Has the operating system look after a connection on which somebody waits, and which nobody else can ask whether it is there.
fn keep_alive(stream: &TcpStream, beat: Duration) -> std::io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time((beat / 2).max(LEAST_IDLE))
        .with_interval((beat / 4).max(LEAST_IDLE))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    // A request on its way is not asked after: without this it is sent again for a quarter of an hour.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(beat.saturating_mul(2).max(LEAST_IDLE * 4)))?;
    socket.set_tcp_keepalive(&keepalive)
}

fn identity(row: &Row) -> Option<(Identity, &str)> {
    let identity = Identity {
        id: i32::try_from(row.first()?.number()?).ok()?,
        database: row.get(1)?.text()?.to_owned(),
        edition: row.get(3)?.number().unwrap_or(0),
        version: row.get(4)?.text().unwrap_or_default().to_owned(),
    };
    Some((identity, row.get(2)?.text().unwrap_or_default()))
}
