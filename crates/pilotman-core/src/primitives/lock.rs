//! Mutexes, semaphores, and what they have in common.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Instrument;

use super::fenced::Fenced;
use super::guard::{Guard, Held};
use super::run;
use crate::engine::{Acquire, AtOnce, Engine, Slot, Tenancy, Wait};
use crate::{Error, ErrorKind, Fencing, LockOptions, Name, Primitive, Result, Target, Verdict};

/// A lock of any primitive under one name. Cheap to clone; clones are the same lock.
///
/// It is **not re-entrant**: a holder that acquires again waits for itself. Waiters of one process that have equal
/// options get the lock in the order in which they came.
#[derive(Clone)]
pub struct Lock {
    engine: Arc<Engine>,
    /// What was asked for; an error here is told by each acquire.
    target: Result<Target>,
    options: LockOptions,
    slot: OnceLock<Result<Arc<Slot>>>,
}

impl Lock {
    pub(crate) fn new(engine: &Arc<Engine>, options: &LockOptions, name: &str, primitive: Result<Primitive>) -> Self {
        let target = Name::new(name).and_then(|name| Ok(Target { name, primitive: primitive? }));
        Self {
            engine: engine.clone(),
            target: target.map_err(|error| error.with_lock(name).with_backend(engine.kind)),
            options: options.clone(),
            slot: OnceLock::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match &self.target {
            Ok(target) => target.name.as_str(),
            Err(error) => error.lock().unwrap_or_default(),
        }
    }

    /// The options, for a copy that has others.
    pub(crate) fn with_options(&self, change: impl FnOnce(&mut LockOptions)) -> Self {
        let mut options = self.options.clone();
        change(&mut options);
        Self { engine: self.engine.clone(), target: self.target.clone(), options, slot: OnceLock::new() }
    }

    /// How long a hold lasts unless it is renewed, which is done for as long as the guard lives. Default: the
    /// backend's, mostly 30 s. A shorter lease frees the locks of dead processes sooner and bears shorter faults.
    /// Refused at the acquire by backends whose holds don't expire.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with_options(|options| options.lease = Some(lease))
    }

    /// The longest pause between two attempts, on backends where waiting is polling. Default: the backend's.
    #[must_use]
    pub fn retry(self, pause: Duration) -> Self {
        self.with_options(|options| options.retry = Some(pause))
    }

    /// How long a holder may keep the lock: after that time it is told that the lock is lost
    /// ([`HoldLimit`](crate::LossReason::HoldLimit)) and the lock is given back. Default: no limit.
    #[must_use]
    pub fn hold_at_most(self, limit: Duration) -> Self {
        self.with_options(|options| options.hold_at_most = Some(limit))
    }

    fn slot(&self) -> Result<&Arc<Slot>> {
        let made = self.slot.get_or_init(|| {
            let target = self.target.clone()?;
            self.engine.slot(target, self.options.clone())
        });
        made.as_ref().map_err(Error::clone)
    }

    /// Checks name and options without asking the backend for anything.
    pub(crate) fn prepare(&self) -> Result<()> {
        self.slot().map(drop)
    }

    pub(crate) async fn tenancy(&self, wait: Wait) -> Result<Option<Tenancy>> {
        let slot = self.slot()?;
        match (slot.attempt_here(wait)?, wait) {
            (AtOnce::Acquired(tenancy), _) => return Ok(Some(tenancy)),
            (AtOnce::Contended, Wait::No) => return Ok(None),
            (AtOnce::Contended | AtOnce::NotAsked, _) => {}
        }
        let span = tracing::debug_span!(
            "acquire",
            lock.name = self.name(),
            lock.backend = self.engine.kind,
            lock.primitive = slot.spec.target.primitive.as_str(),
        );
        let acquired = Acquire::new(slot.clone(), wait).instrument(span).await?;
        if acquired.is_none() && wait != Wait::No {
            self.contended(slot)?;
        }
        Ok(acquired)
    }

    /// That others had the lock all the time; or an error, if it was for want of a quorum.
    fn contended(&self, slot: &Slot) -> Result<()> {
        let votes = self.engine.backend.refusal(&slot.spec);
        match votes.filter(|votes| votes.verdict() == Verdict::NoQuorum) {
            None => Ok(()),
            Some(votes) => Err(Error::new(ErrorKind::NoQuorum, "too few nodes could vote until the time was over")
                .with_advice("look at the nodes that failed, or wait longer for those that have no say for a while")
                .with_votes(votes)
                .with_lock(self.name())
                .with_backend(self.engine.kind)),
        }
    }

    pub(crate) fn timed_out(&self, limit: Option<Duration>) -> Error {
        let message = match limit {
            Some(limit) => format!("others held it for {limit:?}"),
            None => "it was not to be had".into(),
        };
        let error = Error::new(ErrorKind::TimedOut, message).with_lock(self.name()).with_backend(self.engine.kind);
        match self.slot().ok().and_then(|slot| self.engine.backend.refusal(&slot.spec)) {
            Some(votes) => error.with_votes(votes),
            None => error,
        }
    }

    /// Acquires the lock if it can be had now: exactly one attempt. `None`: others hold it.
    ///
    /// # Errors
    ///
    /// Whatever keeps the attempt from being made: `InvalidName`, `Misconfigured`, `Unsupported`, `Unavailable`,
    /// `NoQuorum`, `Closed`. Contention is no error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind; what may have been granted is given back in the background.
    ///
    /// # Cost
    ///
    /// One round trip, bounded by the limit of an operation (2 s, or a sixth of the lease if that is less); one more
    /// durable write where a token is asked for and is not free. On local backends, system calls on this thread.
    pub async fn try_acquire(&self) -> Result<Option<Guard>> {
        Ok(self.tenancy(Wait::No).await?.map(Guard))
    }

