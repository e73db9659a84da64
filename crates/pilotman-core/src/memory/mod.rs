//! Locks inside one process: for tests, and for programs that are one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use crate::backend::{
    Attempt, Backend, BoxFuture, Environment, Grant, Holder, Holding, Inspection, LocalBackend, Outcome, Prepared,
    Released, Renewal,
};
use crate::clock::{Sleep, SystemClock};
use crate::random::SystemRandom;
use crate::{Capabilities, Error, ErrorKind, Fencing, LeaseBounds, LockOptions, LossReason, Result, Target, Waiting};

mod entry;
mod space;

use space::{Key, Space};

/// A backend whose locks live in this process.
///
/// Holds don't expire unless a lease is asked for ([`Lock::lease`](crate::Lock::lease)) or set
/// ([`Self::default_lease`]); then they behave like those of a server with leases, which is good for tests. Fencing
/// tokens come with every hold; they increase over all names for as long as the process lives. A waiting writer keeps
/// new readers out; waiters are served in the order in which they came. Names that nobody holds or waits for cost
/// nothing.
pub struct MemoryBackend {
    space: Arc<Space>,
    default_lease: Option<Duration>,
    environment: OnceLock<Environment>,
}

impl MemoryBackend {
    /// A space of its own: only who uses these same `Locks` shares its locks.
    pub fn new() -> Self {
        Self::in_space(Arc::default())
    }

    /// The space of this name, which everybody in the process shares who asks for it while it is in use.
    pub fn shared(name: &str) -> Self {
        static SPACES: OnceLock<Mutex<HashMap<String, Weak<Space>>>> = OnceLock::new();
        let mut spaces = SPACES.get_or_init(Mutex::default).lock().unwrap();
        spaces.retain(|_, space| space.strong_count() > 0);
        if let Some(space) = spaces.get(name).and_then(Weak::upgrade) {
            return Self::in_space(space);
        }
        let backend = Self::new();
        spaces.insert(name.to_owned(), Arc::downgrade(&backend.space));
        backend
    }

    fn in_space(space: Arc<Space>) -> Self {
        Self { space, default_lease: None, environment: OnceLock::new() }
    }

    /// Gives holds a lease where their options name none.
    #[must_use]
    pub fn default_lease(mut self, lease: Duration) -> Self {
        self.default_lease = Some(lease);
        self
    }

    fn environment(&self) -> &Environment {
        // A backend that is driven without an engine, in a test say, has nobody to report to.
        self.environment.get_or_init(|| Environment {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom::new()),
            events: crate::backend::Events::new(Weak::<crate::engine::Engine>::new()),
        })
    }

    fn release_one(&self, hold: &Holding) -> Released {
        let now = self.environment().clock.now();
        let gone = self.space.with(&Key::of(&hold.attempt.spec.target), now, |entry| !entry.release(hold.attempt.id));
        match gone {
            true => Released::Gone(LossReason::Gone),
            false => Released::Free { others_wait: false },
        }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("default_lease", &self.default_lease).finish_non_exhaustive()
    }
}

