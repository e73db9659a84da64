//! The locks of `DBMS_LOCK`, as Oracle's documentation of the package describes them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `MAXWAIT`: waits without an end.
pub(crate) const MAXWAIT: i64 = 32_767;
/// Ids from here on are given by `ALLOCATE_UNIQUE`; those below are for programs that count themselves.
const FIRST: i64 = 1_073_741_824;

pub(crate) const SUCCESS: i64 = 0;
pub(crate) const TIMEOUT: i64 = 1;
pub(crate) const DEADLOCK: i64 = 2;
pub(crate) const PARAMETER: i64 = 3;
/// Of `REQUEST`: the session has it already; of `CONVERT` and `RELEASE`: it has not.
pub(crate) const OWNED: i64 = 4;
pub(crate) const ILLEGAL_HANDLE: i64 = 5;

/// A mode of a lock: 1 `NL`, 2 `SS`, 3 `SX`, 4 `S`, 5 `SSX`, 6 `X`.
pub(crate) type Mode = i64;

/// The modes that each mode bears beside it, as bits.
const BEARS: [u8; 7] = [0, 0b111_1110, 0b011_1110, 0b000_1110, 0b001_0110, 0b000_0110, 0b000_0010];

pub(crate) fn compatible(held: Mode, asked: Mode) -> bool {
    BEARS[held as usize] >> asked & 1 == 1
}

/// The session has been ended while it waited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) session: u64,
    /// Nothing if it only waits.
    pub(crate) held: Option<Mode>,
    pub(crate) asked: Option<Mode>,
    pub(crate) since: Duration,
}

#[derive(Debug)]
struct Hold {
    session: u64,
    mode: Mode,
    since: Instant,
}

#[derive(Debug)]
struct Wait {
    ticket: u64,
    session: u64,
    mode: Mode,
}

#[derive(Debug, Default)]
struct Lock {
    holds: Vec<Hold>,
    converters: VecDeque<Wait>,
    waiters: VecDeque<Wait>,
}

#[derive(Debug, Default)]
struct State {
    ids: BTreeMap<String, i64>,
    names: HashMap<i64, String>,
    given: i64,
    locks: HashMap<i64, Lock>,
    tickets: u64,
    ended: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Locks {
    state: Mutex<State>,
    changed: Condvar,
}

impl Lock {
    fn mode_of(&self, session: u64) -> Option<Mode> {
        self.holds.iter().find(|hold| hold.session == session).map(|hold| hold.mode)
    }

    fn bears(&self, session: u64, mode: Mode) -> bool {
        self.holds.iter().all(|hold| hold.session == session || compatible(hold.mode, mode))
    }

    fn is_queued(&self, ticket: u64) -> bool {
        self.converters.iter().chain(&self.waiters).any(|wait| wait.ticket == ticket)
    }

    fn leave(&mut self, ticket: u64) {
        self.converters.retain(|wait| wait.ticket != ticket);
        self.waiters.retain(|wait| wait.ticket != ticket);
        self.advance();
    }

    /// Gives the lock to those whose turn it is: who converts goes before who has nothing, and nobody overtakes.
    fn advance(&mut self) {
        while let Some(first) = self.converters.front() {
            if !self.bears(first.session, first.mode) {
                return;
            }
            let Some(first) = self.converters.pop_front() else { return };
            for hold in self.holds.iter_mut().filter(|hold| hold.session == first.session) {
                (hold.mode, hold.since) = (first.mode, Instant::now());
            }
        }
        while let Some(first) = self.waiters.front() {
            if !self.bears(first.session, first.mode) {
                return;
            }
            let Some(first) = self.waiters.pop_front() else { return };
            self.holds.push(Hold { session: first.session, mode: first.mode, since: Instant::now() });
        }
    }

    /// The sessions that this waiting one waits for.
    fn blockers(&self, session: u64) -> Option<Vec<u64>> {
        let mut ahead = Vec::new();
        for wait in self.converters.iter().chain(&self.waiters) {
            if wait.session == session {
                let holders = self.holds.iter().filter(|hold| !compatible(hold.mode, wait.mode));
                ahead.extend(holders.map(|hold| hold.session).filter(|other| *other != session));
                return Some(ahead);
            }
            ahead.push(wait.session);
        }
        None
    }
}

impl State {
    fn is_deadlocked(&self, session: u64) -> bool {
        let (mut seen, mut todo) = (Vec::new(), vec![session]);
        while let Some(next) = todo.pop() {
            for blocker in self.locks.values().filter_map(|lock| lock.blockers(next)).flatten() {
                if blocker == session {
                    return true;
                }
                if !seen.contains(&blocker) {
                    seen.push(blocker);
                    todo.push(blocker);
                }
            }
        }
        false
    }
}

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of a name, given on demand.
    pub(crate) fn allocate(&self, name: &str) -> i64 {
        let mut state = self.state();
        if let Some(id) = state.ids.get(name) {
            return *id;
        }
        let id = FIRST + state.given;
        state.given += 1;
        state.ids.insert(name.to_owned(), id);
        state.names.insert(id, name.to_owned());
        id
    }

    /// The database forgets a name, as it may after ten days.
    pub(crate) fn forget(&self, name: &str) {
        self.state().ids.remove(name);
    }

