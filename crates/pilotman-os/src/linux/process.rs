//! This process among those that use a table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilotman_core::backend::{AttemptId, Events};
use pilotman_core::{Error, Result};
use rustix::io::Errno;

use super::dying;
use super::failure::failed;
use super::fork;
use super::hindrance::Hindrances;
use super::latch::SHORT;
use super::layout::{DIED, ENTRIES, Entry, MEMBERS, Member, TID};
use super::robust::Robust;
use super::slot::Slot;
use super::table::{Place, Table};
use super::thread;
use super::wait::Wait;
use crate::panics::contain;
use crate::sync::lock;

/// How often the place of the table is looked at, in milliseconds.
const LOOK_AGAIN: u64 = 1000;

/// How long the thread rests after a panic.
const AFTER_PANIC: Duration = Duration::from_millis(10);

/// See the [module](self).
pub(crate) struct Process {
    pub(crate) table: Arc<Table>,
    pub(crate) robust: &'static Robust,
    /// The number of the thread that stands for the process.
    pub(crate) tid: u32,
    index: u32,
    /// What stands in entries of ours: generation and place.
    pub(crate) owner: u64,
    /// In which generation of forks it was made.
    generation: u32,
    /// Guards the pending entry of the robust list; has where to look for a free entry first.
    pub(super) turn: Mutex<usize>,
    pub(super) waits: Mutex<HashMap<AttemptId, Arc<Wait>>>,
    /// Holds whose loss somebody wants to hear of, with their entries.
    pub(super) observed: Mutex<HashMap<AttemptId, (u32, Events)>>,
    pub(super) observers: AtomicUsize,
    /// When the place of the table was last looked at.
    looked: AtomicU64,
    pub(super) hindrances: Hindrances,
    /// What could not be given back yet: of which lock and attempt, and whether it was a hold.
    pub(super) owed: Mutex<Vec<(Slot, AttemptId, bool)>>,
}

/// What an entry's owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// The kernel reports it dead, but a thread of it may still act.
    Dying,
    Dead,
}

impl Process {
    /// This process in the table at `place`: as it is already, or newly joined.
    pub(crate) fn join(place: &Place) -> Result<Arc<Self>> {
        static JOINED: Mutex<Vec<Weak<Process>>> = Mutex::new(Vec::new());
        fork::count();
        let mut joined = lock(&JOINED);
        joined.retain(|process| process.strong_count() > 0);
        let known = joined
            .iter()
            .filter_map(Weak::upgrade)
            .find(|process| process.is_here() && process.table.place == *place && !process.table.is_replaced());
        if let Some(known) = known {
            return Ok(known);
        }
        let new = Self::new(Arc::new(Table::open(place)?))?;
        joined.push(Arc::downgrade(&new));
        Ok(new)
    }

    fn new(table: Arc<Table>) -> Result<Arc<Self>> {
        // The thread and the kernel refer to it until the thread ends, which may be after all else.
        let robust: &'static Robust = Box::leak(Box::new(Robust::new()));
        let (report, reported) = mpsc::channel();
        let slot: Arc<OnceLock<Weak<Self>>> = Arc::default();
        let (its_table, its_slot) = (table.clone(), slot.clone());
        let fail = |errno| failed("can't join the lock table", &table.place.path, errno);
        let started = std::thread::Builder::new().name("pilotman-os".into()).stack_size(256 * 1024).spawn(move || {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            let claimed = robust.register().and_then(|()| claim(&its_table, robust, tid));
            let index = claimed.ok().flatten();
            // Whoever asked waits for it.
            let _ = report.send(claimed.map(|index| (tid, index)));
            if let Some(index) = index {
                // With this thread all holds would end. Who panics once may do so each time: not in a tight loop.
                while !contain(|| thread::run(&its_table, &its_slot, index)) {
                    std::thread::sleep(AFTER_PANIC);
                }
            }
        });
        started.map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
        let (tid, index) = match reported.recv() {
            Ok(Ok((tid, Some(index)))) => (tid, index),
            Ok(Ok((_, None))) => {
                return Err(Error::unavailable(format!(
                    "{MEMBERS} processes use the lock table {} already",
                    table.place.path.display()
                ))
                .with_advice("end some of them, or use another directory for some")
                .no_effect(true));
            }
            Ok(Err(errno)) => return Err(fail(errno)),
            Err(_) => return Err(fail(Errno::AGAIN)),
        };
        let generation = table.members[index as usize].generation.load(Ordering::SeqCst);
        let process = Arc::new(Self {
            robust,
            tid,
            index,
            owner: u64::from(generation) << 32 | u64::from(index + 1),
            generation: fork::generation(),
            turn: Mutex::new(index as usize * 16 % ENTRIES),
            waits: Mutex::default(),
            observed: Mutex::default(),
            observers: AtomicUsize::new(0),
            hindrances: Hindrances::default(),
            looked: AtomicU64::new(now()),
            owed: Mutex::default(),
            table,
        });
        slot.get_or_init(|| Arc::downgrade(&process));
        process.ring(process.member());
        // So the places of the dead don't add up, even if nobody ever waited for them.
        if let Err(error) = process.sweep(SHORT) {
            tracing::debug!(%error, "what dead processes have left stays until the next look");
        }
        Ok(process)
    }

