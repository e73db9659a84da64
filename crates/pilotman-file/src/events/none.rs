//! Where file events are not to be had, or not those that are needed here, waiters poll.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Events exist where somebody tells of them.
#[allow(dead_code)]
pub(crate) enum Event {
    Closed,
    Other,
}

/// What to listen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Wake,
    Loss,
}

/// Never made.
#[derive(Debug)]
pub(crate) enum Subscription {}

/// Always refused, so that the caller polls.
pub(crate) fn subscribe(
    _: BorrowedFd<'_>,
    _: Interest,
    _: Arc<dyn Fn(Event) + Send + Sync>,
) -> Result<Subscription, Errno> {
    Err(Errno::NOSYS)
}
