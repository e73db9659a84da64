//! What the processes of a table share: a fixed layout of atomics, so that nobody can break more than the locks in it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Processes that can use a table at a time.
pub(crate) const MEMBERS: usize = 2048;
/// Chains of entries.
pub(crate) const BUCKETS: usize = 4096;
/// Holds and waits that there can be at a time.
pub(crate) const ENTRIES: usize = 32_768;
/// So many bytes of a name are kept for people who look.
pub(crate) const NAME: usize = 104;

/// Says that a file is such a table, and of which layout.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"pltmn-o1");

/// Bits of a futex word, as the kernel has them.
pub(crate) const TID: u32 = 0x3fff_ffff;
pub(crate) const DIED: u32 = 0x4000_0000;
pub(crate) const WAITERS: u32 = 0x8000_0000;

/// States of an entry.
pub(crate) const HOLDS: u32 = 1;
pub(crate) const WAITS: u32 = 2;
/// It waits, and was told that another attempt is worth while.
pub(crate) const TOLD: u32 = 3;

/// Kinds of an entry.
pub(crate) const MUTEX: u32 = 1;
pub(crate) const READ: u32 = 2;
pub(crate) const WRITE: u32 = 3;
pub(crate) const PERMIT: u32 = 4;

#[repr(C)]
pub(crate) struct Layout {
    pub(crate) header: Header,
    pub(crate) members: [Member; MEMBERS],
    pub(crate) buckets: [Bucket; BUCKETS],
    pub(crate) entries: [Entry; ENTRIES],
}

#[repr(C, align(4096))]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    /// The boot of the machine in which the table was made: after another one nothing in it is true.
    pub(crate) boot: AtomicU64,
    /// The PID namespace whose numbers the table has.
    pub(crate) pid_namespace: AtomicU64,
    /// The last fencing token of all locks of the table.
    pub(crate) token: Own<AtomicU64>,
    /// The last number of a waiter.
    pub(crate) turn: Own<AtomicU64>,
    /// Entries from here on were never used, and nobody has to look at their memory.
    pub(crate) unused: Own<AtomicU32>,
}

impl Layout {
    /// The entries that were ever used.
    pub(crate) fn used(&self) -> &[Entry] {
        let used = self.header.unused.0.load(Ordering::SeqCst) as usize;
        &self.entries[..used.min(ENTRIES)]
    }
}

/// A value with a cache line of its own.
#[repr(C, align(64))]
pub(crate) struct Own<T>(pub(crate) T);

/// One process.
#[repr(C, align(64))]
pub(crate) struct Member {
    /// The number of the thread that stands for the process. The kernel sets `DIED` when it ends. Zero: free.
    pub(crate) word: AtomicU32,
    /// Changes, and is woken, when there is something for the process to look at.
    pub(crate) inbox: AtomicU32,
    /// Counts the processes that had this place.
    pub(crate) generation: AtomicU32,
    pub(crate) pid: AtomicU32,
    /// When the process started, as the kernel counts it: tells it from a later one of the same number.
    pub(crate) start: AtomicU64,
    pub(crate) user: AtomicU32,
    /// The number of the thread that has taken the place, set before all else and cleared after all else.
    pub(crate) claimed: AtomicU32,
}

/// A chain of entries, and the latch that guards it.
#[repr(C)]
pub(crate) struct Bucket {
    pub(crate) latch: AtomicU32,
    /// The first entry and one; zero: none.
    pub(crate) head: AtomicU32,
}

/// A hold or a wait.
#[repr(C, align(64))]
pub(crate) struct Entry {
    /// Generation and place (and one) of the member; zero: the entry is free.
    pub(crate) owner: AtomicU64,
    pub(crate) next: AtomicU32,
    /// The bucket in whose chain it is, and one; zero: in none.
    pub(crate) bucket: AtomicU32,
    pub(crate) key: [AtomicU64; 2],
    pub(crate) kind: AtomicU32,
    pub(crate) state: AtomicU32,
    /// Of a hold its token, of a wait its turn.
    pub(crate) token: AtomicU64,
    /// Milliseconds since 1970.
    pub(crate) since: AtomicU64,
    pub(crate) attempt: [AtomicU64; 2],
    pub(crate) length: AtomicU32,
    pub(crate) limit: AtomicU32,
    pub(crate) name: [AtomicU64; NAME / 8],
}

const _: () = {
    assert!(size_of::<Member>() == 64);
    assert!(size_of::<Bucket>() == 8);
    assert!(size_of::<Entry>() == 192);
    assert!(size_of::<Layout>().is_multiple_of(4096));
};
