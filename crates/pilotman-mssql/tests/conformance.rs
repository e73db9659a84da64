//! The conformance suite over a socket, against the stand-in for SQL Server, with encryption.

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_core::{NameRule, Primitive};
use pilotman_mssql::{MsSql, MsSqlBackend, SessionOptions, TlsMode};
use pilotman_testkit_mssql::StandIn;

/// Longer than giving back takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// The server of the run; the processes that the suite starts only connect to it.
static SERVER: OnceLock<Arc<StandIn>> = OnceLock::new();

/// A place is the server's port; before there is one, the suite only asks what the backend claims.
fn connect(place: &str) -> MsSqlBackend {
    let port: u16 = place.parse().unwrap_or(1);
    let mssql = MsSql::host(format!("127.0.0.1:{port}")).expect("it is a host").login("pilotman", "Pilotman-1");
    // Each read, and each upgradeable one, has a session of its own, and some cases hold many.
    let mut sessions = SessionOptions::default();
    sessions.max_sessions = 256;
    // Of longer names, as they may be by the .NET library's rule, the server doesn't show enough to break the right one.
    let mssql = mssql.names(NameRule::Strict).sessions(sessions);
    MsSqlBackend::new(mssql.database("locks").tls(TlsMode::Require)).expect("these options are right")
}

fn main() -> std::process::ExitCode {
    let suite = UnderTest::new("mssql", connect)
        .set_up(|| {
            let server = Arc::new(StandIn::start().expect("a server on loopback"));
            let port = server.address().port();
            let server = SERVER.get_or_init(|| server).clone();
            (port.to_string(), Box::new(server) as Box<dyn Any>)
        })
        .names(2000)
        .settle(Duration::from_millis(400))
        .lose(lose)
        .leak_check(nothing_held)
        .clean_up(nothing_held);
    pilotman_conformance::main(suite)
}

fn server() -> &'static StandIn {
    SERVER.get().expect("the run has begun")
}

/// As an administrator does who ends a session.
fn lose(hold: &LoseHold<'_>) -> bool {
    let rows = server().locks().into_iter();
    let is_it = |resource: &str| match hold.primitive {
        Primitive::Permit(_) => resource.starts_with(hold.physical),
        _ => resource == hold.physical,
    };
    let sessions: Vec<_> = rows.filter(|row| row.granted && is_it(&row.resource)).map(|row| row.session).collect();
    // With others beside it nobody knows which session is the guard's.
    match sessions[..] {
        [session] => server().kill(session),
        _ => false,
    }
}

/// The server's own table of locks is empty.
fn nothing_held(_: &str) {
    let is_free = server().wait_until(LONG, |server| server.locks().is_empty());
    assert!(is_free, "left behind: {:?}", server().locks());
    assert_eq!(server().unknown_statements(), [""; 0], "the stand-in must understand all that is asked");
}