impl Backend for MemoryBackend {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mutex: true,
            rw_lock: true,
            upgradeable: true,
            semaphore: true,
            writer_preference: true,
            fifo: true,
            fencing: Fencing::Free,
            fencing_scope: "strictly increasing over all names for as long as the process lives",
            waiting: Waiting::Queue,
            lease: Some(LeaseBounds::new(Duration::from_millis(10), Duration::MAX, self.default_lease)),
            loss: true,
            cross_process: false,
            frees_dead_holder_within: Duration::ZERO,
            inspect: true,
            list: true,
            force_release: true,
            unverified: None,
        }
    }

    fn start(&self, environment: Environment) {
        // Only the first engine counts: a backend belongs to one.
        let _ = self.environment.set(environment);
    }

    fn prepare(&self, _: &Target, _: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(()))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(target.name.as_str().to_owned())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn local(&self) -> Option<&dyn LocalBackend> {
        Some(self)
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async { LocalBackend::try_acquire(self, attempt) })
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(async move {
            let Environment { clock, events, .. } = self.environment();
            let key = Key::of(&attempt.spec.target);
            let mut pushed = match self.space.with(&key, clock.now(), |entry| entry.enqueue(attempt, events)) {
                Ok(grant) => return Ok(grant),
                Err(pushed) => pushed,
            };
            loop {
                // Somebody has to look when a lease ends.
                let expiry = self.space.with(&key, clock.now(), |entry| entry.next_expiry());
                let expired = std::pin::pin!(Sleep::until(clock.clone(), expiry));
                match crate::engine::select::either(std::pin::pin!(&mut pushed), expired).await {
                    crate::engine::select::Either::First(grant) => {
                        return grant.map_err(|_| Error::new(ErrorKind::Internal, "the queue was dropped"));
                    }
                    crate::engine::select::Either::Second(()) => {}
                }
            }
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let now = self.environment().clock.now();
            let abandon = |attempt: &Attempt| {
                self.space.with(&Key::of(&attempt.spec.target), now, |entry| entry.abandon(attempt.id));
                Ok(())
            };
            attempts.iter().map(abandon).collect()
        })
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(async move {
            let now = self.environment().clock.now();
            let renew = |hold: &Arc<Holding>| {
                let attempt = &hold.attempt;
                let key = Key::of(&attempt.spec.target);
                Ok(match self.space.with(&key, now, |entry| entry.renew(attempt, now)) {
                    true => Renewal::Renewed { valid_from: None },
                    false => Renewal::Gone(LossReason::Gone),
                })
            };
            holds.iter().map(renew).collect()
        })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move { holds.iter().map(|hold| Ok(self.release_one(hold))).collect() })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async { LocalBackend::mint(self, hold) })
    }

    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Environment { clock, .. } = self.environment();
            let key = Key::of(&hold.attempt.spec.target);
            let id = hold.attempt.id;
            let _withdraw = Withdraw { backend: self, key: key.clone(), id };
            let mut pushed = match self.space.with(&key, clock.now(), |entry| entry.upgrade(id)) {
                Some(pushed) => pushed,
                None => return Err(Error::lost(LossReason::Gone)),
            };
            loop {
                let expiry = self.space.with(&key, clock.now(), |entry| entry.next_expiry());
                let expired = std::pin::pin!(Sleep::until(clock.clone(), expiry));
                match crate::engine::select::either(std::pin::pin!(&mut pushed), expired).await {
                    crate::engine::select::Either::First(Ok(())) => return Ok(()),
                    crate::engine::select::Either::First(Err(_)) => return Err(Error::lost(LossReason::Gone)),
                    crate::engine::select::Either::Second(()) => {}
                }
            }
        })
    }

    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let now = self.environment().clock.now();
            let key = Key::of(&hold.attempt.spec.target);
            self.space
                .with(&key, now, |entry| entry.try_upgrade(hold.attempt.id))
                .ok_or_else(|| Error::lost(LossReason::Gone))
        })
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        let now = self.environment().clock.now();
        let key = Key::of(&hold.attempt.spec.target);
        let held = self.space.with(&key, now, |entry| entry.holds(hold.attempt.id));
        (!held).then_some(LossReason::Gone)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        // From now on a loss is reported when it happens; one that has happened already is not.
        if let Some(reason) = self.verify(hold) {
            self.environment().events.lost(hold.attempt.id, reason);
        }
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let now = self.environment().clock.now();
            let key = Key::of(target);
            Ok(self.space.with(&key, now, |entry| entry.inspect(target.name.as_str(), now)))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async { Ok(self.space.list(self.environment().clock.now())) })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let now = self.environment().clock.now();
            let key = Key::of(target);
            let (holders, told) = self.space.with(&key, now, |entry| entry.break_all(now));
            for (events, id) in told {
                events.lost(id, LossReason::Gone);
            }
            Ok(holders)
        })
    }
}

impl LocalBackend for MemoryBackend {
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome> {
        let Environment { clock, events, .. } = self.environment();
        let now = clock.now();
        Ok(self.space.with(&Key::of(&attempt.spec.target), now, |entry| entry.try_acquire(attempt, events)))
    }

    fn release(&self, hold: &Holding) -> Result<Released> {
        Ok(self.release_one(hold))
    }

    fn mint(&self, hold: &Holding) -> Result<u64> {
        let now = self.environment().clock.now();
        let minted = self.space.with(&Key::of(&hold.attempt.spec.target), now, |entry| entry.mint(hold.attempt.id));
        minted.ok_or_else(|| Error::lost(LossReason::Gone))
    }
}

/// Takes back the wish for an upgrade when its future is dropped.
struct Withdraw<'a> {
    backend: &'a MemoryBackend,
    key: Key,
    id: crate::backend::AttemptId,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let now = self.backend.environment().clock.now();
        self.backend.space.with(&self.key, now, |entry| entry.withdraw_upgrade(self.id));
    }
}

/// The wall clock, for people.
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
