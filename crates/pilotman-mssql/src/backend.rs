//! SQL Server as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
};
use pilotman_core::{Capabilities, Error, Fencing, LockOptions, LossReason, Result, Target, Waiting};
use pilotman_session::{Session, Sessions};

use crate::connect::{Connector, MsSqlDriver};
use crate::options::MsSql;
use crate::request::MsSqlRequest;
use crate::{doctor, inspect};

/// Locks by `sp_getapplock`. See the [crate](crate).
pub struct MsSqlBackend {
    sessions: Sessions<MsSqlDriver>,
    connector: Arc<Connector>,
}

impl MsSqlBackend {
    /// Locks of this server. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the options allow no session, or the prefix has a NUL.
    pub fn new(mssql: MsSql) -> Result<Self> {
        if mssql.naming.prefix.contains('\0') {
            return Err(Error::misconfigured("the prefix of the names has a NUL"));
        }
        let options = mssql.sessions.clone();
        let connector = Arc::new(Connector::new(mssql));
        Ok(Self { sessions: Sessions::new(MsSqlDriver(connector.clone()), options)?, connector })
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.open_sessions()
    }

    fn resources(&self, target: &Target) -> Result<inspect::Resources> {
        inspect::resources(target, &self.connector.mssql.naming)
    }
}

impl fmt::Debug for MsSqlBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsSqlBackend").field("sessions", &self.sessions).finish()
    }
}

fn request(attempt: &Attempt) -> &MsSqlRequest {
    attempt.spec.prepared::<MsSqlRequest>()
}

impl Backend for MsSqlBackend {
    fn kind(&self) -> &'static str {
        "mssql"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.upgradeable = true;
        capabilities.semaphore = true;
        capabilities.writer_preference = true;
        capabilities.fifo = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "As durable as the database: restarts and crashes of the server. After a failover as far \
                                      as the new primary has what the old one wrote (synchronous commit); not after a \
                                      restore of a backup.";
        capabilities.waiting = Waiting::Queue;
        capabilities.loss = true;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within = Duration::from_millis(500);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities.unverified = Some(
            "Unverified against a real server: tried against a stand-in, which speaks the protocol and keeps the locks as \
             Microsoft documents them.",
        );
        capabilities
    }

    fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.connector.environment.set(environment.clone());
        self.sessions.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        let resource = self.connector.mssql.naming.resource(target)?;
        Ok(Arc::new(MsSqlRequest::new(target, resource, options.token)))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.connector.mssql.naming.resource(target).map(|resource| resource.name.to_string())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.sessions.visit(|session| Box::pin(async move { session.ping().await })))
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
            let (resources, target) = (self.resources(target)?, target.clone());
            self.sessions
                .visit(move |session| Box::pin(async move { inspect::look(session, &target, &resources).await }))
                .await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        let rule = self.connector.mssql.naming.rule;
        Box::pin(self.sessions.visit(move |session| Box::pin(async move { inspect::list(session, rule).await })))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let resources = self.resources(target)?;
            self.sessions
                .visit(move |session| Box::pin(async move { inspect::end_holders(session, &resources).await }))
                .await
        })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        let wanted = self.connector.mssql.sessions.max_sessions;
        Box::pin(self.sessions.visit(move |session| Box::pin(async move { doctor::diagnose(session, wanted).await })))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sessions.close())
    }
}
