//! Mutexes whose holders leave nothing half done: a panic elsewhere is no reason to fail here too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes foreign code. If some of it panics, the others are woken all the same. No mutex may be held meanwhile.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a task panicked while it was woken");
        }
    }
}

/// Those who wait for something that happens once. Each takes itself out when it no longer waits.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Vec<(u64, Waker)>,
    next: u64,
}

impl Wakers {
    /// Notes or renews a waker. `id` is the waiter's own, made with the first call.
    pub(crate) fn set(&mut self, id: &mut Option<u64>, waker: &Waker) {
        let id = *id.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self.waiting.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push((id, waker.clone())),
        }
    }

    /// Takes out a waiter. What is returned must be dropped when no mutex is held: wakers are foreign code.
    #[must_use]
    pub(crate) fn remove(&mut self, id: u64) -> Option<Waker> {
        let at = self.waiting.iter().position(|(known, _)| *known == id)?;
        Some(self.waiting.swap_remove(at).1)
    }

    /// Takes out all.
    #[must_use]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, waker)| waker).collect()
    }
}
