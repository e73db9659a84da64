//! The latch of a bucket: held for a fraction of a microsecond by whoever reads or changes its chain. If its owner dies
//! meanwhile, the next one puts the chain in order.

use std::fmt;
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

/// How long to wait for a latch. Only somebody who was stopped, or has no processor, keeps one for longer than an instant.
///
/// Of those who come again anyway, and of threads that others need.
pub(super) const BRIEF: Duration = Duration::from_millis(2);
/// Of what is done but once and soon: less than how late a time-out may be.
pub(super) const SHORT: Duration = Duration::from_millis(20);
/// Of what can't be done later without somebody being told.
pub(super) const LONG: Duration = Duration::from_millis(500);

/// How long to sleep before looking whether the owner is still there.
const LOOK: Duration = Duration::from_millis(5);
const SPINS: u32 = 100;

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

/// How an attempt to get a latch ended.
enum Met {
    /// It is ours; whether the last owner left it in the middle of something.
    Ours(bool),
    /// It is another's, with this word.
    Owned(u32),
    /// Its owner is dead, and a thread of the dead process may still be at work on the chain.
    Dying,
}

impl Process {
    /// Takes the latch of a bucket. While it waits, the other threads of this process get at the other latches.
    #[inline]
    pub(super) fn latch<'a>(&'a self, bucket: &'a Bucket, patience: Duration) -> Result<Latched<'a>> {
        let turn = lock(&self.turn);
        self.robust.begin(&bucket.latch);
        match bucket.latch.compare_exchange(0, self.tid, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(Latched { process: self, bucket, turn, tell: Vec::new(), added: 0 }),
            Err(_) => self.wait_for(bucket, turn, patience),
        }
    }

    #[cold]
    fn wait_for<'a>(
        &'a self,
        bucket: &'a Bucket,
        mut turn: MutexGuard<'a, usize>,
        patience: Duration,
    ) -> Result<Latched<'a>> {
        let (mut since, mut others) = (None, 0);
        loop {
            let met = self.grab(&bucket.latch, others);
            if let Met::Ours(left) = met {
                let latched = Latched { process: self, bucket, turn, tell: Vec::new(), added: 0 };
                if left {
                    latched.rebuild();
                }
                return Ok(latched);
            }
            self.robust.end();
            drop(turn);
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            let Some(rest) = patience.checked_sub(waited) else {
                return Err(stuck(if let Met::Owned(word) = met { word & TID } else { 0 }));
            };
            match met {
                Met::Owned(word) => self.sleep_on(&bucket.latch, word, rest),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            // Others may sleep, too.
            others = WAITERS;
            turn = lock(&self.turn);
            self.robust.begin(&bucket.latch);
        }
    }

    fn grab(&self, latch: &AtomicU32, others: u32) -> Met {
        if latch.compare_exchange(0, self.tid | others, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Met::Ours(false);
        }
        let mut spins = 0;
        loop {
            let word = latch.load(Ordering::SeqCst);
            let take = |others: u32| {
                latch.compare_exchange(word, self.tid | others, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if word & TID != 0 {
                spins += 1;
                if spins > SPINS {
                    return Met::Owned(word);
                }
                std::hint::spin_loop();
            } else if word & DIED == 0 {
                if take(others) {
                    return Met::Ours(false);
                }
            } else if !self.all_stopped() {
                return Met::Dying;
            } else if take(WAITERS) {
                return Met::Ours(true);
            }
        }
    }

    /// Sleeps until the owner is woken that this word names, or for some milliseconds.
    fn sleep_on(&self, latch: &AtomicU32, word: u32, limit: Duration) {
        let waited = word | WAITERS;
        if word != waited && latch.compare_exchange(word, waited, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        let limit = limit.min(LOOK).max(Duration::from_micros(100));
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        let slept = futex::wait(latch, futex::Flags::empty(), waited, Some(&limit));
        if slept == Err(Errno::TIMEDOUT) && self.is_orphan(word & TID) {
            // Taken by a thread that outlived, by a moment, the one that the kernel asks about.
            let _ = latch.compare_exchange(waited, DIED | WAITERS, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Whether this number is that of no process that is alive here.
    fn is_orphan(&self, tid: u32) -> bool {
        self.table.members.iter().all(|member| member.word.load(Ordering::SeqCst) & TID != tid) && self.all_stopped()
    }
}

/// Who keeps a latch; zero: a process that is about to end.
#[derive(Debug)]
struct Stuck(u32);

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("a process that is ending has not stopped yet"),
            tid => write!(f, "the thread {tid} has a part of the lock table"),
        }
    }
}

impl std::error::Error for Stuck {}

fn stuck(tid: u32) -> Error {
    let error = match tid {
        0 => Error::unavailable("a process ended in the middle of an operation on a lock, and has not stopped yet"),
        tid => Error::unavailable(format!(
            "the process with the thread {tid} was stopped in the middle of an operation on a lock"
        )),
    };
    error.with_source(Stuck(tid)).with_advice("let that process go on, or end it").no_effect(true)
}

/// The thread that had the latch when somebody's patience ended, if that is what the error is about.
pub(super) fn stuck_by(error: &Error) -> Option<u32> {
    std::error::Error::source(error)?.downcast_ref::<Stuck>().map(|stuck| stuck.0)
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
