//! An answer that a driver can't cope with is an error, not the end of the task.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs what a driver does. Should it panic, that becomes the error that `broken` makes of what is to be said; the connection has to be
/// given up then, as after any error that is not the server's.
///
/// # Errors
///
/// Those of `work`, and `broken`'s.
///
/// # Cancel safety
///
/// That of `work`.
///
/// # Cost
///
/// Nothing beside `work`.
pub async fn calmly<T, E>(
    work: impl Future<Output = Result<T, E>> + Send,
    broken: impl Fn(&'static str) -> E + Send,
) -> Result<T, E> {
    let mut work = pin!(work);
    poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(broken("the server's answer is none that the driver knows"))))
    })
    .await
}
