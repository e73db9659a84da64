//! MySQL and MariaDB as the engine sees them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
};
use pilotman_core::{Capabilities, Error, Fencing, LockOptions, LossReason, Primitive, Result, Target, Waiting};
use pilotman_session::Sessions;

use crate::connect::{Connector, MySqlDriver};
use crate::names::LockName;
use crate::options::MySql;
use crate::request::MySqlRequest;
use crate::{doctor, inspect};

/// Locks by `GET_LOCK`. See the [crate](crate).
pub struct MySqlBackend {
    sessions: Sessions<MySqlDriver>,
    connector: Arc<Connector>,
}

impl MySqlBackend {
    /// Locks of this server. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the options allow no session, or the prefix has a NUL.
    pub fn new(mysql: MySql) -> Result<Self> {
        if mysql.prefix.contains('\0') {
            return Err(Error::misconfigured("the prefix of the names has a NUL, where a server's name would end"));
        }
        let options = mysql.sessions.clone();
        let connector = Arc::new(Connector::new(mysql));
        Ok(Self { sessions: Sessions::new(MySqlDriver(connector.clone()), options)?, connector })
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.open_sessions()
    }

    fn name(&self, target: &Target) -> Result<LockName> {
        if let Some(error) = self.unsupported(target.primitive) {
            return Err(error);
        }
        let MySql { names, prefix, .. } = &self.connector.mysql;
        match prefix.is_empty() {
            true => LockName::new(target.name.as_str(), *names),
            false => LockName::new(&format!("{prefix}{}", target.name.as_str()), *names),
        }
    }
}

impl fmt::Debug for MySqlBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlBackend").field("sessions", &self.sessions).finish()
    }
}

fn request(attempt: &Attempt) -> &MySqlRequest {
    attempt.spec.prepared::<MySqlRequest>()
}

impl Backend for MySqlBackend {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.fifo = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "As durable as the table: restarts of the server, and crashes where it flushes at each \
                                      commit. After a failover as far as the new primary has what the old one wrote \
                                      (semi-synchronous or group replication); not after a restore of a backup.";
        capabilities.waiting = Waiting::Queue;
        capabilities.loss = true;
        capabilities.cross_process = true;
        // The server notices at once that a client is gone, unless its session waits: then it looks once a second.
        capabilities.frees_dead_holder_within = Duration::from_millis(1100);
        capabilities.inspect = true;
        capabilities.force_release = true;
        capabilities.unverified = Some(
            "Galera, Group Replication, TiDB, Vitess, Aurora, ProxySQL and MaxScale: nothing was tried there. Tried: \
             MariaDB 10.11 and MySQL 9.7.",
        );
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        inspect::unsupported(primitive).map(|why| {
            Error::unsupported(format!("MySQL and MariaDB have no {primitive} locks: {why}"))
                .with_advice("use a mutex, or a backend that has them (postgres, redis)")
        })
    }

    fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.connector.environment.set(environment.clone());
        self.sessions.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(MySqlRequest { name: self.name(target)?, token: options.token }))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.name(target).map(|name| name.as_str().to_owned())
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
            let name = self.name(target)?;
            let physical = name.as_str().to_owned();
            let look = self.sessions.visit(move |session| Box::pin(async move { inspect::look(session, &name).await }));
            Ok(inspect::inspection(target, physical, look.await?))
        })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let name = self.name(target)?;
            self.sessions.visit(move |session| Box::pin(async move { inspect::end_holder(session, &name).await })).await
        })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        let wanted = self.connector.mysql.sessions.max_sessions;
        Box::pin(self.sessions.visit(move |session| Box::pin(async move { doctor::diagnose(session, wanted).await })))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sessions.close())
    }
}
