//! Who waits for what: a table that all processes of one user have in memory, so that a release can tell at no cost
//! whether it has to wake anybody.
//!
//! The table is a file of the lock directory, mapped by everybody. It holds hints only: a lost or a stale entry costs
//! a late or a needless wake-up, never a wrong lock. A mapped file that somebody cuts short kills whoever touches it,
//! so the table is used only where nobody but this user (who could as well kill the process) can write the file, and
//! only on file systems that can't run out of space for blocks that have been allocated.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use pilotman_core::clock::Time;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::directory::{Trust, file_type};
use crate::file::{self, FileId};
use crate::place::Place;

/// The table's file. The number is that of its layout.
const FILE: &str = ".pilotman-waiters-1";
const BUCKETS: usize = 1024;
/// As many as fit into a cache line.
const ENTRIES: usize = 8;
const BYTES: usize = BUCKETS * ENTRIES * size_of::<AtomicU64>();

/// What a release finds in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Nobody,
    Somebody,
    /// There is no table.
    Unknown,
}

/// The waiters of a directory, as far as they can be told.
#[derive(Debug)]
pub(crate) struct Waiters(Option<Table>);

impl Waiters {
    /// Opens the table of a directory. Where there can be none, every release wakes whoever may be there.
    pub(crate) fn open(directory: &Path, trust: Trust) -> Self {
        if trust.shared {
            return Self(None);
        }
        Self(match Table::open(directory, trust) {
            Ok(table) => table,
            Err(errno) => {
                tracing::debug!(path = %directory.display(), %errno, "no table of waiters; releases wake blindly");
                None
            }
        })
    }

    /// Notes that somebody waits for `key`. To be called before each attempt of a wait, when whatever will wake the
    /// waiter is set up: a release that does not see the entry came before the attempt.
    pub(crate) fn mark(&self, key: u64) {
        if let Some(table) = &self.0 {
            table.mark(key);
        }
    }

    /// Whether somebody waits for `key`. Takes the note away: who goes on waiting makes another. To be called after
    /// the unlock.
    pub(crate) fn take(&self, key: u64) -> Seen {
        match &self.0 {
            None => Seen::Unknown,
            Some(table) if table.take(key) => Seen::Somebody,
            Some(_) => Seen::Nobody,
        }
    }

    /// Whether this is still the table that others open, as it was found within the last second.
    pub(crate) fn is_current(&self, now: Time) -> bool {
        let Some(table) = &self.0 else { return true };
        if !table.seen.is_stale(now) {
            return true;
        }
        table.seen.now(now);
        table.id.is_at(&table.place.raw).unwrap_or(true)
    }
}

#[derive(Debug)]
struct Table {
    entries: NonNull<AtomicU64>,
    place: Place,
    id: FileId,
    seen: file::Seen,
}

