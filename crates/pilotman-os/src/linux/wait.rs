//! What the thread that waits for the whole process knows of one wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use crate::sync::lock;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Wait {
    /// Its entry in the table.
    pub(super) entry: u32,
    told: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// The owners of what stands in the way.
    blockers: Mutex<Vec<u64>>,
}

impl Wait {
    pub(super) fn new(entry: u32) -> Self {
        Self { entry, told: AtomicBool::new(false), waker: Mutex::default(), blockers: Mutex::default() }
    }

    /// Says whether they are others than before.
    pub(super) fn set_blockers(&self, blockers: Vec<u64>) -> bool {
        let mut known = lock(&self.blockers);
        let changed = *known != blockers;
        *known = blockers;
        changed
    }

    pub(super) fn blockers(&self) -> Vec<u64> {
        lock(&self.blockers).clone()
    }

    /// Another attempt is worth while.
    pub(super) fn tell(&self) {
        self.told.store(true, Ordering::SeqCst);
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        *lock(&self.waker) = Some(cx.waker().clone());
        if self.told.swap(false, Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}
