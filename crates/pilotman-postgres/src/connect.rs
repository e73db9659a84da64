//! Opens sessions.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use pilotman_core::backend::{BoxFuture, Environment};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};
use pilotman_session::Driver;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use crate::failure;
use crate::options::{Host, Postgres, Scope};
use crate::session::PostgresSession;
use crate::statements::first_row;
use crate::wire::{self, Overheard, SessionKey};

/// No time-out of the server may end a session or a wait of ours, and a server whose client has vanished shall notice. What an
/// older server doesn't know is left out there.
const SETTINGS: &str = "set lock_timeout=0;set statement_timeout=0;set idle_in_transaction_session_timeout=0;\
                        set synchronous_commit=on;set default_transaction_read_only=off;\
                        set tcp_keepalives_idle=10;set tcp_keepalives_interval=5;set tcp_keepalives_count=3";
const SETTINGS_14: &str = "set idle_session_timeout=0;set client_connection_check_interval=2000";
const VERSION_14: i32 = 140_000;
const SETTINGS_17: &str = "set transaction_timeout=0";
pub(crate) const VERSION_17: i32 = 170_000;

const IDENTITY: &str = "select pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), \
                        pg_catalog.current_setting('server_version_num'), \
                        (select backend_start::text from pg_catalog.pg_stat_activity \
                        where pid=pg_catalog.pg_backend_pid())";

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct PostgresDriver(pub(crate) Arc<Connector>);

/// What sessions have in common.
pub(crate) struct Connector {
    pub(crate) postgres: Postgres,
    pub(crate) environment: OnceLock<Environment>,
    /// The sequence of the tokens was seen.
    pub(crate) has_sequence: AtomicBool,
}

/// A connection that is open.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) driving: Driving,
    /// It has ended.
    pub(crate) closed: watch::Receiver<bool>,
    /// Something was told on a channel.
    pub(crate) notified: Arc<Notify>,
}

/// The task that moves a connection's bytes. Dropping this closes the connection, whatever stands in it unanswered.
pub(crate) struct Driving(AbortHandle);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who serves a session.
pub(crate) struct Identity {
    pub(crate) process: i32,
    /// When that process began: their numbers come again.
    pub(crate) started: String,
    pub(crate) version: i32,
    /// What the session is cancelled by.
    pub(crate) key: Option<SessionKey>,
    /// Where that is asked for: the host's name may stand for several servers.
    pub(crate) address: Option<SocketAddr>,
}

impl Identity {
    /// Whether the server that answered is not the one that was spoken to at first.
    pub(crate) fn is_pooled(&self) -> bool {
        self.key.map(SessionKey::process) != Some(self.process)
    }
}

impl fmt::Debug for PostgresDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.postgres.fmt(f)
    }
}

impl Driver for PostgresDriver {
    type Session = PostgresSession;

    fn connect(&self) -> BoxFuture<'_, Result<PostgresSession>> {
        Box::pin(self.0.any_host())
    }

    fn shares_sessions(&self) -> bool {
        self.0.postgres.scope == Scope::Session
    }
}

impl Connector {
    pub(crate) fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    /// The first host that has what is needed.
    async fn any_host(self: &Arc<Self>) -> Result<PostgresSession> {
        let mut first = None;
        for host in &self.postgres.hosts {
            let limit = self.postgres.connect_timeout;
            let late = Sleep::new(self.environment()?.clock.clone(), limit);
            let session = tokio::select! {
                biased;
                session = self.open(host) => session,
                () = late => Err(Error::unavailable(format!("{host} did not begin a session within {limit:?}"))
                    .with_advice("see whether the host can be reached and its server answers")
                    .no_effect(true)),
            };
            match session {
                Ok(session) => return Ok(session),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::misconfigured("no PostgreSQL host is given")))
    }

    async fn open(self: &Arc<Self>, host: &Host) -> Result<PostgresSession> {
        let wire::Connected { stream, address } = wire::connect(&self.postgres, host, None).await?;
        let (stream, told) = Overheard::new(stream);
        let config = self.config();
        let user = config.get_user().unwrap_or_default().to_owned();
        let (client, mut connection) = config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|error| failure::of_connecting(&host.to_string(), &user, error))?;
        let (closer, closed) = watch::channel(false);
        let notified = Arc::new(Notify::new());
        let notify = notified.clone();
        // It lives as long as the session; its end is what tells that the connection has ended.
        let driving = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => notify.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a session's connection has failed");
                        break;
                    }
                    None => break,
                }
            }
            let _ = closer.send(true);
        });
        let connection = Connection { client, driving: Driving(driving.abort_handle()), closed, notified };
        self.begin(host, connection, told.key(), address).await
    }

    fn config(&self) -> Config {
        let postgres = &self.postgres;
        let mut config = Config::new();
        // Encryption is a matter of the stream.
        config.ssl_mode(SslMode::Disable).application_name(&postgres.application_name);
        let user =
            postgres.user.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "postgres".to_owned());
        config.dbname(postgres.database.as_deref().unwrap_or(&user)).user(user);
        if let Some(password) = &postgres.password {
            config.password(&password.0[..]);
        }
        config
    }

    /// Looks who serves, and sets what a session needs.
    async fn begin(
        self: &Arc<Self>,
        host: &Host,
        connection: Connection,
        key: Option<SessionKey>,
        address: Option<SocketAddr>,
    ) -> Result<PostgresSession> {
        let client = &connection.client;
        let failed = |error| failure::of_connecting(&host.to_string(), "", error);
        let messages = client.simple_query(IDENTITY).await.map_err(failed)?;
        let row = first_row(&messages);
        let column = |at: usize| row.and_then(|row| row.get(at)).unwrap_or_default();
        let number = |at: usize| column(at).parse::<i32>();
        let (Ok(process), Ok(version)) = (number(0), number(2)) else {
            return Err(Error::new(ErrorKind::Internal, format!("{host} does not say who it is")));
        };
        if column(1) == "t" {
            return Err(Error::misconfigured(format!("{host} is a standby, whose locks nobody else sees"))
                .with_advice("connect to the primary; with several hosts the standbys are passed over"));
        }
        let scope = self.postgres.scope;
        if scope == Scope::Session && !self.postgres.trusts_pooler && key.map(SessionKey::process) != Some(process) {
            return Err(Error::misconfigured(format!(
                "a pooler stands before {host}: it may give a session's locks to others"
            ))
            .with_advice(
                "connect to the server itself, or hold locks in transactions (scope=transaction); if the pooler gives each \
                 connection a server session of its own (pool_mode=session), say so (pooler=session)",
            ));
        }
        if scope == Scope::Session {
            client.batch_execute(SETTINGS).await.map_err(failed)?;
            if version >= VERSION_14
                && let Err(error) = client.batch_execute(SETTINGS_14).await
            {
                // Not all systems can look after their clients.
                tracing::debug!(%error, "a setting is not to be had");
                client.batch_execute("set idle_session_timeout=0").await.map_err(failed)?;
            }
        }
        if scope == Scope::Session && version >= VERSION_17 {
            client.batch_execute(SETTINGS_17).await.map_err(failed)?;
        }
        let identity = Identity { process, started: column(3).to_owned(), version, key, address };
        Ok(PostgresSession::new(self.clone(), host.clone(), connection, identity))
    }
}
