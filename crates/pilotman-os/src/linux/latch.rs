//! The latch of a bucket: held for a fraction of a microsecond by whoever reads or changes its chain. If its owner dies
//! meanwhile, the next one puts the chain in order.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::{Error, Result};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::thread::futex;

use super::layout::{Bucket, DIED, ENTRIES, Entry, TID, WAITERS};
use super::process::{Life, Process};
use crate::sync::lock;

/// Only somebody who was stopped keeps a latch longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before looking whether the owner is still there.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
const SPINS: u32 = 100;
/// The same for those who go on to something else meanwhile.
const SOON: Duration = Duration::from_millis(20);

/// A latch that is ours until this is dropped. Those who are to be told something are told then.
pub(crate) struct Latched<'a> {
    pub(super) process: &'a Process,
    bucket: &'a Bucket,
    /// Where to look for a free entry first.
    turn: MutexGuard<'a, usize>,
    tell: Vec<u64>,
    /// The entry that was added last.
    pub(super) added: u32,
}

impl Process {
    /// Takes the latch of a bucket.
    pub(crate) fn latch<'a>(&'a self, bucket: &'a Bucket) -> Result<Latched<'a>> {
        self.latch_within(bucket, PATIENCE)
    }

    /// The same, with less patience.
    pub(super) fn latch_soon<'a>(&'a self, bucket: &'a Bucket) -> Result<Latched<'a>> {
        self.latch_within(bucket, SOON)
    }

    fn latch_within<'a>(&'a self, bucket: &'a Bucket, patience: Duration) -> Result<Latched<'a>> {
        let turn = lock(&self.turn);
        self.robust.begin(&bucket.latch);
        let left = match self.acquire(&bucket.latch, patience) {
            Ok(left) => left,
            Err(error) => {
                self.robust.end();
                return Err(error);
            }
        };
        let latched = Latched { process: self, bucket, turn, tell: Vec::new(), added: 0 };
        if left {
            latched.rebuild();
        }
        Ok(latched)
    }

