//! One lock of this process: its queue, and what the backend prepared for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::queue::Queue;
use super::{Engine, Tenancy};
use crate::backend::Spec;
use crate::clock::{Clock, Time};
use crate::metrics::Labels;
use crate::{Error, Result, Waiting};

/// Where a waiter gets what it waits for.
pub(super) type Waiter = oneshot::Sender<Result<Option<Tenancy>>>;

/// How long this process stands back when others were seen waiting for what it gave back. A waiter that is woken needs a
/// tenth of that; without the pause, who releases and comes again at once would always be faster.
const YIELD: Duration = Duration::from_millis(1);

/// Where waiting is polling, the longest pause unless the options say otherwise.
const POLL_LONGEST: Duration = Duration::from_millis(500);

/// See the [module](self). Shared by all handles of one name with equal options; forgotten with the last of them.
pub(crate) struct Slot {
    pub(crate) spec: Arc<Spec>,
    pub(super) labels: Labels,
    queue: Mutex<Queue<Waiter>>,
    /// Until when others go first, as a [`Time`]; zero: they don't.
    yield_until: AtomicU64,
    /// Tells the driver that the queue has changed.
    pub(super) changed: Notify,
    pub(super) engine: Arc<Engine>,
}

impl Slot {
    pub(super) fn new(spec: Arc<Spec>, engine: &Arc<Engine>) -> Self {
        Self {
            labels: Labels::new(engine.kind, &spec),
            queue: Mutex::new(Queue::new(spec.target.primitive.limit(), engine.capabilities.waiting == Waiting::Queue)),
            spec,
            yield_until: AtomicU64::new(0),
            changed: Notify::new(),
            engine: engine.clone(),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue<Waiter>> {
        // The queue's methods don't panic half-way, so a poisoned mutex means no broken queue.
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Others were seen waiting when a hold was given back: they go first.
    pub(super) fn let_others_go_first(&self, clock: &dyn Clock) {
        let pause = match self.engine.capabilities.waiting {
            // They look again after this time at the latest.
            Waiting::Poll => self.longest_pause(),
            Waiting::Queue | Waiting::Watch => YIELD,
        };
        self.yield_until.store(clock.now().after(pause).as_nanos(), Ordering::Relaxed);
    }

    /// The longest pause between two attempts where waiting is polling.
    pub(super) fn longest_pause(&self) -> Duration {
        self.spec.options.retry.unwrap_or(POLL_LONGEST)
    }

    /// Until when others go first, if they do.
    pub(super) fn yields_until(&self, clock: &dyn Clock) -> Option<Time> {
        let until = Time::from_nanos(self.yield_until.load(Ordering::Relaxed));
        if until == Time::ZERO {
            return None;
        }
        if clock.now() < until {
            return Some(until);
        }
        self.yield_until.store(0, Ordering::Relaxed);
        None
    }

    /// Adds the lock and the backend to an error.
    pub(super) fn about(&self, error: Error) -> Error {
        error.with_lock(self.spec.target.name.as_str()).with_backend(self.engine.kind)
    }

    /// Ends all waits with an error.
    pub(super) fn refuse(&self, error: &Error) {
        let waiters = self.queue().drain();
        self.changed.notify_one();
        for waiter in waiters {
            // A waiter that is gone needs no error.
            let _ = waiter.send(Err(self.about(error.clone())));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.engine.forget_slot(&self.spec.target, &self.spec.options);
    }
}
