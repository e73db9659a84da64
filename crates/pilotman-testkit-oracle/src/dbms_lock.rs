//! `DBMS_LOCK` as Oracle documents it: modes, their compatibility, time-outs, deadlocks, handles.
//!
//! The documentation does not say in which order waiters are served. Here they are served first come, first served, and
//! who converts a lock it holds goes before who requests one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A session's number.
pub type Sid = u32;

/// What the functions answer.
pub mod answer {
    /// Granted, or released.
    pub const SUCCESS: i64 = 0;
    /// Not granted in time.
    pub const TIMEOUT: i64 = 1;
    /// Waiting would have been a deadlock.
    pub const DEADLOCK: i64 = 2;
    /// A parameter is outside its range.
    pub const PARAMETER: i64 = 3;
    /// The session owns the lock already; of `CONVERT` and `RELEASE`: it doesn't own it.
    pub const OWNERSHIP: i64 = 4;
    /// No such handle was allocated.
    pub const HANDLE: i64 = 5;
}

/// A time-out, in seconds, of this or more is none.
pub const MAXWAIT: i64 = 32_767;
/// The longest name, in bytes.
pub const LONGEST_NAME: usize = 128;
/// The highest id that a user may choose; names get higher ones.
const HIGHEST_USER_ID: i64 = 1_073_741_823;
const HIGHEST_ID: i64 = 1_999_999_999;

/// The mode of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `NL_MODE`: null.
    Nl = 1,
    /// `SS_MODE`: sub shared.
    Ss,
    /// `SX_MODE`: sub exclusive.
    Sx,
    /// `S_MODE`: shared.
    S,
    /// `SSX_MODE`: shared sub exclusive.
    Ssx,
    /// `X_MODE`: exclusive.
    X,
}

impl Mode {
    /// All of them, from the weakest.
    pub const ALL: [Self; 6] = [Self::Nl, Self::Ss, Self::Sx, Self::S, Self::Ssx, Self::X];

    /// The mode of this number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| *mode as i64 == number)
    }

    /// Whether this mode is granted while another session holds `held`.
    #[must_use]
    pub fn is_compatible_with(self, held: Self) -> bool {
        match held {
            Self::Nl => true,
            Self::Ss => self != Self::X,
            Self::Sx => matches!(self, Self::Nl | Self::Ss | Self::Sx),
            Self::S => matches!(self, Self::Nl | Self::Ss | Self::S),
            Self::Ssx => matches!(self, Self::Nl | Self::Ss),
            Self::X => self == Self::Nl,
        }
    }
}

/// Which lock is meant.
#[derive(Clone, Copy, Debug)]
pub enum Lock<'a> {
    /// By a number that the users have agreed on.
    Id(i64),
    /// By the handle that `ALLOCATE_UNIQUE` gave for a name.
    Handle(&'a str),
}

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`LockTable::interrupt`].
    Interrupted,
    /// [`LockTable::kill`].
    Killed,
    /// [`LockTable::close`], or there never was such a session.
    Closed,
}

/// A lock that is held or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The session.
    pub sid: Sid,
    /// The lock's number.
    pub id: i64,
    /// The name that the number was allocated for.
    pub name: Option<String>,
    /// The mode that is held; `None` while the session waits to get the lock at all.
    pub held: Option<Mode>,
    /// The mode that the session waits for.
    pub wanted: Option<Mode>,
}

/// The locks of a database and its sessions.
#[derive(Default)]
pub struct LockTable {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    last_sid: Sid,
    sessions: HashMap<Sid, Option<Ended>>,
    names: HashMap<String, i64>,
    locks: BTreeMap<i64, Queue>,
}

#[derive(Default)]
struct Queue {
    owners: Vec<Owner>,
    converting: Vec<(Sid, Mode)>,
    waiting: Vec<(Sid, Mode)>,
}

struct Owner {
    sid: Sid,
    mode: Mode,
    until_commit: bool,
}

impl fmt::Debug for LockTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.locks()).finish()
    }
}

impl LockTable {
    /// A new session.
    pub fn open(&self) -> Sid {
        let mut state = self.lock();
        state.last_sid += 1;
        let sid = state.last_sid;
        state.sessions.insert(sid, None);
        sid
    }

    /// Ends a session and frees its locks.
    pub fn close(&self, sid: Sid) {
        let mut state = self.lock();
        state.sessions.remove(&sid);
        state.forget(sid);
        self.changed.notify_all();
    }

    /// Frees a session's locks and refuses all it calls from now on; `false` if there is no such session.
    pub fn kill(&self, sid: Sid) -> bool {
        let mut state = self.lock();
        let Some(ended) = state.sessions.get_mut(&sid) else { return false };
        *ended = Some(Ended::Killed);
        state.forget(sid);
        self.changed.notify_all();
        true
    }