    pub(crate) fn member(&self) -> &Member {
        &self.table.members[self.index as usize]
    }

    /// Whether this process made it, and not one that it was forked from.
    pub(crate) fn is_here(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Whether the table is still the one that others find, as it was within the last second.
    pub(crate) fn is_current(&self, now: u64) -> bool {
        if now.abs_diff(self.looked.load(Ordering::Relaxed)) < LOOK_AGAIN {
            return true;
        }
        if self.table.is_replaced() {
            // Not noted: whoever asks next has to find out, too.
            return false;
        }
        self.looked.store(now, Ordering::Relaxed);
        true
    }

    /// Whether others were seen to have another table by now. Doesn't look again before its time.
    pub(crate) fn is_stale(&self) -> bool {
        !self.is_current(now())
    }

    /// Has a process look at its inbox.
    pub(super) fn ring(&self, member: &Member) {
        member.inbox.fetch_add(1, Ordering::SeqCst);
        if let Err(errno) = rustix::thread::futex::wake(&member.inbox, rustix::thread::futex::Flags::empty(), 1) {
            tracing::debug!(%errno, "a waiter could not be woken; its timer does it");
        }
    }

    pub(super) fn ring_owner(&self, owner: u64) {
        if let Some(member) = self.member_of(owner) {
            self.ring(member);
        }
    }

    /// The member of an entry, if it is still the same process's.
    pub(super) fn member_of(&self, owner: u64) -> Option<&Member> {
        let index = (owner as u32).checked_sub(1)?;
        let member = self.table.members.get(index as usize)?;
        (u64::from(member.generation.load(Ordering::SeqCst)) == owner >> 32).then_some(member)
    }

    pub(crate) fn life(&self, owner: u64) -> Life {
        let Some(member) = self.member_of(owner) else { return Life::Dead };
        let word = member.word.load(Ordering::SeqCst);
        if word & TID != 0 {
            Life::Alive
        } else if word & DIED != 0 && !has_stopped(member) {
            Life::Dying
        } else {
            Life::Dead
        }
    }

    /// Whether all processes that the kernel has reported dead have stopped too.
    pub(super) fn all_stopped(&self) -> bool {
        let members = self.table.members.iter();
        members.filter(|member| is_dead(member.word.load(Ordering::SeqCst))).all(has_stopped)
    }

    /// Marks processes as dead that are gone though the kernel has not told: it gives up on the list of a process whose
    /// memory it had to take away.
    pub(super) fn look_for_gone(&self, owners: impl Iterator<Item = u64>) {
        for owner in owners {
            let Some(member) = self.member_of(owner) else { continue };
            let word = member.word.load(Ordering::SeqCst);
            // The place may have passed on since it was looked up, but not between here and the exchange.
            if word & TID != 0
                && self.member_of(owner).is_some()
                && dying::is_gone(member.pid.load(Ordering::SeqCst), member.start.load(Ordering::SeqCst))
                && member.word.compare_exchange(word, DIED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                tracing::warn!(
                    pid = member.pid.load(Ordering::SeqCst),
                    "a process was gone and the kernel had not told"
                );
            }
        }
    }

    /// Clears away what dead processes have left, and tells those who waited for it. Says whether that is all.
    pub(super) fn sweep(&self, patience: Duration) -> Result<bool> {
        let mut dead = Vec::new();
        let mut all = true;
        for member in self.table.members.iter() {
            let word = member.word.load(Ordering::SeqCst);
            if is_dead(word) {
                let generation = member.generation.load(Ordering::SeqCst);
                if has_stopped(member) {
                    dead.push((member, word, generation));
                } else {
                    all = false;
                }
            }
        }
        for bucket in &self.table.buckets {
            if bucket.head.load(Ordering::SeqCst) == 0 {
                continue;
            }
            match self.latch(bucket, patience) {
                Ok(mut latched) => latched.reap_all()?,
                // Somebody was stopped in the middle of it. The rest is not to wait for that.
                Err(error) => {
                    tracing::debug!(%error, "a part of the table is left out for now");
                    all = false;
                }
            }
        }
        // What was taken but not put into a chain when its owner died.
        for entry in self.table.used() {
            let owner = entry.owner.load(Ordering::SeqCst);
            if owner != 0 && entry.bucket.load(Ordering::SeqCst) == 0 && self.life(owner) == Life::Dead {
                // Whoever else does the same is as good.
                let _ = entry.owner.compare_exchange(owner, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        if all {
            for (member, word, generation) in dead {
                // Another one may have come to this place, and died: that it has stopped is not known.
                if member.generation.load(Ordering::SeqCst) == generation {
                    vacate(member, word);
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn entry(&self, index: u32) -> Option<&Entry> {
        self.table.entries.get(index as usize)
    }

    /// Whether it has holds or waits, so that a replaced table is still needed.
    pub(crate) fn is_used(&self) -> bool {
        let is_ours = |entry: &Entry| entry.owner.load(Ordering::SeqCst) == self.owner;
        self.table.used().iter().any(is_ours) || !lock(&self.waits).is_empty()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_here() {
            // Here is a forked child: the place, the thread and the mapping belong to the parent.
            return;
        }
        self.ring(self.member());
    }
}

fn is_dead(word: u32) -> bool {
    word & DIED != 0 && word & TID == 0
}

fn has_stopped(member: &Member) -> bool {
    dying::has_stopped(member.pid.load(Ordering::SeqCst), member.start.load(Ordering::SeqCst))
}

/// Takes a free place; `None` if there is none.
fn claim(table: &Table, robust: &'static Robust, tid: u32) -> Result<Option<u32>, Errno> {
    for step in 0..2 * MEMBERS {
        let index = step % MEMBERS;
        let member = &table.members[index];
        let claimed = member.claimed.load(Ordering::SeqCst);
        // Second time round: those who died while they came or went.
        let left = step >= MEMBERS && member.word.load(Ordering::SeqCst) == 0 && thread_is_gone(claimed);
        if (claimed == 0 || left)
            && member.claimed.compare_exchange(claimed, tid, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            let pid = std::process::id();
            member.pid.store(pid, Ordering::SeqCst);
            member.start.store(dying::start_of(pid).unwrap_or(0), Ordering::SeqCst);
            member.user.store(rustix::process::geteuid().as_raw(), Ordering::SeqCst);
            member.generation.fetch_add(1, Ordering::SeqCst);
            robust.cover(&member.word);
            member.word.store(tid, Ordering::SeqCst);
            return Ok(Some(index as u32));
        }
    }
    Ok(None)
}

/// Gives the place of a process back whose word was `word`. Only one of those who try does so; whether it was this one.
pub(super) fn vacate(member: &Member, word: u32) -> bool {
    let claimed = member.claimed.load(Ordering::SeqCst);
    let vacated = member.word.compare_exchange(word, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if vacated {
        // Fails if somebody has found it left already.
        let _ = member.claimed.compare_exchange(claimed, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
    vacated
}

fn thread_is_gone(tid: u32) -> bool {
    let thread = i32::try_from(tid).ok().and_then(rustix::process::Pid::from_raw);
    thread.is_none_or(|thread| rustix::process::test_kill_process(thread) == Err(Errno::SRCH))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
