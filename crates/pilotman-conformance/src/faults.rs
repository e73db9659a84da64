//! A backend that puts faults between the engine and another backend.
//!
//! [`Faulty`] passes every call on to the backend that it wraps, and hides that this one is local: the engine then
//! drives it as it drives a server. What goes wrong is said through [`Faults`], at any time and per operation; each
//! call stands in a log.
//!
//! ```
//! use pilotman_conformance::faults::{Faulty, Operation};
//! use pilotman_core::memory::MemoryBackend;
//! use pilotman_core::{ErrorKind, Locks};
//!
//! let backend = Faulty::new(MemoryBackend::new());
//! let faults = backend.faults();
//! let locks = pilotman_core::blocking::Locks::from(Locks::new(backend));
//! faults.fail(Operation::TryAcquire, pilotman_core::Error::unavailable("the cable is out"));
//! assert_eq!(locks.mutex("a").try_acquire().unwrap_err().kind(), ErrorKind::Unavailable);
//! assert_eq!(faults.calls(Operation::TryAcquire), 1);
//! faults.heal();
//! assert!(locks.mutex("a").try_acquire().unwrap().is_some());
//! ```

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, AttemptId, Backend, BoxFuture, Environment, Events, Grant, Holder, Holding, Inspection, Outcome, Prepared,
    Released, Renewal, Watch,
};
use pilotman_core::clock::{Clock, Sleep, SystemClock, Time};
use pilotman_core::{Capabilities, Error, LockOptions, LossReason, Result, Target, Waiting};
use tokio::sync::{Notify, watch};

/// A call of the backend interface that faults can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// [`Backend::check`].
    Check,
    /// [`Backend::try_acquire`].
    TryAcquire,
    /// [`Backend::enqueue`].
    Enqueue,
    /// [`Backend::watch`].
    Watch,
    /// [`Backend::abandon`].
    Abandon,
    /// [`Backend::renew`].
    Renew,
    /// [`Backend::release`].
    Release,
    /// [`Backend::mint`].
    Mint,
    /// [`Backend::upgrade`].
    Upgrade,
    /// [`Backend::try_upgrade`].
    TryUpgrade,
    /// [`Backend::inspect`].
    Inspect,
    /// [`Backend::list`].
    List,
    /// [`Backend::force_release`].
    ForceRelease,
    /// [`Backend::close`].
    Close,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Check,
        Self::TryAcquire,
        Self::Enqueue,
        Self::Watch,
        Self::Abandon,
        Self::Renew,
        Self::Release,
        Self::Mint,
        Self::Upgrade,
        Self::TryUpgrade,
        Self::Inspect,
        Self::List,
        Self::ForceRelease,
        Self::Close,
    ];
}

/// What happens to a call.
#[derive(Debug, Clone)]
enum Fault {
    /// It waits, undone, until the fault is healed.
    Hang,
    /// It fails and nothing is done; a number of times, or until healed.
    Fail(Error, Option<usize>),
    /// It is passed on this much later.
    Delay(Duration),
    /// It is done, but its caller never hears of it, healed or not.
    DropReply,
}

/// One call, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When it was made, by the engine's clock.
    pub at: Time,
    /// What was called.
    pub operation: Operation,
    /// The attempts or holds that it was about.
    pub ids: Vec<AttemptId>,
}

