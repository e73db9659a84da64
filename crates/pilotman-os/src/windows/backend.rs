//! The backend as the engine sees it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, AttemptId, Backend, BoxFuture, Grant, Holder, Holding, Inspection, LocalBackend, Outcome, Prepared,
    Released,
};
use pilotman_core::{
    Capabilities, Error, ErrorKind, Fencing, LockOptions, LossReason, Primitive, Result, Target, Waiting,
};

use super::inspect;
use super::keeper::Keeper;
use super::physical::Physical;
use super::security::Security;
use super::token::Counter;
use crate::options::{OsOptions, Scope};
use crate::sync::lock;

/// Locks between the processes of this machine, kept by its operating system.
pub struct OsBackend {
    options: OsOptions,
    security: Arc<Security>,
    /// Who keeps what was granted or is waited for.
    keepers: Mutex<HashMap<AttemptId, Arc<Keeper>>>,
}

impl OsBackend {
    /// A backend with these options. Makes no object: that is done when the first lock is taken.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](pilotman_core::ErrorKind::Misconfigured) for options that this system has no use for, and for a
    /// security descriptor that can't be understood.
    pub fn new(options: OsOptions) -> Result<Self> {
        let refuse = |why: &str| Err(Error::misconfigured(why.to_owned()).with_backend("os"));
        if options.directory.is_some() {
            return refuse("a directory for the lock table is for Linux; leave it out on this system");
        }
        if options.dotnet_compatible && options.scope != Scope::Machine {
            return refuse("the objects of .NET are those of all sessions; leave the scope out");
        }
        let security = Arc::new(Security::new(options.shared, options.security.as_deref())?);
        Ok(Self { options, security, keepers: Mutex::default() })
    }

    /// The options.
    pub fn options(&self) -> &OsOptions {
        &self.options
    }

    fn physical(&self, target: &Target) -> Result<Physical> {
        Physical::new(&self.options, self.security.clone(), target)
    }

    /// What a hold that was taken just now gets.
    fn grant(&self, attempt: &Attempt) -> Result<Grant> {
        if !attempt.spec.options.token {
            return Ok(Grant::default());
        }
        let physical = attempt.spec.prepared::<Arc<Physical>>();
        match Counter::next(&physical.token_name(), physical.security()) {
            // The counter stays as long as the hold.
            Ok((counter, token)) => {
                Ok(Grant { token: Some(token), state: Some(Box::new(counter)), ..Grant::default() })
            }
            Err(error) => {
                self.give_back(attempt.id)?;
                Err(error)
            }
        }
    }

    fn give_back(&self, id: AttemptId) -> Result<bool> {
        let keeper = lock(&self.keepers).remove(&id);
        keeper.map_or(Ok(false), |keeper| keeper.give_back(id))
    }
}

impl fmt::Debug for OsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsBackend").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Backend for OsBackend {
    fn kind(&self) -> &'static str {
        "os"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.semaphore = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "As long as the machine's clock does not go back: a counter that is made anew begins \
                                      with the microseconds since 1970.";
        capabilities.waiting = Waiting::Queue;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within =
            if self.options.dotnet_compatible { Duration::from_secs(5) } else { Duration::from_millis(250) };
        capabilities.inspect = true;
        capabilities.list = !self.options.dotnet_compatible;
        capabilities.unverified =
            Some("Tried under Wine 8 only: sessions, security descriptors and timing of Windows itself were not.");
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        matches!(primitive, Primitive::Read | Primitive::Write).then(|| {
            Error::unsupported("Windows has no reader-writer lock between processes that survives a dead holder")
                .with_advice("use a mutex, or another backend")
        })
    }

    fn prepare(&self, target: &Target, _: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(Arc::new(self.physical(target)?)))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(self.physical(target)?.shown())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Keeper::first().map(drop) })
    }

    fn local(&self) -> Option<&dyn LocalBackend> {
        Some(self)
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move { LocalBackend::try_acquire(self, attempt) })
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(async move {
            let (keeper, cell) = Keeper::wait(attempt.id, attempt.spec.prepared::<Arc<Physical>>())?;
            lock(&self.keepers).insert(attempt.id, keeper);
            // If this is dropped, the engine abandons the attempt.
            std::future::poll_fn(|cx| cell.poll(cx)).await.inspect_err(|_| {
                lock(&self.keepers).remove(&attempt.id);
            })?;
            self.grant(attempt)
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move { attempts.iter().map(|attempt| self.give_back(attempt.id).map(drop)).collect() })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move { holds.iter().map(|hold| LocalBackend::release(self, hold)).collect() })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { LocalBackend::mint(self, hold) })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let mut inspection = Inspection::default();
            inspection.name = Some(target.name.as_str().to_owned());
            inspection.physical = self.physical_name(target)?;
            inspection.holders = inspect::holders(self.physical(target)?, target.primitive)?;
            Ok(inspection)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async { inspect::list(&self.options) })
    }

    fn force_release<'a>(&'a self, _: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async {
            Err(Error::unsupported("on Windows only the thread that has a lock can give it back")
                .with_advice("end the process that holds it: its locks are free then"))
        })
    }
}

impl LocalBackend for OsBackend {
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome> {
        let physical = attempt.spec.prepared::<Arc<Physical>>();
        let keeper = Keeper::first()?;
        if !keeper.attempt(attempt.id, physical)? {
            return Ok(Outcome::Contended { retry_after: None });
        }
        lock(&self.keepers).insert(attempt.id, keeper);
        self.grant(attempt).map(Outcome::Granted)
    }

    fn release(&self, hold: &Holding) -> Result<Released> {
        Ok(match self.give_back(hold.attempt.id)? {
            true => Released::Free { others_wait: false },
            false => Released::Gone(LossReason::Gone),
        })
    }

    fn mint(&self, hold: &Holding) -> Result<u64> {
        match hold.state::<Counter>() {
            Some(counter) => Ok(counter.advance()),
            None => Err(Error::new(ErrorKind::Internal, "a token was asked for where none was")),
        }
    }
}