// SAFETY: the memory is shared with other processes already; it is accessed as atomics only.
#[allow(unsafe_code)]
unsafe impl Send for Table {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Table {}

impl Table {
    fn open(directory: &Path, trust: Trust) -> Result<Option<Self>, Errno> {
        let Ok(place) = Place::new(directory, FILE.into()) else { return Err(Errno::INVAL) };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::open(&place.path, flags, Mode::from_raw_mode(0o600))?;
        let stat = rustix::fs::fstat(&fd)?;
        let private =
            file_type(&stat).is_file() && stat.st_uid == trust.user && stat.st_mode & 0o077 == 0 && stat.st_nlink == 1;
        if !private || !keeps_space(&fd)? {
            return Ok(None);
        }
        // Never shrinks a file, so it does not matter who else does the same at the same time.
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, BYTES as u64)?;
        // SAFETY: a new shared mapping, placed by the kernel, of a file that has at least this length.
        #[allow(unsafe_code)]
        let memory = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0)?
        };
        let entries = NonNull::new(memory.cast()).ok_or(Errno::NOMEM)?;
        Ok(Some(Self { entries, place, id: FileId::of(&stat), seen: file::Seen::default() }))
    }

    fn bucket(&self, key: u64) -> &[AtomicU64] {
        let bucket = (key >> 32) as usize % BUCKETS;
        // SAFETY: the mapping has BUCKETS × ENTRIES atomics, is aligned to a page, lives as long as `self`, and every
        // process accesses it as atomics only. Any bit pattern is a valid u64.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.entries.as_ptr().add(bucket * ENTRIES), ENTRIES)
        }
    }

    fn mark(&self, key: u64) {
        let bucket = self.bucket(key);
        let noted = bucket.iter().any(|entry| entry.load(Ordering::SeqCst) == key)
            || bucket.iter().any(|entry| entry.compare_exchange(0, key, Ordering::SeqCst, Ordering::SeqCst).is_ok());
        if !noted {
            // Whoever is pushed out has a timer.
            bucket[key as usize % ENTRIES].store(key, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    fn take(&self, key: u64) -> bool {
        // The unlock must be seen before the table is read. On x86 the locked instructions of the system call order the
        // two already, and a fence would cost as much as all of the rest here.
        if !cfg!(target_arch = "x86_64") {
            fence(Ordering::SeqCst);
        }
        let mut found = false;
        for entry in self.bucket(key) {
            if entry.load(Ordering::Relaxed) == key {
                found |= entry.compare_exchange(key, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            }
        }
        found
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` and nothing borrowed from it outlives `self`.
        #[allow(unsafe_code)]
        if let Err(errno) = unsafe { rustix::mm::munmap(self.entries.as_ptr().cast(), BYTES) } {
            tracing::debug!(%errno, "the table of waiters stays mapped");
        }
    }
}

/// Whether blocks that are allocated can always be written, and whether all who map the file see the same. Others
/// (btrfs, network file systems) kill the writer when they run out of space, or keep one copy per machine.
fn keeps_space(fd: &OwnedFd) -> Result<bool, Errno> {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    const OVERLAY: u64 = 0x794c_7630;
    Ok([EXT, XFS, TMPFS, OVERLAY].contains(&file_system(fd)?))
}

// The field has other types on other systems.
#[allow(clippy::unnecessary_cast)]
fn file_system(fd: &OwnedFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn trust() -> Trust {
        Trust { shared: false, user: rustix::process::geteuid().as_raw() }
    }

    #[test]
    fn a_note_is_seen_once_by_whoever_has_the_same_table() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (Waiters::open(directory.path(), trust()), Waiters::open(directory.path(), trust()));
        assert_eq!(two.take(7), Seen::Nobody);
        one.mark(7);
        one.mark(7);
        one.mark(8);
        assert_eq!(two.take(7), Seen::Somebody);
        assert_eq!(two.take(7), Seen::Nobody);
        assert_eq!(two.take(8), Seen::Somebody);
    }

    #[test]
    fn names_that_share_a_bucket_do_not_share_a_note() {
        let directory = tempfile::tempdir().unwrap();
        let waiters = Waiters::open(directory.path(), trust());
        (1..=8).for_each(|key| waiters.mark(key));
        assert_eq!(waiters.take(99), Seen::Nobody);
        (1..=8).for_each(|key| assert_eq!(waiters.take(key), Seen::Somebody));
        // The ninth pushes one out, and only one.
        (1..=9).for_each(|key| waiters.mark(key));
        assert_eq!((1..=9).filter(|key| waiters.take(*key) == Seen::Somebody).count(), 8);
    }

    #[test]
    fn a_table_that_others_could_cut_short_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        drop(Waiters::open(directory.path(), trust()));
        let file = directory.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BYTES as u64);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(Waiters::open(directory.path(), trust()).take(1), Seen::Unknown);
        let shared = Trust { shared: true, ..trust() };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Waiters::open(directory.path(), shared).take(1), Seen::Unknown);
        let stranger = Trust { user: trust().user + 1, ..trust() };
        assert_eq!(Waiters::open(directory.path(), stranger).take(1), Seen::Unknown);
    }

    #[test]
    fn a_replaced_table_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let waiters = Waiters::open(directory.path(), trust());
        let now = Time::from_nanos(5_000_000_000);
        assert!(waiters.is_current(now));
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        assert!(waiters.is_current(now), "looked at a moment ago");
        assert!(!waiters.is_current(now.after(std::time::Duration::from_secs(1))));
        assert_eq!(waiters.take(1), Seen::Nobody);
    }
}
