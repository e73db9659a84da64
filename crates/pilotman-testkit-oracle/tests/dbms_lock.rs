//! The lock table against Oracle's documentation of `DBMS_LOCK`.
#![allow(missing_docs)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pilotman_testkit_oracle::dbms_lock::answer::{DEADLOCK, HANDLE, OWNERSHIP, PARAMETER, SUCCESS, TIMEOUT};
use pilotman_testkit_oracle::dbms_lock::{Ended, Entry, Lock, LockTable, MAXWAIT, Mode, Sid};

const ID: Lock<'static> = Lock::Id(1);
const OTHER: Lock<'static> = Lock::Id(2);
const S: i64 = 4;
const X: i64 = 6;

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn waiting(table: &LockTable) -> Vec<Sid> {
    table.locks().iter().filter(|entry| entry.wanted.is_some()).map(|entry| entry.sid).collect()
}

fn held(table: &LockTable, sid: Sid) -> Vec<Option<Mode>> {
    table.locks().iter().filter(|entry| entry.sid == sid).map(|entry| entry.held).collect()
}

/// The table "Lock Compatibility Rules": a row for what is held, a column for what is wanted.
#[test]
fn modes_are_compatible_as_documented() {
    let documented = [
        // NL SS SX S SSX X
        ("NL ", "SSSSSS"),
        ("SS ", "SSSSSF"),
        ("SX ", "SSSFFF"),
        ("S  ", "SSFSFF"),
        ("SSX", "SSFFFF"),
        ("X  ", "SFFFFF"),
    ];
    for (held, (name, row)) in (1..).zip(documented) {
        for (wanted, expected) in (1..).zip(row.chars()) {
            let expected = if expected == 'S' { SUCCESS } else { TIMEOUT };
            let table = LockTable::default();
            let (holder, other) = (table.open(), table.open());
            assert_eq!(table.request(holder, ID, held, 0, false), Ok(SUCCESS));
            assert_eq!(table.request(other, ID, wanted, 0, false), Ok(expected), "{wanted} under {name}");
            // The same by conversion.
            let table = LockTable::default();
            let (holder, other) = (table.open(), table.open());
            assert_eq!(table.request(other, ID, 1, 0, false), Ok(SUCCESS));
            assert_eq!(table.request(holder, ID, held, 0, false), Ok(SUCCESS));
            assert_eq!(table.convert(other, ID, wanted, 0), Ok(expected), "{wanted} under {name}, converted");
        }
    }
}

#[test]
fn answers_are_as_documented() {
    let table = LockTable::default();
    let (one, two) = (table.open(), table.open());
    for (id, answer) in [(-1, PARAMETER), (1_073_741_824, PARAMETER), (1_073_741_823, SUCCESS), (0, SUCCESS)] {
        assert_eq!(table.request(one, Lock::Id(id), X, 0, false), Ok(answer), "{id}");
        let other = if answer == SUCCESS { OWNERSHIP } else { answer };
        assert_eq!(table.convert(two, Lock::Id(id), X, 0), Ok(other), "{id}");
        assert_eq!(table.release(two, Lock::Id(id)), Ok(other), "{id}");
        assert_eq!(table.release(one, Lock::Id(id)), Ok(answer), "{id}");
    }
    for (mode, timeout) in [(0, 0), (7, 0), (X, -1)] {
        assert_eq!(table.request(one, ID, mode, timeout, false), Ok(PARAMETER));
        assert_eq!(table.convert(one, ID, mode, timeout), Ok(PARAMETER));
    }
    assert_eq!(table.request(one, ID, X, 0, false), Ok(SUCCESS));
    assert_eq!(table.request(one, ID, X, 0, false), Ok(OWNERSHIP), "own it already");
    assert_eq!(table.request(two, ID, X, 0, false), Ok(TIMEOUT));
    let nowhere = Lock::Handle("10737418241073741824824");
    assert_eq!(table.request(one, nowhere, X, 0, false), Ok(HANDLE));
    assert_eq!(table.convert(one, nowhere, X, 0), Ok(HANDLE));
    assert_eq!(table.release(one, nowhere), Ok(HANDLE));
    assert_eq!(table.request(99, ID, X, 0, false), Err(Ended::Closed));
}