/// Says what goes wrong with a [`Faulty`] backend, and tells what was called. Clones are the same.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    faults: Mutex<HashMap<Operation, Fault>>,
    log: Mutex<Vec<Call>>,
    /// Changes whenever a fault does.
    version: watch::Sender<u64>,
    environment: OnceLock<Environment>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks leaves them half done.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Faults {
    fn set(&self, operation: Operation, fault: Fault) {
        lock(&self.0.faults).insert(operation, fault);
        self.changed();
    }

    fn changed(&self) {
        self.0.version.send_modify(|version| *version += 1);
    }

    /// Calls hang, undone, until healed; then those whose caller still waits are passed on.
    pub fn hang(&self, operation: Operation) {
        self.set(operation, Fault::Hang);
    }

    /// Every operation hangs.
    pub fn hang_all(&self) {
        Operation::ALL.into_iter().for_each(|operation| self.hang(operation));
    }

    /// Calls fail with this error, and nothing is done.
    pub fn fail(&self, operation: Operation, error: Error) {
        self.set(operation, Fault::Fail(error, None));
    }

    /// So many calls fail with this error, and nothing is done; the ones after them are passed on.
    pub fn fail_times(&self, operation: Operation, times: usize, error: Error) {
        self.set(operation, Fault::Fail(error, Some(times)));
    }

    /// Calls are passed on so much later.
    pub fn delay(&self, operation: Operation, by: Duration) {
        self.set(operation, Fault::Delay(by));
    }

    /// Calls are passed on and done, but their callers never get an answer.
    pub fn drop_replies(&self, operation: Operation) {
        self.set(operation, Fault::DropReply);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        lock(&self.0.faults).clear();
        self.changed();
    }

    /// Ends the fault of one operation.
    pub fn heal_one(&self, operation: Operation) {
        lock(&self.0.faults).remove(&operation);
        self.changed();
    }

    /// How many calls of an operation were made so far.
    pub fn calls(&self, operation: Operation) -> usize {
        lock(&self.0.log).iter().filter(|call| call.operation == operation).count()
    }

    /// All calls so far.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.0.log).clone()
    }

    /// The calls of one operation so far.
    pub fn log_of(&self, operation: Operation) -> Vec<Call> {
        lock(&self.0.log).iter().filter(|call| call.operation == operation).cloned().collect()
    }

    /// Forgets the calls so far.
    pub fn clear_log(&self) {
        lock(&self.0.log).clear();
    }

    fn events(&self) -> Option<&Events> {
        self.0.environment.get().map(|environment| &environment.events)
    }

    /// Reports the loss of a hold, as a server's message would.
    pub fn report_lost(&self, id: AttemptId, reason: LossReason) {
        if let Some(events) = self.events() {
            events.lost(id, reason);
        }
    }

    /// Reports that a hold is at risk.
    pub fn report_at_risk(&self, id: AttemptId) {
        if let Some(events) = self.events() {
            events.at_risk(id);
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        match self.0.environment.get() {
            Some(environment) => environment.clock.clone(),
            None => Arc::new(SystemClock::new()),
        }
    }

    fn note(&self, operation: Operation, ids: Vec<AttemptId>) {
        let at = self.clock().now();
        lock(&self.0.log).push(Call { at, operation, ids });
    }

    /// Lets a call through, sooner or later. `Ok(false)`: its reply must be dropped.
    async fn pass(&self, operation: Operation) -> Result<bool> {
        let mut version = self.0.version.subscribe();
        loop {
            // Whatever changes after this line wakes the wait below.
            version.borrow_and_update();
            let fault = {
                let mut faults = lock(&self.0.faults);
                match faults.get_mut(&operation) {
                    Some(Fault::Fail(_, Some(0))) => faults.remove(&operation).and(None),
                    Some(Fault::Fail(error, Some(times))) => {
                        *times -= 1;
                        Some(Fault::Fail(error.clone(), None))
                    }
                    fault => fault.cloned(),
                }
            };
            match fault {
                None => return Ok(true),
                Some(Fault::DropReply) => return Ok(false),
                Some(Fault::Fail(error, _)) => return Err(error),
                Some(Fault::Delay(by)) => {
                    Sleep::new(self.clock(), by).await;
                    return Ok(true);
                }
                // The sender lives as long as these faults do.
                Some(Fault::Hang) => version.changed().await.unwrap_or_default(),
            }
        }
    }

    /// One call that has one result.
    async fn call<T>(
        &self,
        operation: Operation,
        ids: Vec<AttemptId>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.note(operation, ids);
        let answered = self.pass(operation).await?;
        let done = work.await;
        if !answered {
            std::future::pending::<()>().await;
        }
        done
    }

    /// One call that has a result for each of several.
    async fn batch<T>(
        &self,
        operation: Operation,
        ids: Vec<AttemptId>,
        work: impl Future<Output = Vec<Result<T>>>,
    ) -> Vec<Result<T>> {
        let count = ids.len();
        self.note(operation, ids);
        match self.pass(operation).await {
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
            Ok(answered) => {
                let done = work.await;
                if !answered {
                    std::future::pending::<()>().await;
                }
                done
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("faults", &lock(&self.0.faults)).finish_non_exhaustive()
    }
}

/// A backend with faults; see the [module](self).
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Backend>,
    faults: Faults,
    waiting: Option<Waiting>,
}

impl Faulty {
    /// Faults before this backend, none to begin with.
    pub fn new(inner: impl Backend) -> Self {
        Self::over(Arc::new(inner))
    }

    /// As [`Self::new`], of a backend that was chosen at run time.
    pub fn over(inner: Arc<dyn Backend>) -> Self {
        let faults = Faults(Arc::new(Shared {
            faults: Mutex::default(),
            log: Mutex::default(),
            version: watch::Sender::new(0),
            environment: OnceLock::new(),
        }));
        Self { inner, faults, waiting: None }
    }

    /// Claims to wait in another way than the backend itself does. With [`Waiting::Watch`] before a backend that has no
    /// watches, they tell of releases through any [`Faulty`] of this process.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = Some(waiting);
        self
    }

    /// What goes wrong, and what was called.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

fn one(id: AttemptId) -> Vec<AttemptId> {
    vec![id]
}

fn ids(holds: &[Arc<Holding>]) -> Vec<AttemptId> {
    holds.iter().map(|hold| hold.attempt.id).collect()
}

/// Rings at each release through any [`Faulty`] of this process.
static RELEASED: Notify = Notify::const_new();

/// Told of releases; a timer stands behind, for those that don't pass through here.
struct Releases(Faults);

impl Watch for Releases {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut timer = std::pin::pin!(Sleep::new(self.0.clock(), Duration::from_millis(20)));
            let mut released = std::pin::pin!(RELEASED.notified());
            std::future::poll_fn(|cx| match released.as_mut().poll(cx) {
                std::task::Poll::Ready(()) => std::task::Poll::Ready(()),
                std::task::Poll::Pending => timer.as_mut().poll(cx),
            })
            .await;
        })
    }
}