    /// Ends the call that a session waits in, and all that follow until [`LockTable::resume`].
    pub fn interrupt(&self, sid: Sid) {
        if let Some(ended @ None) = self.lock().sessions.get_mut(&sid) {
            *ended = Some(Ended::Interrupted);
        }
        self.changed.notify_all();
    }

    /// Lets an interrupted session call again.
    pub fn resume(&self, sid: Sid) {
        if let Some(ended @ Some(Ended::Interrupted)) = self.lock().sessions.get_mut(&sid) {
            *ended = None;
        }
    }

    /// Whether a session may call.
    ///
    /// # Errors
    /// What ended it.
    pub fn check(&self, sid: Sid) -> Result<(), Ended> {
        self.lock().check(sid)
    }

    /// `ALLOCATE_UNIQUE`: the handle of a name; `None` if the name is empty or too long.
    pub fn allocate_unique(&self, name: &str) -> Option<String> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return None;
        }
        let mut state = self.lock();
        let next = HIGHEST_USER_ID + 1 + i64::try_from(state.names.len()).ok()?;
        let id = *state.names.entry(name.into()).or_insert(next);
        Some(handle(id))
    }

    /// `REQUEST`; waits on the calling thread.
    ///
    /// # Errors
    /// What ended the session, or this call.
    pub fn request(&self, sid: Sid, lock: Lock<'_>, mode: i64, timeout: i64, until_commit: bool) -> Result<i64, Ended> {
        let mut state = self.lock();
        state.check(sid)?;
        let (id, mode) = match state.parameters(lock, mode, timeout) {
            Ok(parameters) => parameters,
            Err(answer) => return Ok(answer),
        };
        let queue = state.locks.entry(id).or_default();
        if queue.owners.iter().any(|owner| owner.sid == sid) {
            return Ok(answer::OWNERSHIP);
        }
        queue.waiting.push((sid, mode));
        let granted = self.wait(state, sid, id, timeout);
        self.settle(sid, id, granted, |queue| queue.owners.push(Owner { sid, mode, until_commit }))
    }

    /// `CONVERT`; waits on the calling thread, and keeps the mode it has if it can't have the other.
    ///
    /// # Errors
    /// What ended the session, or this call.
    pub fn convert(&self, sid: Sid, lock: Lock<'_>, mode: i64, timeout: i64) -> Result<i64, Ended> {
        let mut state = self.lock();
        state.check(sid)?;
        let (id, mode) = match state.parameters(lock, mode, timeout) {
            Ok(parameters) => parameters,
            Err(answer) => return Ok(answer),
        };
        let queue = state.locks.entry(id).or_default();
        if !queue.owners.iter().any(|owner| owner.sid == sid) {
            return Ok(answer::OWNERSHIP);
        }
        queue.converting.push((sid, mode));
        let granted = self.wait(state, sid, id, timeout);
        self.settle(sid, id, granted, |queue| {
            queue.owners.iter_mut().filter(|owner| owner.sid == sid).for_each(|owner| owner.mode = mode);
        })
    }

    /// `RELEASE`.
    ///
    /// # Errors
    /// What ended the session.
    pub fn release(&self, sid: Sid, lock: Lock<'_>) -> Result<i64, Ended> {
        let mut state = self.lock();
        state.check(sid)?;
        let id = match state.id(lock) {
            Ok(id) => id,
            Err(answer) => return Ok(answer),
        };
        let owners = state.locks.get_mut(&id).map(|queue| &mut queue.owners);
        let Some((owners, index)) = owners.and_then(|owners| {
            let index = owners.iter().position(|owner| owner.sid == sid)?;
            Some((owners, index))
        }) else {
            return Ok(answer::OWNERSHIP);
        };
        owners.remove(index);
        self.changed.notify_all();
        Ok(answer::SUCCESS)
    }

    /// The end of a transaction: frees the locks that were requested with `release_on_commit`.
    pub fn end_transaction(&self, sid: Sid) {
        let mut state = self.lock();
        for queue in state.locks.values_mut() {
            queue.owners.retain(|owner| owner.sid != sid || !owner.until_commit);
        }
        self.changed.notify_all();
    }

    /// What is held and waited for, by the locks' numbers; the waiters of a lock in their order.
    #[must_use]
    pub fn locks(&self) -> Vec<Entry> {
        let state = self.lock();
        let mut entries = Vec::new();
        for (id, queue) in &state.locks {
            let name = state.names.iter().find(|(_, named)| *named == id).map(|(name, _)| name.clone());
            let entry = |sid, held, wanted| Entry { sid, id: *id, name: name.clone(), held, wanted };
            for owner in &queue.owners {
                let wanted = queue.converting.iter().find(|(sid, _)| *sid == owner.sid).map(|(_, mode)| *mode);
                entries.push(entry(owner.sid, Some(owner.mode), wanted));
            }
            entries.extend(queue.waiting.iter().map(|(sid, mode)| entry(*sid, None, Some(*mode))));
        }
        entries
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the request that `sid` has put into the queue can be granted. The table stays locked, for
    /// [`LockTable::settle`].
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, sid: Sid, id: i64, timeout: i64) -> Waited<'a> {
        let limit = (timeout < MAXWAIT).then(|| Instant::now() + Duration::from_secs(timeout.unsigned_abs()));
        let mut is_new = true;
        loop {
            if let Err(ended) = state.check(sid) {
                return (state, Err(ended));
            }
            if state.blockers(sid, id).is_empty() {
                return (state, Ok(answer::SUCCESS));
            }
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return (state, Ok(answer::TIMEOUT));
            }
            if std::mem::take(&mut is_new) && state.is_deadlock(sid) {
                return (state, Ok(answer::DEADLOCK));
            }
            state = match left {
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes the request out of the queue and, if it was granted, makes it so.
    fn settle(
        &self,
        sid: Sid,
        id: i64,
        (mut state, granted): Waited<'_>,
        grant: impl FnOnce(&mut Queue),
    ) -> Result<i64, Ended> {
        let queue = state.locks.entry(id).or_default();
        queue.waiting.retain(|(waiter, _)| *waiter != sid);
        queue.converting.retain(|(waiter, _)| *waiter != sid);
        if granted == Ok(answer::SUCCESS) {
            grant(queue);
        }
        self.changed.notify_all();
        granted
    }
}

