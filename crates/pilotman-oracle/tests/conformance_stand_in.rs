//! The conformance suite with the real driver in Rust, over a socket, on a stand-in that speaks Oracle's protocol. It has no views, so
//! what looks at locks is left to the other run.

mod narrow;

use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use narrow::Narrow;
use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_oracle::{Oracle, OracleBackend, SessionOptions};
use pilotman_testkit_oracle::StandIn;

/// The stand-in of this process. The processes that the suite starts have none of their own.
static STAND_IN: OnceLock<Arc<StandIn>> = OnceLock::new();

fn main() -> std::process::ExitCode {
    let under_test = UnderTest::new("oracle-stand-in", connect)
        .set_up(|| {
            let stand_in = Arc::new(StandIn::start().expect("a port"));
            let place = format!("p{}", stand_in.address().port());
            let _ = STAND_IN.set(stand_in.clone());
            (place, Box::new(stand_in) as Box<dyn Any>)
        })
        .names(500)
        .waiters(300)
        // A session is opened by a handshake of several messages, with some thousand hashes.
        .settle(Duration::from_millis(700))
        .lose(lose)
        .leak_check(nothing_held)
        .clean_up(nothing_held)
        .async_only();
    pilotman_conformance::main(under_test)
}

fn connect(place: &str) -> Narrow {
    // Before there is a stand-in, the suite only asks what the backend claims.
    let port = place.trim_start_matches('p').parse().unwrap_or(1u16);
    let oracle = Oracle::new(format!("127.0.0.1:{port}/STANDIN")).expect("it is a connect string");
    let oracle = oracle.user("pilotman").password("a-password").connect_timeout(Duration::from_secs(20));
    // Each upgradeable read has a session of its own, and one case holds many.
    let mut sessions = SessionOptions::default();
    sessions.max_sessions = 256;
    Narrow(OracleBackend::new(oracle.sessions(sessions)).expect("these options are right"))
}

fn stand_in() -> &'static StandIn {
    STAND_IN.get().expect("it is set up")
}

/// As an administrator does who ends a session.
fn lose(hold: &LoseHold<'_>) -> bool {
    let locks = stand_in().locks();
    let holders: Vec<_> =
        locks.iter().filter(|entry| entry.name.as_deref() == Some(hold.physical) && entry.held.is_some()).collect();
    let [holder] = holders[..] else { return false };
    stand_in().kill(holder.sid)
}

/// No session has a lock any more, or waits for one.
fn nothing_held(_: &str) {
    let start = Instant::now();
    loop {
        let locks = stand_in().locks();
        if locks.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "left behind: {locks:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
