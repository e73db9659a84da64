//! What all sessions share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::faults::Faults;
use super::sequences::Sequences;
use super::session::{Identity, Interrupt, Item, Session};
use super::settings::Settings;
use crate::gate::Gate;
use crate::locks::Table;

/// The smallest number that a user's session has.
const FIRST_SESSION: i32 = 51;

/// One thing that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The session that asked (`@@SPID`).
    pub session: i32,
    /// The text of a batch, or the call of a procedure as `EXEC` would have it.
    pub text: String,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) gate: Arc<Gate>,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) faults: Faults,
    settings: Mutex<Settings>,
    locks: Mutex<Table>,
    sequences: Mutex<Sequences>,
    sessions: Mutex<BTreeMap<i32, Arc<Session>>>,
    statements: Mutex<Vec<Statement>>,
    unknown: Mutex<Vec<String>>,
    objects: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(crate) fn new(settings: Settings, tls: Arc<ServerConfig>) -> Self {
        Self {
            gate: Arc::default(),
            tls,
            faults: Faults::default(),
            settings: Mutex::new(settings),
            locks: Mutex::default(),
            sequences: Mutex::default(),
            sessions: Mutex::default(),
            statements: Mutex::default(),
            unknown: Mutex::default(),
            objects: AtomicU64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        locked(&self.settings).clone()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut locked(&self.settings));
    }

    /// The lock table. Nothing else is locked while it is, but the list of sessions.
    pub(crate) fn locks(&self) -> MutexGuard<'_, Table> {
        locked(&self.locks)
    }

    pub(crate) fn sequences(&self) -> MutexGuard<'_, Sequences> {
        locked(&self.sequences)
    }

    /// A number that nothing else has.
    pub(crate) fn number(&self) -> u64 {
        self.objects.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Wakes the sessions whose wait the table decided.
    pub(crate) fn wake(&self, table: &mut Table) {
        let woken = table.take_woken();
        if woken.is_empty() {
            return;
        }
        let sessions = locked(&self.sessions);
        for session in woken.iter().filter_map(|id| sessions.get(id)) {
            session.woken.notify_all();
        }
    }

    /// Makes a session look at what has come. Its wait can't miss it: it holds the table while it looks.
    pub(crate) fn nudge(&self, session: &Session) {
        let _table = self.locks();
        session.woken.notify_all();
    }

    /// Waits that long, unless something interrupts.
    pub(crate) fn sleep(&self, session: &Session, time: Duration) -> Result<(), Interrupt> {
        let until = Instant::now() + time;
        let mut table = self.locks();
        loop {
            if let Some(interrupt) = session.interrupted() {
                return Err(interrupt);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            table = session.woken.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A new session with the smallest number that is free, as the server gives them.
    pub(crate) fn login(&self, identity: Identity, stream: TcpStream, client: SocketAddr) -> Arc<Session> {
        let mut sessions = locked(&self.sessions);
        let taken: BTreeSet<i32> = sessions.keys().copied().collect();
        let id = (FIRST_SESSION..).find(|id| !taken.contains(id)).unwrap_or(FIRST_SESSION);
        let session = Arc::new(Session::new(id, identity, stream, client));
        sessions.insert(id, Arc::clone(&session));
        session
    }

    /// The end of a session: nothing of it stays.
    pub(crate) fn logout(&self, session: &Session) {
        self.free(session.id);
        let mut sessions = locked(&self.sessions);
        sessions.remove(&session.id);
    }

    fn free(&self, session: i32) {
        let mut table = self.locks();
        table.forget(|owner| owner.session == session);
        self.wake(&mut table);
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        locked(&self.sessions).values().cloned().collect()
    }

    pub(crate) fn session(&self, id: i32) -> Option<Arc<Session>> {
        locked(&self.sessions).get(&id).cloned()
    }

    /// Ends a session from outside. `false` if there is none of that number.
    pub(crate) fn kill(&self, id: i32) -> bool {
        let Some(session) = self.session(id) else { return false };
        session.post(Item::Killed);
        self.free(id);
        self.nudge(&session);
        true
    }

    pub(crate) fn log(&self, session: i32, text: String) {
        locked(&self.statements).push(Statement { session, text });
    }

    pub(crate) fn log_unknown(&self, what: String) {
        locked(&self.unknown).push(what);
    }

    pub(crate) fn statements(&self) -> Vec<Statement> {
        locked(&self.statements).clone()
    }

    pub(crate) fn clear_statements(&self) {
        locked(&self.statements).clear();
    }

    pub(crate) fn unknown(&self) -> Vec<String> {
        locked(&self.unknown).clone()
    }

    /// Resolves deadlocks, as the lock monitor does now and then.
    pub(crate) fn resolve_deadlocks(&self) {
        let priorities: BTreeMap<i32, i32> = locked(&self.sessions)
            .iter()
            .map(|(id, session)| (*id, session.deadlock_priority.load(Ordering::SeqCst)))
            .collect();
        let mut table = self.locks();
        if table.has_waiters() {
            table.resolve_deadlocks(|id| priorities.get(&id).copied().unwrap_or(0));
            self.wake(&mut table);
        }
    }
}
