//! Servers, connections of the user's, and waiting for conditions.

use std::future::Future;
use std::time::{Duration, Instant};

use pilotman_core::{Error, ErrorKind, Locks};
use pilotman_mssql::tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use pilotman_mssql::{MsSql, MsSqlBackend, SessionOptions, TlsMode};
use pilotman_testkit_mssql::StandIn;
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

/// Longer than anything here takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn server() -> StandIn {
    StandIn::start().expect("a server on loopback")
}

/// The server as an application uses it.
pub(crate) fn options(server: &StandIn) -> MsSql {
    let (user, password) = server.credentials();
    let mssql = MsSql::host(server.address().to_string()).unwrap().login(user, password);
    mssql.database(server.database()).tls(TlsMode::Disable)
}

pub(crate) fn locks(server: &StandIn) -> Locks {
    locks_of(options(server))
}

pub(crate) fn locks_of(mssql: MsSql) -> Locks {
    Locks::new(MsSqlBackend::new(mssql).unwrap())
}

pub(crate) fn heartbeat(time: Duration) -> SessionOptions {
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = time;
    sessions
}

pub(crate) type Connection = Client<Compat<TcpStream>>;

/// A connection of the user's.
pub(crate) async fn connection(server: &StandIn) -> Connection {
    let mut config = Config::new();
    let (user, password) = server.credentials();
    config.authentication(AuthMethod::sql_server(user, password));
    config.database(server.database());
    config.encryption(EncryptionLevel::NotSupported);
    config.command_timeout(None);
    let stream = TcpStream::connect(server.address()).await.unwrap();
    Client::connect(config, stream.compat_write()).await.unwrap()
}

/// What a future gives in time.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until this is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether so many hold, and so many wait for a resource.
pub(crate) fn has(server: &StandIn, resource: &str, held: usize, waiting: usize) -> bool {
    let rows: Vec<_> = server.locks().into_iter().filter(|row| row.resource == resource).collect();
    let granted = rows.iter().filter(|row| row.granted).count();
    (granted, rows.len() - granted) == (held, waiting)
}

/// The session that holds a resource.
pub(crate) fn holder(server: &StandIn, resource: &str) -> i32 {
    let mut rows = server.locks().into_iter().filter(|row| row.granted && row.resource == resource);
    rows.next().expect("it is held").session
}

/// Nothing is held, nobody waits, and the stand-in understood all it was asked.
pub(crate) async fn nothing_left(server: &StandIn) {
    until("nothing is left", || server.locks().is_empty()).await;
    assert_eq!(server.unknown_statements(), Vec::<String>::new());
}

#[track_caller]
pub(crate) fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = format!("{error} {}", error.advice().unwrap_or_default());
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} has no {part:?}");
    }
}