    /// Acquires the lock, waiting for it at most this long. `None`: others held it all the time. Zero is one attempt,
    /// [`Duration::MAX`] no limit.
    ///
    /// # Errors
    ///
    /// As [`Self::try_acquire`], and `Deadlock` where the server finds one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind: it loses its place in the queue, and what may have been granted is
    /// given back in the background.
    ///
    /// # Cost
    ///
    /// As [`Self::acquire`]. It returns at most 50 ms after its time, even if the server hangs.
    pub async fn try_acquire_for(&self, limit: Duration) -> Result<Option<Guard>> {
        Ok(self.tenancy(limit.into()).await?.map(Guard))
    }

    /// Acquires the lock, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// As [`Self::try_acquire_for`]. A server that is down makes it fail; it does not wait for it to come back.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::try_acquire_for`].
    ///
    /// # Cost
    ///
    /// One round trip if the lock is free. While it isn't, one waiter per process stands in the backend's queue or
    /// waits for its push; the others wait in this process and cost nothing.
    pub async fn acquire(&self) -> Result<Guard> {
        self.tenancy(Wait::Forever).await?.map(Guard).ok_or_else(|| self.timed_out(None))
    }

    /// Acquires the lock, waiting for it at most this long.
    ///
    /// # Errors
    ///
    /// As [`Self::try_acquire_for`], and `TimedOut` if others held the lock all the time.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::try_acquire_for`].
    ///
    /// # Cost
    ///
    /// As [`Self::try_acquire_for`].
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Guard> {
        self.try_acquire_for(limit).await?.ok_or_else(|| self.timed_out(Some(limit)))
    }

    /// The same lock, whose guards all have a fencing token.
    ///
    /// # Errors
    ///
    /// `Unsupported` at once if the backend gives no tokens.
    pub fn fenced(&self) -> Result<Fenced> {
        if self.engine.capabilities.fencing == Fencing::None {
            return Err(Error::unsupported("this backend gives no fencing tokens")
                .with_lock(self.name())
                .with_backend(self.engine.kind));
        }
        Ok(Fenced(self.with_options(|options| options.token = true)))
    }

    /// Acquires the lock, does the work, and releases. If the lock is lost meanwhile the work's future is dropped.
    ///
    /// The work gets a [`Held`], whose [`stopping`](Held::stopping) warns it a sixth of the lease before the end.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire`], and `Lost` if the lock was lost before the work was done. Errors of the work itself are
    /// part of its result.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the work and gives the lock back in the background.
    ///
    /// # Cost
    ///
    /// That of [`Self::acquire`] and [`Guard::release`].
    pub async fn run<F, Fut, T>(&self, work: F) -> Result<T>
    where
        F: FnOnce(Held) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        run::run(self.acquire().await?, work).await
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Lock");
        match &self.target {
            Ok(target) => shown.field("name", &target.name).field("primitive", &target.primitive),
            Err(error) => shown.field("error", error),
        };
        shown.field("backend", &self.engine.kind).field("options", &self.options).finish()
    }
}

/// A mutex: one holder. Its methods are those of [`Lock`].
#[derive(Debug, Clone)]
pub struct Mutex(Lock);

/// A semaphore: as many holders as it has permits. Its methods are those of [`Lock`]; a guard is one permit.
///
/// All users of a name should agree on the number of permits; what happens otherwise is said on each backend's page.
#[derive(Debug, Clone)]
pub struct Semaphore {
    lock: Lock,
    permits: u32,
}

impl Mutex {
    pub(crate) fn new(engine: &Arc<Engine>, options: &LockOptions, name: &str) -> Self {
        Self(Lock::new(engine, options, name, Ok(Primitive::Mutex)))
    }

    /// See [`Lock::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.lease(lease))
    }

    /// See [`Lock::retry`].
    #[must_use]
    pub fn retry(self, pause: Duration) -> Self {
        Self(self.0.retry(pause))
    }

    /// See [`Lock::hold_at_most`].
    #[must_use]
    pub fn hold_at_most(self, limit: Duration) -> Self {
        Self(self.0.hold_at_most(limit))
    }
}

impl Semaphore {
    pub(crate) fn new(engine: &Arc<Engine>, options: &LockOptions, name: &str, permits: u32) -> Self {
        let primitive = NonZeroU32::new(permits)
            .map(Primitive::Permit)
            .ok_or_else(|| Error::misconfigured("a semaphore needs at least one permit"));
        Self { lock: Lock::new(engine, options, name, primitive), permits }
    }

    /// How many permits there are.
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// See [`Lock::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lock: self.lock.lease(lease), ..self }
    }

    /// See [`Lock::retry`].
    #[must_use]
    pub fn retry(self, pause: Duration) -> Self {
        Self { lock: self.lock.retry(pause), ..self }
    }

    /// See [`Lock::hold_at_most`].
    #[must_use]
    pub fn hold_at_most(self, limit: Duration) -> Self {
        Self { lock: self.lock.hold_at_most(limit), ..self }
    }
}

impl Deref for Mutex {
    type Target = Lock;

    fn deref(&self) -> &Lock {
        &self.0
    }
}

impl Deref for Semaphore {
    type Target = Lock;

    fn deref(&self) -> &Lock {
        &self.lock
    }
}
