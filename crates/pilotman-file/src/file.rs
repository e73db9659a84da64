//! A lock file that is open.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pilotman_core::clock::Time;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

/// What tells a file from every other: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    // The fields have other types on other systems.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev as u64, inode: stat.st_ino as u64 }
    }

    /// Whether this is the file at `path`.
    pub(crate) fn is_at(self, path: &CStr) -> Result<bool> {
        match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Self::of(&stat) == self),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// After this time the path of a kept file is looked at again. In between it is looked at whether the file still has a
/// name at all, which costs a third.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When something was last found to be as it should.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU64);

impl Seen {
    pub(crate) fn now(&self, now: Time) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Whether that was never, or some time ago.
    pub(crate) fn is_stale(&self, now: Time) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        seen == 0 || now.since(Time::from_nanos(seen)) >= LOOK_AGAIN
    }
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    Shared,
    Exclusive,
}

/// An open file description of our own: the thing that `flock` gives locks to.
#[derive(Debug)]
pub(crate) struct LockFile {
    fd: Arc<OwnedFd>,
    pub(crate) id: FileId,
    /// Whether the descriptor was given out. A child may have inherited it then, and would share whatever is locked with
    /// this description later.
    given_out: AtomicBool,
    /// When it was last seen at its path.
    seen: Seen,
}

impl LockFile {
    pub(crate) fn new(fd: OwnedFd, stat: &Stat) -> Self {
        Self { fd: Arc::new(fd), id: FileId::of(stat), given_out: AtomicBool::new(false), seen: Seen::default() }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The descriptor, for a child to inherit.
    pub(crate) fn give_out(&self) -> Arc<OwnedFd> {
        self.given_out.store(true, Ordering::Relaxed);
        self.fd.clone()
    }

    /// Whether nobody else can have the descriptor.
    pub(crate) fn is_private(&self) -> bool {
        !self.given_out.load(Ordering::Relaxed)
    }

    /// Takes the lock if it is free. Never blocks.
    pub(crate) fn try_lock(&self, mode: LockMode) -> Result<bool> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match rustix::fs::flock(&self.fd, operation) {
                Ok(()) => return Ok(true),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.fd, FlockOperation::Unlock)
    }

    /// Whether it is still the file at `path`. A lock on any other is worth nothing, and .NET removes the file with each
    /// release. What was moved away, or has a second name, is noticed within [`LOOK_AGAIN`], or at once if in `doubt`.
    pub(crate) fn is_in_place(&self, path: &CStr, now: Time, doubt: bool) -> Result<bool> {
        if !doubt && !self.seen.is_stale(now) {
            return Ok(rustix::fs::fstat(&self.fd)?.st_nlink > 0);
        }
        let in_place = self.id.is_at(path)?;
        if in_place {
            self.seen.now(now);
        }
        Ok(in_place)
    }

    /// Whether it is some time ago that it was seen at its path.
    pub(crate) fn is_stale(&self, now: Time) -> bool {
        self.seen.is_stale(now)
    }

    /// Makes those who watch the file look again: unlocking alone is no event.
    pub(crate) fn nudge(&self) {
        let mut byte = [0; 1];
        // Reading something is an event; an empty file needs another: being closed.
        if !matches!(rustix::io::pread(&self.fd, &mut byte, 0), Ok(1)) {
            #[cfg(target_os = "linux")]
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*self.fd));
            #[cfg(not(target_os = "linux"))]
            let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*self.fd));
            // Without /proc the waiters' own timers have to do.
            drop(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()));
        }
    }
}