#[test]
fn names_have_handles() {
    let table = LockTable::default();
    let (one, two) = (table.open(), table.open());
    let handle = table.allocate_unique("name").unwrap();
    assert_eq!(table.allocate_unique("name").unwrap(), handle, "the same for all sessions");
    let other = table.allocate_unique("NAME").unwrap();
    assert_ne!(other, handle, "case matters");
    assert!(table.allocate_unique(&"x".repeat(128)).is_some());
    assert_eq!(table.allocate_unique(&"x".repeat(129)), None);
    assert_eq!(table.allocate_unique(""), None);
    assert_eq!(table.request(one, Lock::Handle(&handle), X, 0, false), Ok(SUCCESS));
    assert_eq!(table.request(two, Lock::Handle(&handle), X, 0, false), Ok(TIMEOUT));
    assert_eq!(table.request(two, Lock::Handle(&other), X, 0, false), Ok(SUCCESS));
    let ids: Vec<(Option<String>, i64)> = table.locks().into_iter().map(|entry| (entry.name, entry.id)).collect();
    assert_eq!(ids, [(Some("name".into()), 1_073_741_824), (Some("NAME".into()), 1_073_741_825)]);
}

#[test]
fn time_outs_are_whole_seconds() {
    let table = LockTable::default();
    let (holder, waiter) = (table.open(), table.open());
    table.request(holder, ID, X, 0, false).unwrap();
    let begun = Instant::now();
    assert_eq!(table.request(waiter, ID, X, 0, false), Ok(TIMEOUT));
    assert_eq!(table.request(waiter, ID, X, 1, false), Ok(TIMEOUT));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(table.locks().len(), 1, "nothing is left of the wait");
}

#[test]
fn waiters_are_served_in_order_and_converters_before_them() {
    let table = Arc::new(LockTable::default());
    let (writer, reader) = (table.open(), table.open());
    table.request(writer, ID, S, 0, false).unwrap();
    table.request(reader, ID, S, 0, false).unwrap();
    let wait = |sid, mode, converts| {
        let waiting_table = Arc::clone(&table);
        let before = waiting(&table).len();
        let thread = thread::spawn(move || {
            if converts {
                waiting_table.convert(sid, ID, mode, MAXWAIT)
            } else {
                waiting_table.request(sid, ID, mode, MAXWAIT, false)
            }
        });
        wait_until("it waits", || waiting(&table).len() == before + 1);
        thread
    };
    let (first, second) = (table.open(), table.open());
    let first_waits = wait(first, X, false);
    let second_waits = wait(second, S, false);
    assert_eq!(table.request(table.open(), ID, S, 0, false), Ok(TIMEOUT), "nobody overtakes");
    let writer_waits = wait(writer, X, true);
    assert_eq!(held(&table, writer), [Some(Mode::S)], "it keeps what it has");
    assert_eq!(table.release(reader, ID), Ok(SUCCESS));
    assert_eq!(writer_waits.join().unwrap(), Ok(SUCCESS));
    assert_eq!(held(&table, writer), [Some(Mode::X)]);
    assert_eq!(waiting(&table), [first, second]);
    assert_eq!(table.release(writer, ID), Ok(SUCCESS));
    assert_eq!(first_waits.join().unwrap(), Ok(SUCCESS));
    assert_eq!(waiting(&table), [second]);
    assert_eq!(table.convert(first, ID, S, 0), Ok(SUCCESS), "a weaker mode lets others in");
    assert_eq!(second_waits.join().unwrap(), Ok(SUCCESS));
}

#[test]
fn a_conversion_that_fails_keeps_the_mode() {
    let table = LockTable::default();
    let (one, two) = (table.open(), table.open());
    table.request(one, ID, 2, 0, false).unwrap();
    table.request(two, ID, 2, 0, false).unwrap();
    assert_eq!(table.convert(one, ID, X, 1), Ok(TIMEOUT));
    let entry = |sid| Entry { sid, id: 1, name: None, held: Some(Mode::Ss), wanted: None };
    assert_eq!(table.locks(), [entry(one), entry(two)]);
}

