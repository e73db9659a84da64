//! The server as a test has it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pilotman_testkit::certificates::Certificates;
use tempfile::TempDir;

use crate::builder::{Builder, DATABASE, PASSWORD, USER};
use crate::connection;
use crate::engine::server::{Server, Statement};
use crate::engine::settings::Settings;
use crate::report::{LockOwner, LockRow, SessionRow};
use crate::wire::tls;
use crate::{Fault, Mode, Permissions, SqlError};

/// How long between two looks at idle sessions.
const TICK: Duration = Duration::from_millis(20);

/// The connections that are open, by a number of their own.
type Streams = Arc<Mutex<BTreeMap<u64, TcpStream>>>;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct StandIn {
    server: Arc<Server>,
    address: SocketAddr,
    certificates: Certificates,
    streams: Streams,
    threads: Vec<JoinHandle<()>>,
    _directory: TempDir,
}

impl StandIn {
    /// Starts a server with one login, which may do everything.
    ///
    /// # Errors
    ///
    /// When the port, its certificate or its threads can't be had.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Sets up a server before it starts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(settings: Settings) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let certificates = Certificates::make(directory.path())?;
        let interval = settings.deadlock_interval;
        let server = Arc::new(Server::new(settings, tls::config(directory.path())?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let streams = Streams::default();
        let mut stand_in = Self { server, address, certificates, streams, threads: Vec::new(), _directory: directory };
        let (server, streams) = (Arc::clone(&stand_in.server), Arc::clone(&stand_in.streams));
        let accepting = thread::Builder::new().name("mssql accept".to_owned());
        stand_in.threads.push(accepting.spawn(move || accept(&server, &listener, &streams))?);
        let server = Arc::clone(&stand_in.server);
        let monitor = thread::Builder::new().name("mssql monitor".to_owned());
        stand_in.threads.push(monitor.spawn(move || watch(&server, interval))?);
        Ok(stand_in)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Login and password that may do everything.
    pub fn credentials(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// The database that the server has by default.
    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// A URL with login and database, without a query.
    pub fn url(&self) -> String {
        format!("mssql://{USER}:{PASSWORD}@{}/{DATABASE}", self.address)
    }

    /// The same as an ADO connection string, which trusts any certificate.
    pub fn ado(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!(
            "Server=tcp:{host},{port};User ID={USER};Password={PASSWORD};Database={DATABASE};TrustServerCertificate=true"
        )
    }

    /// The authority of the server's certificate, which is for `localhost` and `127.0.0.1`, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.certificates.ca.clone()
    }

    /// The directory of all its certificates.
    pub fn certificates(&self) -> &Path {
        self.certificates.ca.parent().unwrap_or(Path::new("."))
    }

    /// Every application lock that is held or waited for, by resource: holders first, then waiters in their order.
    pub fn locks(&self) -> Vec<LockRow> {
        let table = self.server.locks();
        let row = |held: crate::locks::Held| LockRow {
            references: if held.granted { table.count(held.owner, &held.key) } else { 0 },
            resource: held.key.resource,
            principal: held.key.principal,
            database: held.key.database,
            mode: held.mode,
            owner: if held.owner.transaction.is_some() { LockOwner::Transaction } else { LockOwner::Session },
            session: held.owner.session,
            granted: held.granted,
        };
        table.rows().into_iter().map(row).collect()
    }

    /// Whether `session` holds `resource`, and how, as [`Self::locks`] has it.
    pub fn holds(&self, session: i32, resource: &str) -> Option<Mode> {
        let mut rows = self.locks().into_iter().filter(|row| row.granted);
        rows.find(|row| row.session == session && row.resource == resource).map(|row| row.mode)
    }

    /// Every session, by its number.
    pub fn sessions(&self) -> Vec<SessionRow> {
        let row = |session: Arc<crate::engine::session::Session>| {
            let activity = session.activity();
            SessionRow {
                id: session.id,
                login: session.login.clone(),
                host: session.host.clone(),
                program: session.program.clone(),
                database: activity.database,
                client: session.client,
                encrypted: session.encrypted,
                running: activity.running,
                transactions: activity.transactions,
            }
        };
        self.server.sessions().into_iter().map(row).collect()
    }

    /// Ends a session as `KILL` does: its locks are free when this returns. `false` if there is no such session.
    pub fn kill(&self, session: i32) -> bool {
        self.server.kill(session)
    }

    /// Ends all sessions as `KILL` does. Tells how many.
    pub fn kill_all(&self) -> usize {
        self.server.sessions().into_iter().filter(|session| self.server.kill(session.id)).count()
    }

    /// The server stands still, as one that was stopped or cut off: it accepts connections no more, reads nothing, sends
    /// nothing, and doesn't notice that clients are gone.
    pub fn freeze(&self) {
        self.server.gate.close();
    }

    /// The server goes on.
    pub fn thaw(&self) {
        self.server.gate.open();
    }

    /// What clients asked for so far, in order. Logins have session 0.
    pub fn statements(&self) -> Vec<Statement> {
        self.server.statements()
    }

    /// Forgets what clients asked for so far.
    pub fn clear_statements(&self) {
        self.server.clear_statements();
    }

    /// What the stand-in didn't understand: a test that expects nothing of the kind asserts that this is empty.
    pub fn unknown_statements(&self) -> Vec<String> {
        self.server.unknown()
    }

    /// The next statement whose text has `on` in it goes wrong. Several faults are kept in order; each comes once.
    pub fn fault(&self, on: &str, fault: Fault) {
        self.server.faults.plan(on.to_owned(), fault);
    }

    /// The next acknowledgement of an attention goes wrong. [`Fault::CutBefore`] and [`Fault::Error`] mean nothing here.
    pub fn fault_attention(&self, fault: Fault) {
        self.server.faults.plan_attention(fault);
    }

    /// Takes back all faults that didn't come yet.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// How many faults didn't come yet.
    pub fn pending_faults(&self) -> usize {
        self.server.faults.pending()
    }

    /// From now on every login fails with this error; `None`: no more.
    pub fn fail_logins(&self, error: Option<SqlError>) {
        self.server.set(|settings| settings.login_failure = error);
    }

    /// From now on logins are sent to another server; `None`: no more.
    pub fn route(&self, to: Option<(String, u16)>) {
        self.server.set(|settings| settings.route = to);
    }

    /// Whether the database is read-only, as that of a secondary.
    pub fn read_only(&self, read_only: bool) {
        self.server.set(|settings| settings.read_only = read_only);
    }

    /// What logins may do from now on.
    pub fn permissions(&self, permissions: Permissions) {
        self.server.set(|settings| settings.permissions = permissions);
    }

    /// Sessions that do nothing for so long are closed from now on; `None`: no more.
    pub fn idle_limit(&self, limit: Option<Duration>) {
        self.server.set(|settings| settings.idle_limit = limit);
    }

    /// Waits until `done` says so, at most `limit`. Tells whether it did.
    pub fn wait_until(&self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            if done(self) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.gate.end();
        // Who accepts is woken by one more connection. If it can't be had, the listener is gone already.
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn accept(server: &Arc<Server>, listener: &TcpListener, streams: &Streams) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut count = 0;
    while let Ok((stream, client)) = listener.accept() {
        server.gate.pass();
        if server.gate.ended() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        count += 1;
        let number = count;
        if let Ok(copy) = stream.try_clone() {
            streams.lock().unwrap_or_else(PoisonError::into_inner).insert(number, copy);
        }
        let (server, open) = (Arc::clone(server), Arc::clone(streams));
        let thread = thread::Builder::new().name(format!("mssql {client}"));
        let spawned = thread.spawn(move || {
            // What a client did wrong ends its connection, and nothing else. A defect of the stand-in is told.
            let served = catch_unwind(AssertUnwindSafe(|| connection::serve(&server, &stream, client)));
            if served.is_err() {
                server.log_unknown("the stand-in panicked".to_owned());
            }
            let _ = stream.shutdown(Shutdown::Both);
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        });
        threads.extend(spawned);
    }
    for stream in streams.lock().unwrap_or_else(PoisonError::into_inner).values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// The server's own work: deadlocks, and sessions that do nothing.
fn watch(server: &Server, interval: Duration) {
    let mut next = Instant::now() + interval;
    while !server.gate.ended() {
        thread::sleep(TICK.min(interval));
        server.gate.pass();
        if Instant::now() >= next {
            server.resolve_deadlocks();
            next = Instant::now() + interval;
        }
        if let Some(limit) = server.settings().idle_limit {
            let idle = |session: &crate::engine::session::Session| {
                let activity = session.activity();
                !activity.running && activity.idle_since.elapsed() > limit
            };
            for session in server.sessions().into_iter().filter(|session| idle(session)) {
                server.kill(session.id);
            }
        }
    }
}