impl Backend for Faulty {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        if let Some(waiting) = self.waiting.filter(|waiting| *waiting != capabilities.waiting) {
            capabilities.waiting = waiting;
            // Both came with the queue.
            capabilities.fifo = false;
            capabilities.writer_preference = false;
        }
        capabilities
    }

    fn start(&self, environment: Environment) {
        // Only the first engine counts: a backend belongs to one.
        let _ = self.faults.0.environment.set(environment.clone());
        self.inner.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        self.inner.prepare(target, options)
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.inner.physical_name(target)
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.faults.call(Operation::Check, Vec::new(), self.inner.check()))
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        self.inner.ready()
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(self.faults.call(Operation::TryAcquire, one(attempt.id), async move {
            match self.inner.local() {
                Some(local) => local.try_acquire(attempt),
                None => self.inner.try_acquire(attempt).await,
            }
        }))
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(self.faults.call(Operation::Enqueue, one(attempt.id), self.inner.enqueue(attempt)))
    }

    fn watch<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(self.faults.call(Operation::Watch, one(attempt.id), async move {
            match self.inner.capabilities().waiting {
                Waiting::Watch => self.inner.watch(attempt).await,
                _ => Ok(Box::new(Releases(self.faults.clone())) as Box<dyn Watch>),
            }
        }))
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        let ids = attempts.iter().map(|attempt| attempt.id).collect();
        Box::pin(async move {
            let done = self.faults.batch(Operation::Abandon, ids, self.inner.abandon(attempts)).await;
            RELEASED.notify_waiters();
            done
        })
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(self.faults.batch(Operation::Renew, ids(holds), self.inner.renew(holds)))
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move {
            let release = async {
                match self.inner.local() {
                    Some(local) => holds.iter().map(|hold| local.release(hold)).collect(),
                    None => self.inner.release(holds).await,
                }
            };
            let mut done = self.faults.batch(Operation::Release, ids(holds), release).await;
            if self.waiting.is_some_and(|waiting| waiting != Waiting::Queue) {
                // Without a queue, this process has to let others go first.
                for released in done.iter_mut().flatten() {
                    if let Released::Free { others_wait } = released {
                        *others_wait = true;
                    }
                }
            }
            RELEASED.notify_waiters();
            done
        })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(self.faults.call(Operation::Mint, one(hold.attempt.id), async move {
            match self.inner.local() {
                Some(local) => local.mint(hold),
                None => self.inner.mint(hold).await,
            }
        }))
    }

    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.faults.call(Operation::Upgrade, one(hold.attempt.id), self.inner.upgrade(hold)))
    }

    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.faults.call(Operation::TryUpgrade, one(hold.attempt.id), self.inner.try_upgrade(hold)))
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        self.inner.verify(hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        self.inner.observe(hold);
    }

    fn lease_id(&self, hold: &Holding) -> Option<String> {
        self.inner.lease_id(hold)
    }

    #[cfg(unix)]
    fn descriptor(&self, hold: &Holding) -> Option<Arc<std::os::fd::OwnedFd>> {
        self.inner.descriptor(hold)
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(self.faults.call(Operation::Inspect, Vec::new(), self.inner.inspect(target)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(self.faults.call(Operation::List, Vec::new(), self.inner.list()))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(self.faults.call(Operation::ForceRelease, Vec::new(), self.inner.force_release(target)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let close = async {
                self.inner.close().await;
                Ok(())
            };
            // A close has no way to fail: one that is told to simply isn't done.
            let _ = self.faults.call(Operation::Close, Vec::new(), close).await;
        })
    }
}