#[test]
fn a_deadlock_is_told_to_who_completes_it() {
    let table = Arc::new(LockTable::default());
    let (one, two) = (table.open(), table.open());
    table.request(one, ID, X, 0, false).unwrap();
    table.request(two, OTHER, X, 0, false).unwrap();
    let blocked = Arc::clone(&table);
    let first = thread::spawn(move || blocked.request(one, OTHER, X, MAXWAIT, false));
    wait_until("it waits", || waiting(&table) == [one]);
    assert_eq!(table.request(two, ID, X, MAXWAIT, false), Ok(DEADLOCK));
    assert_eq!(table.release(two, OTHER), Ok(SUCCESS));
    assert_eq!(first.join().unwrap(), Ok(SUCCESS));

    // Two readers who both want to write.
    let (one, two) = (table.open(), table.open());
    let lock = Lock::Id(3);
    table.request(one, lock, S, 0, false).unwrap();
    table.request(two, lock, S, 0, false).unwrap();
    let blocked = Arc::clone(&table);
    let first = thread::spawn(move || blocked.convert(one, lock, X, MAXWAIT));
    wait_until("it waits", || waiting(&table) == [one]);
    assert_eq!(table.convert(two, lock, X, MAXWAIT), Ok(DEADLOCK));
    assert_eq!(table.release(two, lock), Ok(SUCCESS));
    assert_eq!(first.join().unwrap(), Ok(SUCCESS));
}

type End = fn(&LockTable, Sid);

#[test]
fn the_end_of_a_session_frees_its_locks_and_ends_its_wait() {
    let endings: [(End, Ended); 2] =
        [(|table, sid| table.close(sid), Ended::Closed), (|table, sid| assert!(table.kill(sid)), Ended::Killed)];
    for (end, ended) in endings {
        let table = Arc::new(LockTable::default());
        let (holder, waiter) = (table.open(), table.open());
        table.request(holder, ID, X, 0, false).unwrap();
        table.request(waiter, OTHER, X, 0, false).unwrap();
        let blocked = Arc::clone(&table);
        let wait = thread::spawn(move || blocked.request(waiter, ID, X, MAXWAIT, false));
        wait_until("it waits", || waiting(&table) == [waiter]);
        end(&table, waiter);
        assert_eq!(wait.join().unwrap(), Err(ended));
        assert_eq!(table.check(waiter), Err(ended));
        assert_eq!(table.request(holder, OTHER, X, 0, false), Ok(SUCCESS), "it's free");
        end(&table, holder);
        assert!(table.locks().is_empty());
    }
}

#[test]
fn an_interrupt_ends_the_wait_and_nothing_else() {
    let table = Arc::new(LockTable::default());
    let (holder, waiter) = (table.open(), table.open());
    table.request(holder, ID, X, 0, false).unwrap();
    table.request(waiter, OTHER, X, 0, false).unwrap();
    let blocked = Arc::clone(&table);
    let wait = thread::spawn(move || blocked.request(waiter, ID, X, MAXWAIT, false));
    wait_until("it waits", || waiting(&table) == [waiter]);
    table.interrupt(waiter);
    assert_eq!(wait.join().unwrap(), Err(Ended::Interrupted));
    assert_eq!(table.release(waiter, OTHER), Err(Ended::Interrupted), "until it resumes");
    table.resume(waiter);
    assert_eq!(held(&table, waiter), [Some(Mode::X)]);
    assert_eq!(table.release(waiter, OTHER), Ok(SUCCESS));
    table.interrupt(99);
    assert!(!table.kill(99));
}

#[test]
fn a_transaction_ends_only_what_was_asked_to() {
    let table = LockTable::default();
    let sid = table.open();
    table.request(sid, ID, X, 0, false).unwrap();
    table.request(sid, OTHER, X, 0, true).unwrap();
    table.end_transaction(sid);
    assert_eq!(table.locks().iter().map(|entry| entry.id).collect::<Vec<_>>(), [1]);
}
