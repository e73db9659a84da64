//! Holds without an end are not renewed, so that nothing would find out that they are gone. Where somebody wants to be told, they
//! are looked after.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pilotman_core::LossReason;
use pilotman_core::backend::Holding;
use pilotman_core::clock::Sleep;

use crate::hold::{self, Lock, lease_id};
use crate::store::{Store, within};

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// Looks after a hold until it is gone or nobody has it any longer.
pub(crate) async fn look_after(store: Arc<Store>, lock: Lock, holding: Weak<Holding>) {
    let Some(environment) = store.environment() else { return };
    while let Some(id) = holding.upgrade().map(|holding| holding.attempt.id) {
        // Renewing a lease without an end changes nothing, and fails if it is not ours.
        match within(Some(environment), LIMIT, hold::renew(&store, &lock.blob, &lease_id(id))).await {
            Some(Ok(false)) => return environment.events.lost(id, LossReason::Gone),
            Some(Err(error)) => tracing::debug!(%error, "a lease without an end could not be looked at"),
            Some(Ok(true)) | None => {}
        }
        Sleep::new(environment.clock.clone(), EVERY).await;
    }
}
