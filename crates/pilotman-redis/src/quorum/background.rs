//! Work that goes on after the answer was given: late answers, giving back, filling up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// As much may go on at once of what can be left to the leases.
const MOST: usize = 4096;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Background(Arc<State>);

#[derive(Default)]
struct State {
    count: AtomicUsize,
    idle: Notify,
}

/// One that goes on, until this is dropped.
struct One(Arc<State>);

impl Drop for One {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Background {
    /// Runs this to its end, on the runtime of the caller, unless too much goes on already: for what would come by itself with
    /// the end of a lease.
    pub(super) fn run_if_possible(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.0.count.load(Ordering::Acquire) >= MOST {
            tracing::debug!(lock.backend = "redlock", "too much goes on in the background: leases end by themselves");
            return;
        }
        self.run(work);
    }

    /// Runs this to its end, on the runtime of the caller.
    pub(super) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        let one = One(self.0.clone());
        // Clock readings and pushes come from runtimes; elsewhere there is nobody to run it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let _one = one;
            work.await;
        });
    }

    /// Completes when nothing goes on.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            let mut idle = std::pin::pin!(idle);
            idle.as_mut().enable();
            if self.0.count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}
