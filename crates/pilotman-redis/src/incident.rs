//! What happens to a server and can cost locks.

use std::fmt;
use std::time::Duration;

/// Something that happened to a server and can have cost locks. It is logged, and told to
/// [`RedisNode::on_incident`](crate::RedisNode::on_incident).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incident {
    /// The server.
    pub server: String,
    /// What happened.
    pub kind: IncidentKind,
}

/// What happened to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IncidentKind {
    /// It was started anew (its run id is another): what it had not written to disk is gone.
    Restarted,
    /// Another server became the primary, or this one did (the replication id is another): what it had not received is
    /// gone.
    Promoted,
    /// Its data was removed: a mark that we leave there is gone.
    Flushed,
    /// Its clock was set; leases end by it. Forward ends them early.
    ClockStepped {
        /// By how much.
        by: Duration,
        /// Whether it was set forward.
        forward: bool,
    },
    /// The connection to it ended.
    Disconnected,
}

impl IncidentKind {
    /// The stable lower-case name, as it stands in logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::Promoted => "promoted",
            Self::Flushed => "flushed",
            Self::ClockStepped { .. } => "clock_stepped",
            Self::Disconnected => "disconnected",
        }
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        match &self.kind {
            IncidentKind::Restarted => write!(f, "{server} was started anew"),
            IncidentKind::Promoted => write!(f, "{server} became the primary"),
            IncidentKind::Flushed => write!(f, "the data of {server} was removed"),
            IncidentKind::ClockStepped { by, forward } => {
                let direction = if *forward { "forward" } else { "back" };
                write!(f, "the clock of {server} was set {direction} by {by:?}")
            }
            IncidentKind::Disconnected => write!(f, "the connection to {server} ended"),
        }
    }
}
