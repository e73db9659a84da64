//! What a backend tells the engine without being asked.

use std::fmt;
use std::sync::Weak;

use super::AttemptId;
use crate::LossReason;
use crate::clock::Time;

/// Takes reports about holds. Cheap to clone; calls never block.
#[derive(Clone)]
pub struct Events(Weak<dyn Sink>);

pub(crate) trait Sink: Send + Sync {
    fn lost(&self, id: AttemptId, reason: LossReason);
    fn at_risk(&self, id: AttemptId);
    fn extended(&self, id: AttemptId, valid_from: Time);
}

impl Events {
    pub(crate) fn new(sink: Weak<dyn Sink>) -> Self {
        Self(sink)
    }

    /// The hold is gone.
    pub fn lost(&self, id: AttemptId, reason: LossReason) {
        if let Some(sink) = self.0.upgrade() {
            sink.lost(id, reason);
        }
    }

    /// The hold stands, but what keeps it does not work at the moment.
    pub fn at_risk(&self, id: AttemptId) {
        if let Some(sink) = self.0.upgrade() {
            sink.at_risk(id);
        }
    }

    /// The hold was renewed by the backend itself; its lease counts from `valid_from`.
    pub fn extended(&self, id: AttemptId, valid_from: Time) {
        if let Some(sink) = self.0.upgrade() {
            sink.extended(id, valid_from);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
