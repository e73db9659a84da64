//! The rest of what the tests' database does, independently of the backend: the queue, time-outs, deadlocks, ends of sessions, handles,
//! parameters, PL/SQL.

use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use pilotman_oracle::driver::{Call, Connection, Driver, Value};

use crate::common::LONG;
use crate::fake::{
    DEADLOCK, Database, Ended, FakeDriver, ILLEGAL_HANDLE, Locks, MAXWAIT, OWNED, PARAMETER, SUCCESS, TIMEOUT,
};

const LOCK: i64 = 7;
const SS: i64 = 2;
const SSX: i64 = 5;
const X: i64 = 6;

fn waiting(locks: &Arc<Locks>, session: u64, mode: i64, timeout: i64) -> JoinHandle<Result<i64, Ended>> {
    let there = locks.clone();
    let waiting = std::thread::spawn(move || there.request(session, LOCK, mode, timeout));
    let start = Instant::now();
    while !locks.seen().iter().any(|seen| seen.session == session && seen.asked.is_some()) {
        assert!(start.elapsed() < LONG && !waiting.is_finished(), "it never waits");
        sleep(Duration::from_millis(1));
    }
    waiting
}

#[test]
fn nobody_overtakes() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, SS, 0), Ok(SUCCESS));
    let writer = waiting(&locks, 2, X, MAXWAIT);
    assert_eq!(locks.request(3, LOCK, SS, 0), Ok(TIMEOUT), "a writer waits");
    let reader = waiting(&locks, 4, SS, MAXWAIT);
    assert_eq!(locks.release(1, LOCK), SUCCESS);
    assert_eq!(writer.join().unwrap(), Ok(SUCCESS));
    assert!(!reader.is_finished());
    assert_eq!(locks.release(2, LOCK), SUCCESS);
    assert_eq!(reader.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn who_leaves_the_queue_lets_those_behind_in() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, SS, 0), Ok(SUCCESS));
    let writer = waiting(&locks, 2, X, 1);
    let reader = waiting(&locks, 3, SS, MAXWAIT);
    assert_eq!(writer.join().unwrap(), Ok(TIMEOUT));
    assert_eq!(reader.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn a_time_out_is_in_seconds() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, X, 0), Ok(SUCCESS));
    let start = Instant::now();
    assert_eq!(locks.request(2, LOCK, X, 1), Ok(TIMEOUT));
    assert!(start.elapsed() >= Duration::from_millis(990));
}

