//! The conformance suite: on the tests' own database, or on a real one that `PILOTMAN_TEST_ORACLE_URL` names.

mod fake;
mod real;

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_oracle::{Oracle, OracleBackend, SessionOptions};

use fake::{Database, FakeDriver};

/// The database of this process. The processes that the suite starts have none of their own.
static DATABASE: OnceLock<Arc<Database>> = OnceLock::new();

fn main() -> std::process::ExitCode {
    if real::url().is_some() {
        return pilotman_conformance::main(real::under_test());
    }
    let under_test = UnderTest::new("oracle", connect)
        .set_up(|| {
            let running = Database::start();
            let place = format!("p{}", running.port);
            let _ = DATABASE.set(running.clone());
            (place, Box::new(running) as Box<dyn Any>)
        })
        .names(1000)
        // A thread for each session takes its time on a busy machine.
        .settle(Duration::from_millis(300))
        .lose(lose)
        .leak_check(nothing_held)
        .clean_up(nothing_held);
    pilotman_conformance::main(under_test)
}

fn connect(place: &str) -> OracleBackend {
    // Before there is a database, the suite only asks what the backend claims.
    let port = place.trim_start_matches('p').parse().unwrap_or(1);
    let oracle = Oracle::new("localhost/TESTS").expect("it is a connect string").user("APP").password("app");
    // Each upgradeable read has a session of its own, and one case holds many.
    let mut sessions = SessionOptions::default();
    sessions.max_sessions = 256;
    OracleBackend::with_driver(oracle.sessions(sessions), Arc::new(FakeDriver::new(port)))
        .expect("these options are right")
}

/// As an administrator does who ends a session.
fn lose(hold: &LoseHold<'_>) -> bool {
    let database = DATABASE.get().expect("it is set up");
    let holders = database.holders(hold.physical);
    let [session] = holders[..] else { return false };
    database.kill(session);
    true
}

/// No session has a lock any more, or waits for one.
fn nothing_held(_: &str) {
    DATABASE.get().expect("it is set up").until("nothing is held", |database| database.locks.in_use() == 0);
}
