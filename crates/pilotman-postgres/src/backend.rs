//! PostgreSQL as the engine sees it.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
};
use pilotman_core::{
    Capabilities, Error, Fencing, LockOptions, LossReason, NameRule, Primitive, Result, Target, Waiting,
};
use pilotman_session::Sessions;

use crate::connect::{Connector, PostgresDriver};
use crate::key::PostgresKey;
use crate::options::{Postgres, Scope};
use crate::request::PostgresRequest;
use crate::{doctor, inspect};

/// Locks on PostgreSQL advisory locks. See the [crate](crate).
pub struct PostgresBackend {
    sessions: Sessions<PostgresDriver>,
    connector: Arc<Connector>,
}

impl PostgresBackend {
    /// Locks in this database. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the options allow no session.
    pub fn new(postgres: Postgres) -> Result<Self> {
        let options = postgres.sessions.clone();
        let connector =
            Arc::new(Connector { postgres, environment: OnceLock::new(), has_sequence: AtomicBool::new(false) });
        Ok(Self { sessions: Sessions::new(PostgresDriver(connector.clone()), options)?, connector })
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.open_sessions()
    }

    /// The key of a target.
    fn key(&self, target: &Target) -> Result<PostgresKey> {
        let rule = self.connector.postgres.names;
        match (rule, target.primitive) {
            (NameRule::Exact, Primitive::Mutex) => target
                .name
                .as_str()
                .parse()
                .map_err(|error: Error| Error::invalid_name("with names=exact a name is a key").with_source(error)),
            (NameRule::Exact, _) => Err(Error::unsupported("with names=exact there are only mutexes")),
            (rule, _) => Ok(PostgresKey::of_target(target, rule == NameRule::Strict)),
        }
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend").field("sessions", &self.sessions).finish()
    }
}

fn request(attempt: &Attempt) -> &PostgresRequest {
    attempt.spec.prepared::<PostgresRequest>()
}

impl Backend for PostgresBackend {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn capabilities(&self) -> Capabilities {
        let in_session = self.connector.postgres.scope == Scope::Session;
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = true;
        capabilities.writer_preference = true;
        // In transactions, those who wait for a permit try again and again.
        capabilities.fifo = in_session;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = match in_session {
            true => {
                "Restarts and crashes of the server. After a failover as far as the new primary has what the old one wrote \
                 (synchronous replication); not after a restore of a backup."
            }
            false => "Restarts of the server, but no crash of it: nothing is written before a transaction ends.",
        };
        capabilities.waiting = Waiting::Queue;
        capabilities.loss = true;
        capabilities.cross_process = true;
        // Permits: who waits for one looks this often.
        capabilities.frees_dead_holder_within = Duration::from_millis(1100);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities
    }

    fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.connector.environment.set(environment.clone());
        self.sessions.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        self.key(target)?;
        let Postgres { names, scope, .. } = &self.connector.postgres;
        let mut request = PostgresRequest::new(target, *names == NameRule::Strict, options.token, *scope);
        if *names == NameRule::Exact {
            request.key = self.key(target)?;
        }
        Ok(Arc::new(request))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.key(target).map(PostgresKey::decimal)
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

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        self.sessions.verify(hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        self.sessions.observe(hold);
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let keys = inspect::keys(target, |target| self.key(target))?;
            let physical = self.physical_name(target)?;
            let found = self
                .sessions
                .visit(move |session| Box::pin(async move { inspect::look(session, &keys).await }))
                .await?;
            Ok(inspect::inspection(target, physical, found))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(self.sessions.visit(|session| Box::pin(async move { inspect::list(session).await })))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let keys = inspect::keys(target, |target| self.key(target))?;
            self.sessions
                .visit(move |session| Box::pin(async move { inspect::end_holders(session, &keys).await }))
                .await
        })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        let scope = self.connector.postgres.scope;
        let wanted = self.connector.postgres.sessions.max_sessions;
        Box::pin(
            self.sessions.visit(move |session| Box::pin(async move { doctor::diagnose(session, scope, wanted).await })),
        )
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sessions.close())
    }
}
