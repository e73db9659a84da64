//! How many sessions there are, and how they are kept.

use std::time::Duration;

/// How many sessions there are, and how they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// How many sessions there are at most. Default: 64.
    pub max_sessions: usize,
    /// How many of them may wait for locks at the same time; further waits stand in line in this process, and try from time
    /// to time. Default: 16.
    pub max_waiting: usize,
    /// How long a session that holds nothing is kept. Default: 60 s.
    pub idle: Duration,
    /// So many sessions that hold nothing are kept however long they are idle. Default: 1.
    pub warm: usize,
    /// How long a server may take to answer, whatever it is asked, before its session is given up. A session with holds that has
    /// been silent for half of it is asked whether it is there: so a server that hangs is told as a loss within 1.5 heartbeats.
    /// Default: 5 s.
    pub heartbeat: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            max_sessions: 64,
            max_waiting: 16,
            idle: Duration::from_secs(60),
            warm: 1,
            heartbeat: Duration::from_secs(5),
        }
    }
}
