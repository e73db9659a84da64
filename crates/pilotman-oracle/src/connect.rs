//! Opens sessions.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilotman_core::backend::{BoxFuture, Environment};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};

use crate::driver::{Driver, Failure};
use crate::failure;
use crate::logins::Logins;
use crate::options::Oracle;
use crate::session::OracleSession;
use crate::statements::{self, SessionId, count, text};
use crate::worker::{self, Worker};

/// So many sessions are opened at the same time.
const OPENING: usize = 8;
/// So many threads may hang in connecting, or in calls that nobody waits for any longer, beside those of sessions that are in use.
const HANGING: usize = 64;
/// The same for connections over which sessions are ended: those must not wait for others that hang.
const CONTROLLING: usize = 4;
const CONTROLS_HANGING: usize = 16;

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct OracleDriver(pub(crate) Arc<Connector>);

/// What sessions have in common.
pub(crate) struct Connector {
    pub(crate) oracle: Oracle,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) environment: OnceLock<Environment>,
    opening: Logins,
    controlling: Logins,
}

impl fmt::Debug for OracleDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OracleDriver").field(&self.0.driver.name()).field(&self.0.oracle).finish()
    }
}

impl pilotman_session::Driver for OracleDriver {
    type Session = OracleSession;

    fn connect(&self) -> BoxFuture<'_, Result<OracleSession>> {
        Box::pin(self.0.connect())
    }
}

impl Connector {
    pub(crate) fn new(oracle: Oracle, driver: Arc<dyn Driver>) -> Self {
        let opening = Logins::new(OPENING, oracle.sessions.max_sessions + HANGING);
        let controlling = Logins::new(CONTROLLING, CONTROLS_HANGING);
        Self { oracle, driver, environment: OnceLock::new(), opening, controlling }
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

    /// An answer of the database, or [`Failure::late`] after this time.
    pub(crate) async fn answer_within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = self.within(limit, async { Ok(work.await) }, || Error::unavailable("late")).await;
        answer.unwrap_or_else(|_| Err(Failure::late()))
    }

    /// A session of ours, checked and set up.
    async fn connect(self: &Arc<Self>) -> Result<OracleSession> {
        let limit = self.oracle.connect_timeout;
        let late = || {
            Error::unavailable(format!("the database did not begin a session within {limit:?}"))
                .with_advice("see whether the host can be reached and its listener and database answer")
                .no_effect(true)
        };
        self.within(limit, self.begin(limit), late).await
    }

    /// A connection over which a session can be ended.
    pub(crate) async fn log_in_to_control(&self, limit: Duration) -> Result<Worker> {
        self.log_in(&self.controlling, limit).await
    }

    /// A connection that can be asked something.
    async fn log_in(&self, logins: &Logins, limit: Duration) -> Result<Worker> {
        let clock = &self.environment()?.clock;
        let closed = || Error::new(ErrorKind::Closed, "no more sessions are opened");
        let turn = async { logins.turn(clock, limit).await.ok_or_else(closed) };
        // Within half of the time, so that who waits in vain hears why.
        let turn = self.within(limit / 2, turn, || worker::too_many_hang(limit / 2)).await?;
        Worker::open(self.driver.clone(), limit, turn)
            .await
            .map_err(|failure| failure::of_connecting(&self.oracle, failure))
    }

    async fn begin(self: &Arc<Self>, limit: Duration) -> Result<OracleSession> {
        let worker = self.log_in(&self.opening, limit).await?;
        let call = statements::begin(&self.oracle.application_name);
        let answer = match worker.run(call, limit).await {
            Ok(answer) => answer,
            Err(failure) => return Err(failure::of_connecting(&self.oracle, failure)),
        };
        // Only the primary decides who has a lock.
        let role = text(&answer, 2);
        if role.as_deref().is_some_and(|role| role != "PRIMARY") {
            return Err(Error::misconfigured(format!(
                "this database is a standby ({}): locks there keep out nobody who locks at the primary",
                role.unwrap_or_default().chars().take(30).flat_map(char::escape_debug).collect::<String>()
            ))
            .with_advice("connect to the primary, by a service that runs only there")
            .no_effect(true));
        }
        let id = worker
            .serial
            .and_then(|serial| Some(SessionId { sid: count(&answer, 0)?, serial, instance: count(&answer, 1)? }));
        Ok(OracleSession::new(self.clone(), worker, id))
    }
}
