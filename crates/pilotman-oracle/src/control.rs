//! Ends sessions that can't be reached any more, over another connection.

use std::sync::Arc;
use std::time::Duration;

use pilotman_core::clock::Sleep;

use crate::connect::Connector;
use crate::failure;
use crate::statements::{self, SessionId};

/// A session is tried to be ended so often. What is left then ends when the database notices that the connection is gone.
const TRIES: u32 = 8;
/// The longest pause between two of them.
const PAUSE: Duration = Duration::from_secs(30);
/// It is not there; it will end as soon as it can.
const IS_ENDED: [Option<u32>; 2] = [Some(30), Some(31)];

/// See the [module](self). It takes a right that few users have; without it nothing more can be done here.
pub(crate) async fn end_session(connector: Arc<Connector>, id: SessionId) {
    let Ok(clock) = connector.environment().map(|environment| environment.clock.clone()) else { return };
    let backend = Arc::downgrade(&connector);
    let mut kept = Some(connector);
    let mut pause = Duration::from_millis(500);
    for _ in 0..TRIES {
        let Some(connector) = kept.take().or_else(|| backend.upgrade()) else { return };
        let limit = connector.oracle.connect_timeout;
        let ended = async {
            let worker = connector.log_in_to_control(limit).await?;
            let answer = worker.run(statements::kill(&id), limit).await;
            worker.close().await;
            Ok(answer)
        };
        let late = || pilotman_core::Error::unavailable("the database did not answer");
        match connector.within(limit * 2, ended, late).await {
            Ok(Ok(_)) => return,
            Ok(Err(failure)) if IS_ENDED.contains(&failure.code) => return,
            Ok(Err(failure)) if failure::is_forbidden(&failure) => {
                tracing::warn!(
                    lock.backend = "oracle",
                    session = id.sid,
                    "a session could not be reached any more, and this user may not end it: its locks stay until the \
                     database notices that its connection is gone"
                );
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a session could not be ended"),
            Err(error) => tracing::debug!(%error, "a session could not be ended"),
        }
        drop(connector);
        Sleep::new(clock.clone(), pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}
