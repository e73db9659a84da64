//! The stand-in as a test sees it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, mem};

use crate::builtin::{Builtin, Privilege};
use crate::connection;
use crate::database::Database;
use crate::dbms_lock::{Entry, Sid};
use crate::faults::{Fault, Gate, Reply};
use crate::password::Verifier;

/// How a stand-in behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The only user; its case does not matter.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The only service; its case does not matter.
    pub service: String,
    /// No packet of the server is larger than this, in bytes, nor than the client allows; at least 512. 8192 by default.
    pub largest_packet: usize,
    /// Whether the server sends a marker before an error, and the error after the client has reset the connection. No
    /// by default.
    pub marks_errors: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: "pilotman".into(),
            password: "a-password".into(),
            service: "STANDIN".into(),
            largest_packet: 8192,
            marks_errors: false,
        }
    }
}

/// A session of a client.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number.
    pub sid: Sid,
    /// What tells it from an earlier session of this number.
    pub serial: u32,
    /// Its user, in capitals.
    pub user: String,
    /// The program that has logged in.
    pub program: String,
    /// The machine that it runs on.
    pub machine: String,
    /// What the client has said of itself since: `client_identifier`, `module`, `action`, `client_info`, `db_op`.
    pub labels: HashMap<&'static str, String>,
}

/// A server on a loopback port of its own, until it's dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    builtin: Arc<Builtin>,
    address: SocketAddr,
    listener: Option<JoinHandle<()>>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) gate: Gate,
    verifier: Verifier,
    decoy: Verifier,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_connection: u64,
    connections: BTreeMap<u64, TcpStream>,
    threads: Vec<JoinHandle<()>>,
    sessions: BTreeMap<Sid, (u64, Session)>,
    notes: Vec<String>,
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandIn").field("address", &self.address).finish_non_exhaustive()
    }
}

impl StandIn {
    /// Starts one.
    ///
    /// # Errors
    /// There is no free port, or no thread to be had.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Settings::default())
    }

    /// Starts one that behaves so.
    ///
    /// # Errors
    /// As [`StandIn::start`].
    pub fn start_with(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let builtin = Arc::new(Builtin::default());
        let shared = Arc::new(Shared {
            verifier: Verifier::new(&settings.password),
            decoy: Verifier::decoy(),
            settings,
            database: Arc::clone(&builtin) as Arc<dyn Database>,
            gate: Gate::default(),
            state: Mutex::default(),
        });
        let listening = Arc::clone(&shared);
        let listener = thread::Builder::new().spawn(move || listening.listen(&listener))?;
        Ok(Self { shared, builtin, address, listener: Some(listener) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `oracle://user:password@host:port/service`
    #[must_use]
    pub fn url(&self) -> String {
        let Settings { user, password, service, .. } = &self.shared.settings;
        format!("oracle://{user}:{password}@{}/{service}", self.address)
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The locks that are held and waited for.
    #[must_use]
    pub fn locks(&self) -> Vec<Entry> {
        self.builtin.locks.locks()
    }

    /// The sessions that are logged in.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<Session> =
            self.shared.state().sessions.values().map(|(_, session)| session.clone()).collect();
        for session in &mut sessions {
            if let Some(module) = self.builtin.module(session.sid) {
                session.labels.insert("module", module);
            }
        }
        sessions
    }

    /// Kills a session as `ALTER SYSTEM KILL SESSION` does: its locks are free at once, and the call that it's in, or its
    /// next, is answered with ORA-00028. `false` if there is no such session.
    pub fn kill(&self, sid: Sid) -> bool {
        self.shared.database.kill(sid)
    }

    /// Closes a session's connection; the session ends. `false` if there is no such session.
    pub fn disconnect(&self, sid: Sid) -> bool {
        let connection = self.shared.state().sessions.get(&sid).map(|(connection, _)| *connection);
        let Some(connection) = connection else { return false };
        self.shared.end_session(sid);
        self.shared.close(connection);
        true
    }

    /// From now on the server answers nothing and notices nothing; new connections are neither accepted nor refused.
    pub fn freeze(&self) {
        self.shared.gate.freeze();
    }

    /// Ends [`StandIn::freeze`], and each [`Fault::Stall`]: what was held back is sent.
    pub fn thaw(&self) {
        self.shared.gate.thaw();
    }

    /// Breaks the next reply of this kind, on whatever connection; faults of one kind strike one after another.
    pub fn inject(&self, reply: Reply, fault: Fault) {
        self.shared.gate.inject(reply, fault);
    }

    /// How many connections stand still because of [`Fault::Stall`].
    #[must_use]
    pub fn stalled(&self) -> usize {
        self.shared.gate.stalled()
    }

    /// Denies the user a privilege.
    pub fn deny(&self, privilege: Privilege) {
        self.builtin.deny(privilege);
    }

    /// What the database says that its role is; `PRIMARY` unless told otherwise.
    pub fn set_role(&self, role: &str) {
        self.builtin.set_role(role);
    }

    /// All statements that were executed, or tried, in their order.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.builtin.statements()
    }

    /// The statements among them that the stand-in doesn't know. They were answered with an error.
    #[must_use]
    pub fn unknown_statements(&self) -> Vec<String> {
        self.builtin.unknown_statements()
    }

    /// What clients sent that the stand-in doesn't understand. The connections were closed.
    #[must_use]
    pub fn misunderstandings(&self) -> Vec<String> {
        self.shared.state().notes.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.gate.stop();
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        self.listener.take().map(JoinHandle::join);
        let (connections, sessions, threads) = {
            let mut state = self.shared.state();
            (mem::take(&mut state.connections), mem::take(&mut state.sessions), mem::take(&mut state.threads))
        };
        for stream in connections.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for sid in sessions.keys() {
            self.shared.database.close(*sid);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            // No connection has this number: only a server that is frozen as a whole stops it.
            self.gate.pass(0);
            if self.gate.is_stopped() {
                break;
            }
            let Ok(stream) = stream else { continue };
            let Ok(registered) = stream.try_clone().and_then(|clone| stream.set_nodelay(true).map(|()| clone)) else {
                continue;
            };
            let mut state = self.state();
            state.last_connection += 1;
            let number = state.last_connection;
            state.connections.insert(number, registered);
            state.threads.retain(|thread| !thread.is_finished());
            let shared = Arc::clone(self);
            state.threads.push(thread::spawn(move || {
                connection::serve(&shared, number, stream);
                shared.close(number);
            }));
        }
    }

    /// What the server knows of a user's password; of a stranger's it knows nothing, and doesn't show it.
    pub(crate) fn verifier(&self, user: &str) -> &Verifier {
        if user.eq_ignore_ascii_case(&self.settings.user) { &self.verifier } else { &self.decoy }
    }

    pub(crate) fn begin_session(&self, connection: u64, session: Session) {
        self.state().sessions.insert(session.sid, (connection, session));
    }

    pub(crate) fn label(&self, sid: Sid, labels: Vec<(&'static str, String)>) {
        if let Some((_, session)) = self.state().sessions.get_mut(&sid) {
            session.labels.extend(labels);
        }
    }

    pub(crate) fn end_session(&self, sid: Sid) {
        self.state().sessions.remove(&sid);
        self.database.close(sid);
    }

    /// Closes a connection.
    pub(crate) fn close(&self, connection: u64) {
        if let Some(stream) = self.state().connections.remove(&connection) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.gate.release(connection);
    }

    /// Notes what a client sent that isn't understood.
    pub(crate) fn note(&self, what: String) {
        self.state().notes.push(what);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
