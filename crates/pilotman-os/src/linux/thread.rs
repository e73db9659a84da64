//! The thread that stands for the process in a table. It sleeps until something is in the inbox or a process dies that
//! keeps us waiting: one thread, however many wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use pilotman_core::LossReason;
use pilotman_core::backend::AttemptId;
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::thread::futex::{self, WaitFlags, WaitvFlags};
use rustix::time::ClockId;

use super::entries::attempt_of;
use super::latch::BRIEF;
use super::layout::{DIED, HOLDS, Member, TID, TOLD, WAITERS};
use super::process::{Process, vacate};
use super::table::Table;
use super::wait::Wait;
use crate::panics::contain;
use crate::sync::lock;

/// How many processes are waited for at once. The kernel takes 128 words, and one is the inbox.
const WATCHED: usize = 120;
/// A process that is dying is looked at again after these times.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LAST_LOOK: Duration = Duration::from_millis(5);
/// Where the kernel can't wait for many words, the deaths of others are looked for so often.
const POLL: Duration = Duration::from_millis(10);
/// While somebody wants to hear of a loss, the place of the table is looked at so often.
const OBSERVE: Duration = Duration::from_secs(1);

/// What could not be given back is tried again so often.
const PAY: Duration = Duration::from_millis(100);

/// Runs until the process leaves the table.
pub(super) fn run(table: &Arc<Table>, slot: &OnceLock<Weak<Process>>, index: u32) {
    let member = &table.members[index as usize];
    let mut pause = FIRST_LOOK;
    let mut many = true;
    loop {
        let inbox = member.inbox.load(Ordering::SeqCst);
        let mut limit = None;
        let mut words = Vec::new();
        // Until it is there, there is nothing to do but wait for it.
        if let Some(process) = slot.get() {
            let Some(process) = process.upgrade() else { return leave(table, member) };
            process.deliver();
            let died = process.watch(&mut words);
            if died && !process.sweep_quietly() {
                limit = Some(pause);
                pause = (pause * 2).min(LAST_LOOK);
            } else {
                pause = FIRST_LOOK;
                if process.observers.load(Ordering::SeqCst) > 0 {
                    limit = Some(OBSERVE);
                }
            }
            if !process.pay() {
                limit = Some(limit.map_or(PAY, |limit: Duration| limit.min(PAY)));
            }
            if died && limit.is_none() {
                // Those who were told are in the inbox, ours too.
                continue;
            }
        }
        if many && !words.is_empty() {
            match sleep(table, member, inbox, &words, limit) {
                Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => {
                    tracing::debug!("this kernel can't wait for many words; deaths are polled for");
                    many = false;
                }
                _ => continue,
            }
        }
        let limit = if words.is_empty() { limit } else { Some(limit.map_or(POLL, |limit| limit.min(POLL))) };
        // Woken, changed before, interrupted or timed out: all are reasons to look.
        let _ = futex::wait(&member.inbox, futex::Flags::empty(), inbox, limit.map(timespec).as_ref());
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// Sleeps until one of the words has another value than here, or is woken.
fn sleep(
    table: &Table,
    member: &Member,
    inbox: u32,
    words: &[(u32, u32)],
    limit: Option<Duration>,
) -> Result<(), Errno> {
    let wait = |word: &std::sync::atomic::AtomicU32, value: u32| {
        let mut wait = futex::Wait::new();
        wait.val = value.into();
        wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32;
        wait
    };
    let mut waits = vec![wait(&member.inbox, inbox)];
    waits.extend(words.iter().map(|(index, value)| wait(&table.members[*index as usize].word, *value)));
    let until = limit.map(|limit| {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let until = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32) + limit;
        timespec(until)
    });
    match futex::waitv(&waits, WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic) {
        Ok(_) | Err(Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The place is free for another process. What this one has left there, if anything, is cleared away by the next.
fn leave(table: &Table, member: &Member) {
    let owner = |word: u64| word as u32 == (member_index(table, member) + 1);
    let left = table.used().iter().any(|entry| owner(entry.owner.load(Ordering::SeqCst)));
    if left {
        member.word.store(DIED, Ordering::SeqCst);
        if let Err(errno) = futex::wake(&member.word, futex::Flags::empty(), i32::MAX as u32) {
            tracing::debug!(%errno, "those who wait for this process could not be woken");
        }
    } else {
        // Somebody may begin to wait for our death at this very moment.
        loop {
            let word = member.word.load(Ordering::SeqCst);
            if word & TID == 0 || vacate(member, word) {
                break;
            }
        }
    }
}

fn member_index(table: &Table, member: &Member) -> u32 {
    let first = &raw const table.members as usize;
    ((&raw const *member as usize - first) / size_of::<Member>()) as u32
}

impl Process {
    /// Passes on what stands in the table for waits and holds of this process.
    fn deliver(&self) {
        let told = |(id, wait): &(&AttemptId, &Arc<Wait>)| {
            self.entry(wait.entry)
                .is_some_and(|entry| entry.state.load(Ordering::SeqCst) == TOLD && attempt_of(entry) == **id)
        };
        // Wakers are foreign code: not to be called under the mutex.
        let waits: Vec<_> = lock(&self.waits).iter().filter(told).map(|(_, wait)| wait.clone()).collect();
        for wait in waits {
            contain(|| wait.tell());
        }
        if self.observers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let replaced = self.table.is_replaced();
        let mut lost = Vec::new();
        lock(&self.observed).retain(|id, (index, events)| {
            let held = self.entry(*index).is_some_and(|entry| {
                entry.owner.load(Ordering::SeqCst) == self.owner
                    && attempt_of(entry) == *id
                    && entry.state.load(Ordering::SeqCst) == HOLDS
            });
            if !held || replaced {
                self.observers.fetch_sub(1, Ordering::SeqCst);
                lost.push((*id, events.clone(), if held { LossReason::Replaced } else { LossReason::Gone }));
            }
            held && !replaced
        });
        for (id, events, reason) in lost {
            contain(|| events.lost(id, reason));
        }
    }

    /// The words of the processes that keep us waiting, with the values that they have while these live. Says whether
    /// one of them has died.
    fn watch(&self, words: &mut Vec<(u32, u32)>) -> bool {
        let mut blockers: Vec<u64> = lock(&self.waits).values().flat_map(|wait| wait.blockers()).collect();
        blockers.sort_unstable();
        blockers.dedup();
        let mut died = false;
        for owner in blockers {
            let Some(member) = self.member_of(owner) else { continue };
            let word = member.word.load(Ordering::SeqCst);
            if word & TID == 0 {
                died |= word & DIED != 0;
                continue;
            }
            // The kernel wakes somebody only where this bit says that there is somebody.
            let word = member.word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
            if word & TID != 0 {
                if words.len() < WATCHED {
                    words.push((owner as u32 - 1, word));
                }
            } else if word & DIED != 0 {
                died = true;
            } else {
                // Vacated meanwhile: the bit doesn't belong there.
                let _ = member.word.compare_exchange(word, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        died
    }

    fn sweep_quietly(&self) -> bool {
        self.sweep(BRIEF).unwrap_or_else(|error| {
            tracing::debug!(%error, "what a dead process has left could not be cleared away yet");
            false
        })
    }
}