    pub(crate) fn request(&self, session: u64, id: i64, mode: Mode, timeout: i64) -> Result<i64, Ended> {
        if !(1..=6).contains(&mode) || timeout < 0 {
            return Ok(PARAMETER);
        }
        let mut state = self.state();
        let lock = state.locks.entry(id).or_default();
        if lock.mode_of(session).is_some() {
            return Ok(OWNED);
        }
        if lock.converters.is_empty() && lock.waiters.is_empty() && lock.bears(session, mode) {
            lock.holds.push(Hold { session, mode, since: Instant::now() });
            return Ok(SUCCESS);
        }
        self.wait(state, id, Wait { ticket: 0, session, mode }, timeout, false)
    }

    pub(crate) fn convert(&self, session: u64, id: i64, mode: Mode, timeout: i64) -> Result<i64, Ended> {
        if !(1..=6).contains(&mode) || timeout < 0 {
            return Ok(PARAMETER);
        }
        let mut state = self.state();
        let lock = state.locks.entry(id).or_default();
        let Some(has) = lock.mode_of(session) else { return Ok(OWNED) };
        // A weaker mode can be had by whoever has the stronger one.
        let is_weaker = BEARS[has as usize] & BEARS[mode as usize] == BEARS[has as usize];
        if is_weaker || (lock.converters.is_empty() && lock.bears(session, mode)) {
            for hold in lock.holds.iter_mut().filter(|hold| hold.session == session) {
                (hold.mode, hold.since) = (mode, Instant::now());
            }
            lock.advance();
            self.changed.notify_all();
            return Ok(SUCCESS);
        }
        self.wait(state, id, Wait { ticket: 0, session, mode }, timeout, true)
    }

    fn wait(
        &self,
        mut state: MutexGuard<'_, State>,
        id: i64,
        mut wait: Wait,
        timeout: i64,
        converts: bool,
    ) -> Result<i64, Ended> {
        if timeout == 0 {
            return Ok(TIMEOUT);
        }
        state.tickets += 1;
        let (ticket, session) = (state.tickets, wait.session);
        wait.ticket = ticket;
        let lock = state.locks.entry(id).or_default();
        if converts { &mut lock.converters } else { &mut lock.waiters }.push_back(wait);
        let until = (timeout < MAXWAIT).then(|| Instant::now() + Duration::from_secs(timeout as u64));
        let answer = if state.is_deadlocked(session) {
            Ok(DEADLOCK)
        } else {
            loop {
                if state.ended.contains(&session) {
                    break Err(Ended);
                }
                if !state.locks.get(&id).is_some_and(|lock| lock.is_queued(ticket)) {
                    return Ok(SUCCESS);
                }
                let left =
                    until.map_or(Duration::from_secs(60), |until| until.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    break Ok(TIMEOUT);
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        if let Some(lock) = state.locks.get_mut(&id) {
            lock.leave(ticket);
        }
        self.changed.notify_all();
        answer
    }

    pub(crate) fn release(&self, session: u64, id: i64) -> i64 {
        let mut state = self.state();
        let Some(lock) = state.locks.get_mut(&id).filter(|lock| lock.mode_of(session).is_some()) else { return OWNED };
        lock.holds.retain(|hold| hold.session != session);
        lock.advance();
        if lock.holds.is_empty() && lock.waiters.is_empty() {
            state.locks.remove(&id);
        }
        self.changed.notify_all();
        SUCCESS
    }

    /// A session has ended, and with it all that it held.
    pub(crate) fn end(&self, session: u64) {
        let mut state = self.state();
        state.ended.push(session);
        for lock in state.locks.values_mut() {
            lock.holds.retain(|hold| hold.session != session);
            lock.converters.retain(|wait| wait.session != session);
            lock.waiters.retain(|wait| wait.session != session);
            lock.advance();
        }
        state.locks.retain(|_, lock| !lock.holds.is_empty() || !lock.waiters.is_empty());
        self.changed.notify_all();
    }

    /// All that is held or asked for.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let state = self.state();
        state.locks.iter().flat_map(|(id, lock)| state.seen_of(*id, lock)).collect()
    }

    /// What is held or asked for under this name.
    pub(crate) fn seen_of(&self, name: &str) -> Vec<Seen> {
        let state = self.state();
        let lock = state.ids.get(name).and_then(|id| Some((*id, state.locks.get(id)?)));
        lock.map(|(id, lock)| state.seen_of(id, lock)).unwrap_or_default()
    }

    /// How many locks are held or asked for.
    pub(crate) fn in_use(&self) -> usize {
        self.state().locks.values().filter(|lock| !lock.holds.is_empty() || !lock.waiters.is_empty()).count()
    }
}

impl State {
    fn seen_of(&self, id: i64, lock: &Lock) -> Vec<Seen> {
        let name_of = |id: &i64| self.names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let (mut seen, name) = (Vec::new(), name_of(&id));
        let asks = |session| lock.converters.iter().chain(&lock.waiters).find(|wait| wait.session == session);
        for hold in &lock.holds {
            let asked = asks(hold.session).map(|wait| wait.mode);
            let (held, since) = (Some(hold.mode), hold.since.elapsed());
            seen.push(Seen { name: name.clone(), session: hold.session, held, asked, since });
        }
        for wait in &lock.waiters {
            let (asked, since) = (Some(wait.mode), Duration::ZERO);
            seen.push(Seen { name: name.clone(), session: wait.session, held: None, asked, since });
        }
        seen
    }
}
