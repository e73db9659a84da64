//! Ends waits from another thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::sync::{Wakers, lock, wake_all};

/// Ends blocking waits from another thread. Clones are the same token; cancelling is final. It never affects a lock
/// that is held.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    waiting: Mutex<Wakers>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the waits that use this token, now and later.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        let waiting = lock(&self.0.waiting).take();
        wake_all(waiting);
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Completes when it is cancelled.
    pub(super) fn cancelled(&self) -> Cancelled<'_> {
        Cancelled { token: self, id: None }
    }
}

/// See [`CancelToken::cancelled`].
pub(super) struct Cancelled<'a> {
    token: &'a CancelToken,
    id: Option<u64>,
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = lock(&self.token.0.waiting);
        if self.token.is_cancelled() {
            return Poll::Ready(());
        }
        waiting.set(&mut self.id, cx.waker());
        Poll::Pending
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = lock(&self.token.0.waiting).remove(id);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_token_keeps_nothing_of_waits_that_are_over() {
        let token = CancelToken::new();
        for _ in 0..10 {
            let mut wait = Box::pin(token.cancelled());
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(lock(&token.0.waiting).take().is_empty());
        token.cancel();
        pollster::block_on(token.cancelled());
    }
}
