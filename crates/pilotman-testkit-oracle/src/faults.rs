//! What a test breaks: replies, connections, the whole server.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A reply of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To the first packet of a connection.
    Accept,
    /// To the negotiation of the protocol.
    Protocol,
    /// To the negotiation of data types.
    DataTypes,
    /// To the first message of a login.
    Challenge,
    /// To the second message of a login.
    Login,
    /// To a statement.
    Execute,
    /// To a ping.
    Ping,
    /// To COMMIT and ROLLBACK.
    Transaction,
    /// To a logoff.
    Logoff,
    /// To a marker that resets the connection, after which the client expects an error.
    Reset,
}

/// What happens to a reply; the call itself is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// So many bytes are sent, then the connection is closed, and the session ends.
    Cut(usize),
    /// So many bytes are sent, then nothing: the connection hears and says nothing until the stand-in is
    /// [thawed](crate::StandIn::thaw), and its session stays as it is.
    Stall(usize),
}

/// Whom the gate lets through.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    is_frozen: bool,
    stalled: BTreeSet<u64>,
    faults: VecDeque<(Reply, Fault)>,
}

impl Gate {
    pub(crate) fn inject(&self, reply: Reply, fault: Fault) {
        self.lock().faults.push_back((reply, fault));
    }

    /// The fault of a reply that is about to be sent.
    pub(crate) fn take(&self, reply: Reply) -> Option<Fault> {
        let mut state = self.lock();
        let index = state.faults.iter().position(|(broken, _)| *broken == reply)?;
        state.faults.remove(index).map(|(_, fault)| fault)
    }

    pub(crate) fn freeze(&self) {
        self.lock().is_frozen = true;
    }

    pub(crate) fn thaw(&self) {
        let mut state = self.lock();
        state.is_frozen = false;
        state.stalled.clear();
        self.changed.notify_all();
    }

    pub(crate) fn stall(&self, connection: u64) {
        self.lock().stalled.insert(connection);
    }

    pub(crate) fn stalled(&self) -> usize {
        self.lock().stalled.len()
    }

    /// A connection that is closed stands still no longer.
    pub(crate) fn release(&self, connection: u64) {
        self.lock().stalled.remove(&connection);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Waits while the server, or this connection, stands still.
    pub(crate) fn pass(&self, connection: u64) {
        let mut state = self.lock();
        while !state.is_stopped && (state.is_frozen || state.stalled.contains(&connection)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
