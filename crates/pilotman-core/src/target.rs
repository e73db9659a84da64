//! What an acquire asks for: a name, a kind of primitive, and options.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::Name;

/// What is locked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Primitive {
    /// A mutex: one holder.
    Mutex,
    /// The shared side of a reader-writer lock: any number of readers, no writer.
    Read,
    /// A read that can become a write: beside readers, but alone of its kind.
    UpgradeableRead,
    /// The exclusive side of a reader-writer lock.
    Write,
    /// One permit of a semaphore that has this many.
    Permit(NonZeroU32),
}

impl Primitive {
    /// The stable lower-case name, as it stands in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Read => "read",
            Self::UpgradeableRead => "upgradeable_read",
            Self::Write => "write",
            Self::Permit(_) => "permit",
        }
    }

    /// How many holds of it can exist at once; `None` if any number.
    pub const fn limit(self) -> Option<u32> {
        match self {
            Self::Mutex | Self::Write | Self::UpgradeableRead => Some(1),
            Self::Permit(permits) => Some(permits.get()),
            Self::Read => None,
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name and the kind of primitive that is asked for under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The logical name.
    pub name: Name,
    /// The kind.
    pub primitive: Primitive,
}

/// Options of one lock. Only requests with equal options share a place in a remote queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct LockOptions {
    /// How long a hold lasts unless it is renewed; `None`: the backend's default. Only for backends with leases.
    pub lease: Option<Duration>,
    /// The longest pause between two attempts where waiting is polling; `None`: the backend's default.
    pub retry: Option<Duration>,
    /// How long one holder may keep the lock; then its hold is lost for the reason
    /// [`HoldLimit`](crate::LossReason::HoldLimit). `None`: as long as it likes.
    pub hold_at_most: Option<Duration>,
    /// Whether each hold needs a fencing token.
    pub token: bool,
}