#[test]
fn conversions_go_first() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, SSX, 0), Ok(SUCCESS));
    assert_eq!(locks.request(2, LOCK, SS, 0), Ok(SUCCESS));
    let writer = waiting(&locks, 3, X, MAXWAIT);
    let there = locks.clone();
    let upgrade = std::thread::spawn(move || there.convert(1, LOCK, X, MAXWAIT));
    while !locks.seen().iter().any(|seen| seen.session == 1 && seen.asked.is_some()) {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(locks.release(2, LOCK), SUCCESS);
    assert_eq!(upgrade.join().unwrap(), Ok(SUCCESS));
    assert!(!writer.is_finished());
    // Back again: readers come in, writers don't.
    assert_eq!(locks.convert(1, LOCK, SS, 0), Ok(SUCCESS));
    assert!(!writer.is_finished());
    assert_eq!(locks.release(1, LOCK), SUCCESS);
    assert_eq!(writer.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn two_who_wait_for_each_other_are_a_deadlock() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, X, 0), Ok(SUCCESS));
    assert_eq!(locks.request(2, 8, X, 0), Ok(SUCCESS));
    let first = waiting(&locks, 2, X, MAXWAIT);
    assert_eq!(locks.request(1, 8, X, MAXWAIT), Ok(DEADLOCK));
    assert_eq!(locks.release(1, LOCK), SUCCESS);
    assert_eq!(first.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn two_who_upgrade_beside_each_other_are_a_deadlock() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, SS, 0), Ok(SUCCESS));
    assert_eq!(locks.request(2, LOCK, SS, 0), Ok(SUCCESS));
    let there = locks.clone();
    let first = std::thread::spawn(move || there.convert(1, LOCK, X, MAXWAIT));
    while !locks.seen().iter().any(|seen| seen.session == 1 && seen.asked.is_some()) {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(locks.convert(2, LOCK, X, MAXWAIT), Ok(DEADLOCK));
    assert_eq!(locks.release(2, LOCK), SUCCESS);
    assert_eq!(first.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn the_end_of_a_session_frees_what_it_has_and_ends_its_wait() {
    let locks = Arc::new(Locks::default());
    assert_eq!(locks.request(1, LOCK, X, 0), Ok(SUCCESS));
    let waits = waiting(&locks, 2, X, MAXWAIT);
    let next = waiting(&locks, 3, X, MAXWAIT);
    locks.end(2);
    assert_eq!(waits.join().unwrap(), Err(Ended));
    locks.end(1);
    assert_eq!(next.join().unwrap(), Ok(SUCCESS));
    locks.end(3);
    assert_eq!(locks.seen(), []);
}

#[test]
fn bad_parameters_are_refused() {
    let locks = Locks::default();
    for mode in [0, 7, -1] {
        assert_eq!(locks.request(1, LOCK, mode, 0), Ok(PARAMETER));
        assert_eq!(locks.convert(1, LOCK, mode, 0), Ok(PARAMETER));
    }
    assert_eq!(locks.request(1, LOCK, X, -1), Ok(PARAMETER));
}

fn session(database: &Database) -> Box<dyn Connection> {
    FakeDriver::new(database.port).connect(LONG).unwrap()
}

fn allocate(session: &mut dyn Connection, name: &str) -> String {
    let text = "DECLARE h VARCHAR2(128); BEGIN SYS.DBMS_LOCK.ALLOCATE_UNIQUE(lockname => :name, lockhandle => h); :h := h; END;";
    let outs = session.run(&Call::new(text).text("name", name).out_text("h"), LONG).unwrap();
    let [Value::Text(handle)] = &outs[..] else { panic!("{outs:?}") };
    handle.clone()
}

fn release(session: &mut dyn Connection, handle: &str) -> Value {
    let call = Call::new("BEGIN :a := SYS.DBMS_LOCK.RELEASE(lockhandle => :h); END;").out_number("a").text("h", handle);
    session.run(&call, LONG).unwrap()[0].clone()
}

#[test]
fn handles_are_the_sessions_own_and_names_have_one_id() {
    let database = Database::start();
    let (mut one, mut other) = (session(&database), session(&database));
    let (first, second) = (allocate(&mut *one, "a"), allocate(&mut *other, "a"));
    assert_eq!(first[..10], second[..10], "one lock");
    assert_ne!(first[..10], allocate(&mut *one, "A")[..10], "case matters");
    assert_eq!(release(&mut *one, &first), Value::Number(OWNED));
    for strange in [second.as_str(), "", "x", "107374182"] {
        let answer = release_or_error(&mut *one, strange);
        assert!(answer == Some(Value::Number(ILLEGAL_HANDLE)) || strange.is_empty(), "{strange}: {answer:?}");
    }
}

fn release_or_error(session: &mut dyn Connection, handle: &str) -> Option<Value> {
    let call = Call::new("BEGIN :a := SYS.DBMS_LOCK.RELEASE(lockhandle => :h); END;").out_number("a").text("h", handle);
    session.run(&call, LONG).ok().map(|outs| outs[0].clone())
}

#[test]
fn naming_a_lock_commits() {
    let database = Database::start();
    let mut session = session(&database);
    // Sessions are numbered; this is the only one.
    let sid = || (0..100).find(|sid| database.commits(*sid) > 0);
    assert_eq!(sid(), None);
    allocate(&mut *session, "a");
    let sid = sid().expect("it has committed");
    allocate(&mut *session, "a");
    assert_eq!(database.commits(sid), 2);
}

#[test]
fn blocks_that_are_wrong_are_errors() {
    let database = Database::start();
    let mut session = session(&database);
    for (call, says) in [
        (Call::new("BEGIN x := 1; END;"), "PLS-00201"),
        (Call::new("BEGIN NULLIFY(1); END;"), "PLS-00201"),
        (Call::new("BEGIN :a := 1; END;"), "ORA-01008"),
        (Call::new("BEGIN :a := 1; END;").number("a", 2), "bound IN"),
        (Call::new("BEGIN :a := :b; END;").text("b", "x").out_text("a"), "ORA-01008"),
        (Call::new("BEGIN :a := 1; END; x").out_number("a"), "follows the end"),
        (Call::new("BEGIN :a := 1 END;").out_number("a"), "expected"),
        (Call::new("BEGIN :a := 'x; END;").out_number("a"), "without an end"),
        (Call::new("BEGIN :a := SYS.DBMS_LOCK.REQUEST(id => 1, lockmode => 6); END;").out_number("a"), "TIMEOUT"),
        (Call::new("BEGIN EXECUTE IMMEDIATE 'DROP TABLE t'; END;"), "ORA-00900"),
    ] {
        let failure = session.run(&call, LONG).unwrap_err();
        assert!(failure.message.contains(says), "{}: {failure:?}", call.text);
    }
    let call = Call::new("BEGIN :a := 'it''s'; END;").out_text("a");
    assert_eq!(session.run(&call, LONG).unwrap(), [Value::Text("it's".into())]);
}
