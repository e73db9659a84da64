//! The engine: everything about holding a lock that does not depend on the backend.
//!
//! | file | what it does |
//! |---|---|
//! | `queue` | who of this process is next |
//! | `slot` | one lock of this process: its queue and what the backend prepared for it |
//! | `acquire` | the future of an acquire: fast path, time-outs, cancellation |
//! | `driver` | asks the backend on behalf of the first waiter |
//! | `hold` | a hold: its state, its loss, its way back |
//! | `deadlines` | tells the loss of a lease in time, whatever else hangs |
//! | `keeper` | renews leases, many at once |
//! | `releaser` | gives back in the background |
//! | `io` | the thread on which all of this runs |

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::backend::{Attempt, AttemptId, Backend, Environment, Events, Spec};
use crate::clock::{Clock, Time};
use crate::random::Random;
use crate::sync::lock;
use crate::{Capabilities, Error, ErrorKind, LockOptions, LossReason, Result, Target};

mod acquire;
mod deadlines;
mod driver;
mod hold;
mod io;
mod keeper;
pub(crate) mod queue;
mod releaser;
pub(crate) mod select;
mod slot;

pub(crate) use acquire::{Acquire, AtOnce, Wait};
pub(crate) use hold::{Ended, Hold, Tenancy};
pub(crate) use slot::Slot;

/// An operation without a lease to bound it may take this long.
const OPERATION_LIMIT: Duration = Duration::from_secs(2);
/// `close` waits this long for background releases, and as long again for the backend.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(crate) struct Engine {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) kind: &'static str,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    runtime: Option<Handle>,
    slots: Mutex<HashMap<(Target, LockOptions), Weak<Slot>>>,
    /// Holds about which the backend may report, by id.
    reported: Mutex<HashMap<AttemptId, Weak<Hold>>>,
    deadlines: Arc<deadlines::Deadlines>,
    keeper: Arc<keeper::Keeper>,
    releaser: releaser::Releaser,
    closed: AtomicBool,
    backend_closed: AtomicBool,
    generation: u32,
    /// The unguessable half of attempt ids, drawn with the first attempt.
    id_prefix: OnceLock<u64>,
    next_id: AtomicU64,
}

