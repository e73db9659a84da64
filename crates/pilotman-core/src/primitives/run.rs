//! Work that is cancelled when its lock is lost.

use std::future::Future;
use std::pin::pin;

use super::guard::{Guard, Held, HoldState};
use crate::clock::Sleep;
use crate::engine::select::{Either, either};
use crate::{Error, LossReason, Result};

pub(super) async fn run<F, Fut, T>(guard: Guard, work: F) -> Result<T>
where
    F: FnOnce(Held) -> Fut + Send,
    Fut: Future<Output = T> + Send,
    T: Send,
{
    let lost = guard.lost();
    let outcome = {
        let work = pin!(work(guard.held()));
        either(pin!(lost), work).await
    };
    match outcome {
        Either::First(reason) => {
            let error = Error::lost(reason).with_lock(guard.name()).with_backend(guard.held_backend());
            drop(guard);
            Err(error)
        }
        Either::Second(done) => {
            // The work is done and was done under the lock; that giving back takes longer is not its business, and
            // the engine goes on with it.
            if let Err(error) = guard.release().await {
                tracing::debug!(%error, "the release after the work goes on in the background");
            }
            Ok(done)
        }
    }
}

impl Guard {
    fn held_backend(&self) -> &'static str {
        self.0.hold().engine().kind
    }
}

impl Held {
    /// Completes when it is time to wind up: the lock is at risk and less than a sixth of its lease remains, or it is
    /// lost. Work that listens gets out before it is cancelled. Never completes after a release.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// A timer; nothing is sent.
    pub async fn stopping(&self) {
        let Some(lease) = self.lease() else {
            self.lost().await;
            return;
        };
        let grace = lease / 6;
        let mut lost = pin!(self.lost());
        loop {
            match self.state() {
                HoldState::Lost => return,
                HoldState::Released => std::future::pending().await,
                HoldState::Held | HoldState::AtRisk => {}
            }
            let remaining = self.remaining().unwrap_or(lease);
            if remaining <= grace {
                return;
            }
            let pause = pin!(Sleep::new(self.clock(), remaining - grace));
            let _: Either<LossReason, ()> = either(lost.as_mut(), pause).await;
        }
    }
}