type Waited<'a> = (MutexGuard<'a, State>, Result<i64, Ended>);

impl State {
    fn check(&self, sid: Sid) -> Result<(), Ended> {
        match self.sessions.get(&sid) {
            None => Err(Ended::Closed),
            Some(None) => Ok(()),
            Some(Some(ended)) => Err(*ended),
        }
    }

    fn parameters(&self, lock: Lock<'_>, mode: i64, timeout: i64) -> Result<(i64, Mode), i64> {
        let id = self.id(lock)?;
        let mode = Mode::from_number(mode).ok_or(answer::PARAMETER)?;
        if timeout < 0 { Err(answer::PARAMETER) } else { Ok((id, mode)) }
    }

    fn id(&self, lock: Lock<'_>) -> Result<i64, i64> {
        match lock {
            Lock::Id(id) if (0..=HIGHEST_USER_ID).contains(&id) => Ok(id),
            Lock::Id(_) => Err(answer::PARAMETER),
            Lock::Handle(text) => self.names.values().copied().find(|id| handle(*id) == text).ok_or(answer::HANDLE),
        }
    }

    /// Who stands between a request in the queue and its grant.
    fn blockers(&self, sid: Sid, id: i64) -> Vec<Sid> {
        let Some(queue) = self.locks.get(&id) else { return Vec::new() };
        let mut blockers = Vec::new();
        let is_sid = |(waiter, _): &(Sid, Mode)| *waiter == sid;
        let mode = if let Some((_, mode)) = queue.converting.iter().find(|converting| is_sid(converting)) {
            *mode
        } else if let Some(place) = queue.waiting.iter().position(is_sid) {
            blockers.extend(queue.converting.iter().chain(&queue.waiting[..place]).map(|(ahead, _)| *ahead));
            queue.waiting[place].1
        } else {
            return blockers;
        };
        let others = queue.owners.iter().filter(|owner| owner.sid != sid && !mode.is_compatible_with(owner.mode));
        blockers.extend(others.map(|owner| owner.sid));
        blockers
    }

    /// Whether a session waits, over others, for itself.
    fn is_deadlock(&self, sid: Sid) -> bool {
        let waits = |sid: Sid| self.locks.keys().flat_map(move |id| self.blockers(sid, *id));
        let mut seen = Vec::new();
        let mut next: Vec<Sid> = waits(sid).collect();
        while let Some(blocker) = next.pop() {
            if blocker == sid {
                return true;
            }
            if !seen.contains(&blocker) {
                seen.push(blocker);
                next.extend(waits(blocker));
            }
        }
        false
    }

    fn forget(&mut self, sid: Sid) {
        for queue in self.locks.values_mut() {
            queue.owners.retain(|owner| owner.sid != sid);
            queue.waiting.retain(|(waiter, _)| *waiter != sid);
            queue.converting.retain(|(waiter, _)| *waiter != sid);
        }
    }
}

fn handle(id: i64) -> String {
    debug_assert!((HIGHEST_USER_ID + 1..=HIGHEST_ID).contains(&id), "a name's id is higher than a user's");
    format!("{id}{id}{:03}", id % 1000)
}