impl Engine {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        runtime: Option<Handle>,
    ) -> Arc<Self> {
        crate::fork::count();
        let engine = Arc::new_cyclic(|this: &Weak<Self>| Self {
            kind: backend.kind(),
            capabilities: backend.capabilities(),
            backend,
            deadlines: deadlines::Deadlines::new(clock.clone()),
            keeper: keeper::Keeper::new(this.clone()),
            releaser: releaser::Releaser::new(this.clone()),
            clock,
            random,
            runtime,
            slots: Mutex::default(),
            reported: Mutex::default(),
            closed: AtomicBool::new(false),
            backend_closed: AtomicBool::new(false),
            generation: crate::fork::generation(),
            id_prefix: OnceLock::new(),
            next_id: AtomicU64::new(0),
        });
        let sink: Weak<dyn crate::backend::Sink> = Arc::downgrade(&engine) as _;
        engine.backend.start(Environment {
            clock: engine.clock.clone(),
            random: engine.random.clone(),
            events: Events::new(sink),
        });
        engine
    }

    /// The slot of a target with these options, new or shared.
    pub(crate) fn slot(self: &Arc<Self>, target: Target, options: LockOptions) -> Result<Arc<Slot>> {
        let name = target.name.shared();
        let about = |error: Error| error.with_lock(&name).with_backend(self.kind);
        if !self.capabilities.supports(target.primitive)
            && let Some(error) = self.backend.unsupported(target.primitive)
        {
            return Err(about(error));
        }
        self.capabilities.check(&target, &options).map_err(about)?;
        let key = (target, options);
        if let Some(slot) = lock(&self.slots).get(&key).and_then(Weak::upgrade) {
            return Ok(slot);
        }
        // Foreign code, so not under the mutex; whoever is faster makes the slot.
        let prepared = self.backend.prepare(&key.0, &key.1).map_err(about)?;
        let lease = self.capabilities.lease.and_then(|bounds| key.1.lease.or(bounds.default));
        let spec = Spec { target: key.0.clone(), options: key.1.clone(), lease, prepared };
        let slot = Arc::new(Slot::new(Arc::new(spec), self));
        let mut slots = lock(&self.slots);
        if let Some(faster) = slots.get(&key).and_then(Weak::upgrade) {
            // The one that is not needed looks at the slots when it is dropped.
            drop(slots);
            return Ok(faster);
        }
        slots.insert(key, Arc::downgrade(&slot));
        Ok(slot)
    }

    fn forget_slot(&self, target: &Target, options: &LockOptions) {
        let key = (target.clone(), options.clone());
        let mut slots = lock(&self.slots);
        if slots.get(&key).is_some_and(|slot| slot.strong_count() == 0) {
            slots.remove(&key);
        }
    }

    /// Refuses work after `close` and in a forked child.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::new(
                ErrorKind::Closed,
                "these locks belong to the process that this one was forked from",
            )
            .with_advice("make new ones in the child")
            .with_backend(self.kind));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "these locks have been closed").with_backend(self.kind));
        }
        Ok(())
    }

    fn is_forked(&self) -> bool {
        self.generation != crate::fork::generation()
    }

    fn attempt(&self, slot: &Slot, waits: bool) -> Attempt {
        let prefix = *self.id_prefix.get_or_init(|| self.random.next());
        let count = self.next_id.fetch_add(1, Ordering::Relaxed);
        let id = AttemptId(u128::from(prefix) << 64 | u128::from(count));
        Attempt { id, spec: slot.spec.clone(), waits }
    }

    /// How long one operation may take: it must leave room for others within the lease.
    pub(crate) fn operation_limit(&self, lease: Option<Duration>) -> Duration {
        lease.map_or(OPERATION_LIMIT, |lease| OPERATION_LIMIT.min(lease / 6))
    }

    /// Runs a task on the I/O thread, or on the runtime that was handed in.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        match &self.runtime {
            // The task reports what it finds itself; nobody waits for its end.
            Some(handle) => drop(handle.spawn(task)),
            None => io::thread()?.spawn(task),
        }
        Ok(())
    }

    /// Runs a future that needs the I/O runtime to its end, wherever it is polled from.
    pub(crate) async fn on_io<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            // A receiver that is gone no longer wants to know.
            let _ = sender.send(work.await);
        })?;
        receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the I/O runtime has ended")))
    }

    /// Whether the backend reports about holds that nobody has asked it to watch.
    fn reports(&self) -> bool {
        self.backend.local().is_none() || self.capabilities.lease.is_some()
    }

    fn forget_report(&self, hold: &Hold) {
        lock(&self.reported).remove(&hold.id());
    }

    /// Lets the backend's reports about this hold reach it.
    fn report_to(&self, hold: &Arc<Hold>) {
        lock(&self.reported).insert(hold.id(), Arc::downgrade(hold));
    }

    fn reported(&self, id: AttemptId) -> Option<Arc<Hold>> {
        lock(&self.reported).get(&id)?.upgrade()
    }

    /// See [`Locks::close`](crate::Locks::close).
    pub(crate) async fn close(self: &Arc<Self>) {
        if self.is_forked() {
            return;
        }
        if !self.closed.swap(true, Ordering::AcqRel) {
            let slots: Vec<_> = lock(&self.slots).values().filter_map(Weak::upgrade).collect();
            for slot in slots {
                slot.refuse(&Error::new(ErrorKind::Closed, "the locks were closed during the wait"));
            }
        }
        // Local backends have nothing that lives on the I/O thread, which need not be started for them.
        if self.backend.local().is_some() {
            return self.drain().await;
        }
        let engine = self.clone();
        let drained = self.on_io(async move {
            engine.drain().await;
            Ok(())
        });
        if let Err(error) = drained.await {
            tracing::warn!(%error, lock.backend = self.kind, "closed without waiting for what was under way");
        }
    }

    /// Waits for what is under way, then closes the backend unless holds are out, with the last of which it goes.
    async fn drain(&self) {
        if select::within(&self.clock, CLOSE_LIMIT, self.releaser.idle()).await.is_none() {
            tracing::warn!(
                lock.backend = self.kind,
                pending = self.releaser.pending(),
                "closed before everything was given back; the backend frees the rest itself, at the latest when its leases end"
            );
        }
        if !self.has_holds() && !self.backend_closed.swap(true, Ordering::AcqRel) {
            select::within(&self.clock, CLOSE_LIMIT, self.backend.close()).await;
        }
    }

    /// Whether any hold of this process is out.
    fn has_holds(&self) -> bool {
        let slots: Vec<_> = lock(&self.slots).values().filter_map(Weak::upgrade).collect();
        slots.iter().any(|slot| slot.queue().out() > 0)
    }

    /// The backend of closed locks is closed with the last hold.
    fn hold_ended(self: &Arc<Self>) {
        let last = self.closed.load(Ordering::Acquire) && !self.has_holds();
        if last && !self.backend_closed.swap(true, Ordering::AcqRel) {
            let backend = self.backend.clone();
            // With the runtime gone there are no connections left to close.
            let _ = self.spawn(async move { backend.close().await });
        }
    }
}

impl crate::backend::Sink for Engine {
    fn lost(&self, id: AttemptId, reason: LossReason) {
        if let Some(hold) = self.reported(id) {
            hold.lose(reason, None);
        }
    }

    fn at_risk(&self, id: AttemptId) {
        if let Some(hold) = self.reported(id) {
            hold.set_at_risk(true);
        }
    }

    fn extended(&self, id: AttemptId, valid_from: Time) {
        if let Some(hold) = self.reported(id) {
            hold.extend(valid_from);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("backend", &self.backend).finish_non_exhaustive()
    }
}
