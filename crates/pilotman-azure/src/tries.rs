//! Requests that are made again when the service is busy or the connection has failed. The SDK's own retries are off: they
//! don't know how long a lease is, nor that a second answer may tell of the first.

use std::time::Duration;

use pilotman_core::backend::Environment;
use pilotman_core::clock::Sleep;

use crate::failure;

/// So often a request is made at most.
const MOST: u32 = 3;
/// The shortest pause after the first try; each is up to three times as long as the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(60);

/// The last answer.
pub(crate) struct Tried<T> {
    pub(crate) answer: azure_core::Result<T>,
    /// A try before that may have been carried out.
    pub(crate) unsure: bool,
}

/// Makes a request, and makes it again if that can help. What it does must be the same if it is done twice.
pub(crate) async fn try_again<T, F>(environment: Option<&Environment>, mut request: impl FnMut() -> F) -> Tried<T>
where
    F: Future<Output = azure_core::Result<T>>,
{
    let (mut tries, mut pause, mut unsure) = (1, FIRST_PAUSE, false);
    loop {
        match (request().await, environment) {
            (Err(error), Some(environment)) if tries < MOST && failure::is_transient(&error) => {
                unsure |= failure::may_be_done(&error);
                let jitter = Duration::from_nanos(environment.random.next() % (2 * pause).as_nanos() as u64);
                Sleep::new(environment.clock.clone(), pause + jitter).await;
                (tries, pause) = (tries + 1, pause * 3);
            }
            (answer, _) => return Tried { answer, unsure },
        }
    }
}
