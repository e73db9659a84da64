//! The few combinators that the engine needs, so that it needs no executor's macros.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{Clock, Sleep};

/// Which of two futures came first. The first is looked at first.
pub(crate) enum Either<A, B> {
    First(A),
    Second(B),
}

/// Waits for the first of two futures; the other one stays as it is.
pub(crate) async fn either<A: Future, B: Future>(
    mut a: Pin<&mut A>,
    mut b: Pin<&mut B>,
) -> Either<A::Output, B::Output> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(first) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::First(first));
        }
        b.as_mut().poll(cx).map(Either::Second)
    })
    .await
}

/// Waits for `work`, at most for `limit`. `None`: it took longer and was dropped.
pub(crate) async fn within<F: Future>(clock: &Arc<dyn Clock>, limit: Duration, work: F) -> Option<F::Output> {
    let (work, limit) = (pin!(work), pin!(Sleep::new(clock.clone(), limit)));
    match either(work, limit).await {
        Either::First(done) => Some(done),
        Either::Second(()) => None,
    }
}
