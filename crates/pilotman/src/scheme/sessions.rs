//! What the backends on database sessions have in common.

use pilotman_core::Result;
use pilotman_session::SessionOptions;

use crate::query::Query;

/// How many sessions there are, and how they are kept.
pub(super) fn read(query: &mut Query) -> Result<SessionOptions> {
    let mut options = SessionOptions::default();
    if let Some(most) = query.take_number("max-sessions")? {
        options.max_sessions = most as usize;
    }
    if let Some(most) = query.take_number("max-waiting")? {
        options.max_waiting = most as usize;
    }
    if let Some(pause) = query.take_duration("heartbeat")? {
        options.heartbeat = pause;
    }
    Ok(options)
}