    /// Says whether the last owner left it in the middle of something.
    fn acquire(&self, latch: &AtomicU32, patience: Duration) -> Result<bool> {
        if latch.compare_exchange(0, self.tid, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Ok(false);
        }
        let (mut spins, mut others, mut since) = (0, 0, None);
        loop {
            let word = latch.load(Ordering::SeqCst);
            let owner = word & TID;
            let take = |others: u32| {
                latch.compare_exchange(word, self.tid | others, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if owner == 0 && word & DIED == 0 {
                if take(others) {
                    return Ok(false);
                }
                continue;
            }
            let start = *since.get_or_insert_with(Instant::now);
            if start.elapsed() > patience {
                return Err(stuck(owner));
            }
            if owner == 0 {
                // A thread of the dead process may still be at work on the chain.
                others = WAITERS;
                if !self.all_stopped() {
                    std::thread::sleep(Duration::from_micros(50));
                } else if take(others) {
                    return Ok(true);
                }
                continue;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
                continue;
            }
            if word & WAITERS == 0
                && latch.compare_exchange(word, word | WAITERS, Ordering::SeqCst, Ordering::SeqCst).is_err()
            {
                continue;
            }
            others = WAITERS;
            match futex::wait(latch, futex::Flags::empty(), word | WAITERS, Some(&LOOK)) {
                Err(Errno::TIMEDOUT) if self.is_orphan(owner) => {
                    // Taken by a thread that outlived, by a moment, the one that the kernel asks about.
                    let left = DIED | WAITERS;
                    let _ = latch.compare_exchange(word | WAITERS, left, Ordering::SeqCst, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    }

    /// Whether this number is that of no process that is alive here.
    fn is_orphan(&self, tid: u32) -> bool {
        self.table.members.iter().all(|member| member.word.load(Ordering::SeqCst) & TID != tid) && self.all_stopped()
    }
}

fn stuck(tid: u32) -> Error {
    Error::unavailable(format!("the process with the thread {tid} was stopped in the middle of an operation on a lock"))
        .with_advice("let that process go on, or end it")
        .no_effect(true)
}

impl Latched<'_> {
    /// The entries of the chain.
    pub(super) fn entries(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        self.each(|index, _| {
            found.push(index);
            true
        })?;
        Ok(found)
    }

    /// Calls `visit` with each entry until it says `false`. An entry may be taken out of the chain meanwhile.
    pub(super) fn each(&self, mut visit: impl FnMut(u32, &Entry) -> bool) -> Result<()> {
        let mut at = self.bucket.head.load(Ordering::Relaxed);
        for _ in 0..=ENTRIES {
            let Some(index) = at.checked_sub(1) else { return Ok(()) };
            let Some(entry) = self.process.entry(index) else { break };
            at = entry.next.load(Ordering::Relaxed);
            if !visit(index, entry) {
                return Ok(());
            }
        }
        // Nothing of ours leaves it so.
        self.rebuild();
        Err(Error::unavailable("the lock table was damaged and put in order").no_effect(true))
    }

    /// Puts the chain together anew from the entries that say that they are in it.
    fn rebuild(&self) {
        let number = self.number();
        let mut head = 0;
        for (index, entry) in self.process.table.used().iter().enumerate() {
            if entry.bucket.load(Ordering::SeqCst) == number && entry.owner.load(Ordering::SeqCst) != 0 {
                entry.next.store(head, Ordering::Relaxed);
                head = index as u32 + 1;
            }
        }
        self.bucket.head.store(head, Ordering::SeqCst);
    }

    /// What entries of this chain say about where they are.
    fn number(&self) -> u32 {
        let first = &raw const self.process.table.buckets as usize;
        ((&raw const *self.bucket as usize - first) / size_of::<Bucket>()) as u32 + 1
    }

    /// Takes a free entry, which is in no chain yet.
    pub(super) fn claim(&mut self) -> Option<u32> {
        for step in 0..ENTRIES {
            let index = (*self.turn + step) % ENTRIES;
            let entry = &self.process.table.entries[index];
            let unused = &self.process.table.header.unused.0;
            if unused.load(Ordering::Relaxed) <= index as u32 {
                unused.fetch_max(index as u32 + 1, Ordering::SeqCst);
            }
            if entry.owner.load(Ordering::Relaxed) == 0
                && entry.owner.compare_exchange(0, self.process.owner, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                *self.turn = (index + 1) % ENTRIES;
                return Some(index as u32);
            }
        }
        None
    }

    /// Puts an entry that is complete into the chain.
    pub(super) fn link(&self, index: u32, entry: &Entry) {
        entry.bucket.store(self.number(), Ordering::SeqCst);
        entry.next.store(self.bucket.head.load(Ordering::Relaxed), Ordering::SeqCst);
        self.bucket.head.store(index + 1, Ordering::SeqCst);
    }

    /// Takes an entry out of the chain and frees it.
    pub(super) fn remove(&mut self, index: u32) -> Result<()> {
        let Some(entry) = self.process.entry(index) else { return Ok(()) };
        let owner = entry.owner.load(Ordering::SeqCst);
        let next = entry.next.load(Ordering::Relaxed);
        let head = &self.bucket.head;
        if head.load(Ordering::Relaxed) == index + 1 {
            head.store(next, Ordering::SeqCst);
        } else {
            self.each(|_, before| {
                let found = before.next.load(Ordering::Relaxed) == index + 1;
                if found {
                    before.next.store(next, Ordering::SeqCst);
                }
                !found
            })?;
        }
        entry.bucket.store(0, Ordering::SeqCst);
        // From here on a sweep may free it as well, and then it may be another's.
        let _ = entry.owner.compare_exchange(owner, 0, Ordering::SeqCst, Ordering::SeqCst);
        *self.turn = index as usize;
        Ok(())
    }

    /// Has the process of an entry look at its inbox when the latch is free again.
    pub(super) fn tell(&mut self, owner: u64) {
        self.tell.push(owner);
    }

    /// Takes out what dead processes have left, and tells who waited for it.
    pub(super) fn reap_all(&mut self) -> Result<()> {
        for index in self.entries()? {
            let Some(entry) = self.process.entry(index) else { continue };
            let owner = entry.owner.load(Ordering::Relaxed);
            if self.process.life(owner) == Life::Dead {
                self.reap(index)?;
            }
        }
        Ok(())
    }
}

impl Drop for Latched<'_> {
    fn drop(&mut self) {
        let word = self.bucket.latch.swap(0, Ordering::SeqCst);
        if word & WAITERS != 0
            && let Err(errno) = futex::wake(&self.bucket.latch, futex::Flags::empty(), 1)
        {
            tracing::debug!(%errno, "who waits for a latch could not be woken; it looks again");
        }
        self.process.robust.end();
        for owner in self.tell.drain(..) {
            self.process.ring_owner(owner);
        }
    }
}
