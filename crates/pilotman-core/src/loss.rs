//! Why a hold ended before it was released.

use std::borrow::Cow;
use std::fmt;

/// Why a hold ended before it was released.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// The lease ended before a renewal succeeded. Nobody else can have held the lock yet when this is told.
    Expired,
    /// The backend says that the hold is gone: somebody broke it, or the server forgot it.
    Gone,
    /// The connection or session that carried the hold ended.
    SessionEnded,
    /// What stood for the lock, such as a lock file, was replaced or removed: others may hold its successor.
    Replaced,
    /// It was held for as long as `hold_at_most` allows.
    HoldLimit,
    /// Another reason, which the backend gives.
    Other(Cow<'static, str>),
}

impl LossReason {
    /// The stable lower-case name, as it stands in logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::SessionEnded => "session_ended",
            Self::Replaced => "replaced",
            Self::HoldLimit => "hold_limit",
            Self::Other(_) => "other",
        }
    }

    pub(crate) fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Expired => "the lock was lost: its lease ended before it could be renewed".into(),
            Self::Gone => "the lock was lost: the backend no longer knows the hold".into(),
            Self::SessionEnded => "the lock was lost: the session that carried it ended".into(),
            Self::Replaced => "the lock was lost: what stood for it was replaced or removed".into(),
            Self::HoldLimit => "the lock was given up: it was held for as long as is allowed".into(),
            Self::Other(why) => format!("the lock was lost: {why}").into(),
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}
