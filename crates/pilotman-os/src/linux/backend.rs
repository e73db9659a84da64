//! The backend as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, LocalBackend, Outcome,
    Prepared, Released, Watch,
};
use pilotman_core::{Capabilities, Error, ErrorKind, Fencing, LockOptions, LossReason, Result, Target, Waiting};

use super::doctor;
use super::entries::Tried;
use super::inspect::{self, physical};
use super::latch::{BRIEF, LONG, SHORT};
use super::shared::Shared;
use super::slot::{Slot, domain};
use super::watch::{HINDERED, OsWatch};
use crate::OsOptions;
use crate::sync::lock;

/// Locks between the processes of this machine, kept by its operating system.
pub struct OsBackend {
    shared: Arc<Shared>,
}

impl OsBackend {
    /// A backend with these options. Touches nothing: the table is opened when the first lock is taken.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](pilotman_core::ErrorKind::Misconfigured) for options that this system has no use for;
    /// [`Unsupported`](pilotman_core::ErrorKind::Unsupported) on a system that is neither Linux nor Windows.
    pub fn new(options: OsOptions) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(options)?) })
    }

    /// The options.
    pub fn options(&self) -> &OsOptions {
        &self.shared.options
    }
}

impl fmt::Debug for OsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OsBackend").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Backend for OsBackend {
    fn kind(&self) -> &'static str {
        "os"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = true;
        capabilities.writer_preference = true;
        capabilities.fencing = Fencing::Free;
        capabilities.fencing_scope = "As long as the machine's clock does not go back: a table that is made anew, after a \
                                      boot say, begins with the microseconds since 1970.";
        capabilities.waiting = Waiting::Watch;
        capabilities.loss = true;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within = Duration::from_millis(250);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities
    }

    fn start(&self, environment: Environment) {
        self.shared.start(environment);
    }

    fn prepare(&self, target: &Target, _: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(Slot::new(self.shared.options.names, target)?))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        let slot = Slot::new(self.shared.options.names, target)?;
        Ok(physical(&self.shared.place, domain(slot.kind), slot.key))
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.shared.current().map(drop) })
    }

    fn local(&self) -> Option<&dyn LocalBackend> {
        Some(self)
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move { LocalBackend::try_acquire(self, attempt) })
    }

    fn watch<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move {
            let slot = attempt.spec.prepared.clone().downcast::<Slot>().map_err(|_| foreign())?;
            let watch = OsWatch::new(&self.shared, slot, attempt.id, attempt.spec.options.retry)?;
            Ok(Box::new(watch) as Box<dyn Watch>)
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let abandon = |attempt: &Attempt| {
                let slot = attempt.spec.prepared::<Slot>();
                self.shared.find(|process| process.give_back(slot, attempt.id, true, BRIEF)).map(drop)
            };
            attempts.iter().map(abandon).collect()
        })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move { holds.iter().map(|hold| LocalBackend::release(self, hold)).collect() })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { LocalBackend::mint(self, hold) })
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        let slot = hold.attempt.spec.prepared::<Slot>();
        let found = self.shared.find(|process| {
            let held = process.has(slot, hold.attempt.id, SHORT)?.is_some();
            Ok(held.then(|| process.table.is_replaced()))
        });
        match found {
            Ok(Some(false)) => None,
            Ok(Some(true)) => Some(LossReason::Replaced),
            Ok(None) => Some(LossReason::Gone),
            Err(error) => {
                tracing::debug!(%error, "a hold can't be looked at");
                None
            }
        }
    }

    fn observe(&self, hold: &Arc<Holding>) {
        let Some(environment) = self.shared.environment() else { return };
        let (slot, id) = (hold.attempt.spec.prepared::<Slot>(), hold.attempt.id);
        let observed = self.shared.find(|process| {
            let Some(entry) = process.has(slot, id, LONG)? else { return Ok(None) };
            if lock(&process.observed).insert(id, (entry, environment.events.clone())).is_none() {
                process.observers.fetch_add(1, Ordering::SeqCst);
            }
            process.ring(process.member());
            Ok(Some(()))
        });
        match observed {
            Ok(Some(())) => {}
            Ok(None) => environment.events.lost(id, LossReason::Gone),
            Err(error) => {
                tracing::debug!(%error, "a hold can't be watched; its loss is noticed when the guard is asked")
            }
        }
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move { inspect::inspect(&self.shared, target).await })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async move { inspect::list(&self.shared).await })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move { inspect::force_release(&self.shared, target).await })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        Box::pin(async move { doctor::diagnose(&self.shared) })
    }
}

impl LocalBackend for OsBackend {
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome> {
        Ok(match self.shared.current()?.attempt(attempt.spec.prepared::<Slot>(), attempt.id, attempt.waits)? {
            Tried::Granted(token) => Outcome::Granted(Grant { token: Some(token), ..Grant::default() }),
            Tried::Contended => Outcome::Contended { retry_after: None },
            Tried::Hindered => Outcome::Contended { retry_after: Some(HINDERED) },
        })
    }

    fn release(&self, hold: &Holding) -> Result<Released> {
        let (slot, id) = (hold.attempt.spec.prepared::<Slot>(), hold.attempt.id);
        let released = self.shared.find(|process| {
            if process.observers.load(Ordering::SeqCst) > 0 && lock(&process.observed).remove(&id).is_some() {
                process.observers.fetch_sub(1, Ordering::SeqCst);
            }
            let others_wait = process.give_back(slot, id, true, LONG)?;
            Ok(others_wait.map(|others_wait| (others_wait, process.is_stale())))
        })?;
        Ok(match released {
            Some((others_wait, false)) => Released::Free { others_wait },
            Some((_, true)) => Released::Gone(LossReason::Replaced),
            None => Released::Gone(LossReason::Gone),
        })
    }

    fn mint(&self, hold: &Holding) -> Result<u64> {
        let (slot, id) = (hold.attempt.spec.prepared::<Slot>(), hold.attempt.id);
        let minted = self.shared.find(|process| process.renew_token(slot, id))?;
        minted.ok_or_else(|| Error::lost(LossReason::Gone))
    }
}

fn foreign() -> Error {
    Error::new(ErrorKind::Internal, "a spec was given to a backend that did not prepare it")
}
