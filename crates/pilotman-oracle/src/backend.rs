//! Oracle Database as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
};
use pilotman_core::{Capabilities, Error, Fencing, LockOptions, LossReason, Primitive, Result, Target, Waiting};
use pilotman_session::Sessions;

use crate::connect::{Connector, OracleDriver};
use crate::driver::Driver;
use crate::names::LockName;
use crate::options::{Oracle, SHORTEST_HEARTBEAT};
use crate::request::{Mode, OracleRequest};
use crate::{doctor, inspect};

/// Locks by `DBMS_LOCK`. See the [crate](crate).
pub struct OracleBackend {
    sessions: Sessions<OracleDriver>,
    connector: Arc<Connector>,
}

impl OracleBackend {
    /// Locks of this database. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the connect string or another option can't be, the heartbeat is shorter than 2 s, or the options allow no
    /// session; `Unsupported` if the driver that is asked for is not built in.
    pub fn new(oracle: Oracle) -> Result<Self> {
        let driver = driver(&oracle)?;
        Self::with_driver(oracle, driver)
    }

    /// As [`Self::new`], on a driver of one's own: for the tests.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    #[doc(hidden)]
    pub fn with_driver(oracle: Oracle, driver: Arc<dyn Driver>) -> Result<Self> {
        if oracle.sessions.heartbeat < SHORTEST_HEARTBEAT {
            return Err(Error::misconfigured(format!(
                "the heartbeat is shorter than {SHORTEST_HEARTBEAT:?}, in which a wait can be asked whether it goes on"
            )));
        }
        let options = oracle.sessions.clone();
        let connector = Arc::new(Connector::new(oracle, driver));
        Ok(Self { sessions: Sessions::new(OracleDriver(connector.clone()), options)?, connector })
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.open_sessions()
    }

    fn request(&self, target: &Target, token: bool) -> Result<OracleRequest> {
        let refused = || self.unsupported(target.primitive).unwrap_or_else(|| Error::unsupported("no such lock"));
        let mode = Mode::of(target.primitive).ok_or_else(refused)?;
        let name = LockName::new(target.name.as_str(), target.primitive, &self.connector.oracle)?;
        Ok(OracleRequest { name, mode, token })
    }
}

/// The driver that the options ask for.
fn driver(oracle: &Oracle) -> Result<Arc<dyn Driver>> {
    match oracle.client_library {
        true => {
            #[cfg(feature = "odpi")]
            return Ok(Arc::new(crate::driver::odpi::Odpi::new(oracle)?));
            #[cfg(not(feature = "odpi"))]
            return Err(missing("the client library", "odpi"));
        }
        false => {
            #[cfg(feature = "thin")]
            return Ok(Arc::new(crate::driver::thin::Thin::new(oracle)?));
            #[cfg(not(feature = "thin"))]
            return Err(missing("the driver in Rust", "thin"));
        }
    }
}

#[cfg(not(all(feature = "odpi", feature = "thin")))]
fn missing(what: &str, feature: &str) -> Error {
    Error::unsupported(format!("{what} is not built in")).with_advice(format!("enable the feature '{feature}'"))
}

impl fmt::Debug for OracleBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OracleBackend").field("sessions", &self.sessions).finish()
    }
}

fn request(attempt: &Attempt) -> &OracleRequest {
    attempt.spec.prepared::<OracleRequest>()
}

impl Backend for OracleBackend {
    fn kind(&self) -> &'static str {
        "oracle"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.upgradeable = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "In order among those who use one sequence: the default one is that of the user's schema, so name one with \
                                      its owner for several users. As durable as it: restarts and crashes of the database. After a failover as far as the \
                                      new primary has what the old one wrote; not after a restore of a backup. In a cluster (RAC) \
                                      only from a sequence with ORDER, as ours is made.";
        capabilities.waiting = Waiting::Queue;
        capabilities.loss = true;
        capabilities.cross_process = true;
        // The database notices at once that a client is gone, unless its session waits: then at the end of a slice.
        capabilities.frees_dead_holder_within = Duration::from_millis(1100);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities.unverified = Some(
            "No Oracle Database was to be had: unverified against a real server. Tried: stand-ins that keep what is documented \
             of DBMS_LOCK.",
        );
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        inspect::unsupported(primitive).map(|why| {
            Error::unsupported(format!("Oracle Database has no {primitive} locks: {why}"))
                .with_advice("use a mutex or a reader-writer lock, or a backend that has them (postgres, redis)")
        })
    }

    fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.connector.environment.set(environment.clone());
        self.sessions.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(self.request(target, options.token)?))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.request(target, false).map(|request| request.name.as_str().to_owned())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.sessions.visit(|session| Box::pin(async move { inspect::check(session).await })))
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        self.sessions.ready()
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.sessions.try_acquire(attempt, request(attempt)))
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(self.sessions.enqueue(attempt, request(attempt)))
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(self.sessions.abandon(attempts))
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(self.sessions.release(holds))
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.sessions.mint(hold))
    }

    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.sessions.upgrade(hold))
    }

    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.sessions.try_upgrade(hold))
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        self.sessions.verify(hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        self.sessions.observe(hold);
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let (name, target) = (self.request(target, false)?.name, target.clone());
            self.sessions
                .visit(move |session| Box::pin(async move { inspect::look(session, &name, &target).await }))
                .await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(self.sessions.visit(|session| Box::pin(async move { inspect::list(session).await })))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let name = self.request(target, false)?.name;
            self.sessions
                .visit(move |session| Box::pin(async move { inspect::end_holders(session, &name).await }))
                .await
        })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        let wanted = self.connector.oracle.sessions.max_sessions;
        Box::pin(self.sessions.visit(move |session| Box::pin(async move { doctor::diagnose(session, wanted).await })))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sessions.close())
    }
}
