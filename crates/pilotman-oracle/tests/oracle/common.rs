//! Databases, locks on them, and waiting for conditions.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotman_core::Locks;
use pilotman_oracle::{Oracle, OracleBackend, SessionOptions};

use crate::fake::{Database, FakeDriver};

/// Longer than anything here takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A database as an application names it. The driver of the tests knows where it is.
pub(crate) fn options() -> Oracle {
    Oracle::new("localhost/TESTS").unwrap().user("APP").password("app")
}

/// With the shortest heartbeat that there is.
pub(crate) fn quick(oracle: Oracle) -> Oracle {
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_secs(2);
    oracle.sessions(sessions)
}

pub(crate) fn backend_of(database: &Database, oracle: Oracle) -> OracleBackend {
    OracleBackend::with_driver(oracle, Arc::new(FakeDriver::new(database.port))).unwrap()
}

pub(crate) fn locks_of(database: &Database, oracle: Oracle) -> Locks {
    Locks::new(backend_of(database, oracle))
}

/// Locks on this database.
pub(crate) fn locks(database: &Database) -> Locks {
    locks_of(database, options())
}

/// The one session that holds this.
#[track_caller]
pub(crate) fn holder(database: &Database, name: &str) -> u64 {
    let holders = database.holders(name);
    assert_eq!(holders.len(), 1, "{name}: {:?}", database.locks.seen());
    holders[0]
}

/// Waits until this is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a future gives in time.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.unwrap_or_else(|_| panic!("never: {what}"))
}
