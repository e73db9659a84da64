//! Replies that are cut and that stall, at every byte; calls that take too long; a server that stands still.
//!
//! The driver has to give an error or the right answer. Where it does something worse, the test says what: the backend
//! must live with it.
#![allow(missing_docs)]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oracledb::{Connection, Error, ErrorKind};
use pilotman_testkit_oracle::dbms_lock::Mode;
use pilotman_testkit_oracle::{Fault, Reply, StandIn};
use support::*;

const X: i64 = 6;
/// For calls whose reply never comes.
const SHORT: Duration = Duration::from_millis(200);
/// Some tests run this many clients at once.
const CLIENTS: usize = 8;
/// Longer than any reply that these tests break.
const LONGEST: usize = 2000;

/// The call that this reply belongs to, and whether its answer is the right one.
fn call(connection: &mut Connection, reply: Reply, handle: &str) -> Result<bool, Error> {
    match reply {
        Reply::Execute => request(connection, handle, X, 0).map(|answer| answer == 4),
        Reply::Ping => connection.ping().map(|()| true),
        Reply::Transaction => connection.commit().map(|()| true),
        Reply::Logoff => connection.close().map(|()| true),
        other => unreachable!("{other:?} belongs to the login"),
    }
}

/// A query whose answer can't be that of another call.
fn echo(connection: &Connection, number: i64) -> Result<i64, Error> {
    connection.query_row("SELECT :number FROM DUAL", &[&number])?.get(0)
}

fn log_in(stand_in: &StandIn) -> Result<Connection, Error> {
    connect_as(stand_in, "pilotman", "a-password", "STANDIN")
}

/// Runs `case` for all numbers, some at a time, and gives what came of each.
fn for_each<T: Send + 'static>(numbers: impl IntoIterator<Item = usize>, case: fn(usize) -> T) -> Vec<T> {
    let mut results = Vec::new();
    for numbers in numbers.into_iter().collect::<Vec<_>>().chunks(CLIENTS) {
        let cases: Vec<_> = numbers
            .iter()
            .map(|number| {
                let number = *number;
                thread::spawn(move || case(number))
            })
            .collect();
        results.extend(cases.into_iter().map(|case| case.join().expect("the case")));
    }
    results
}

#[test]
fn a_login_that_is_cut_is_an_error() {
    let stand_in = StandIn::start().unwrap();
    // The lengths of all replies but the last, and some more bytes: the connection is closed after them, too.
    for (reply, counts) in [
        (Reply::Accept, 0..50),
        (Reply::Protocol, 0..120),
        (Reply::DataTypes, 0..16),
        (Reply::Challenge, 0..400),
        (Reply::Login, 0..LONGEST),
    ] {
        let mut is_over = false;
        for count in counts {
            stand_in.inject(reply, Fault::Cut(count));
            match log_in(&stand_in) {
                Err(error) => assert!(matches!(error.kind(), ErrorKind::DeadConnection), "{reply:?} {count}: {error}"),
                Ok(_) => {
                    assert!(count > 300, "{reply:?} {count}");
                    is_over = true;
                    break;
                }
            }
        }
        assert_eq!(is_over, reply == Reply::Login, "{reply:?}");
    }
    wait_until("no session is left", || stand_in.sessions().is_empty());
}

#[test]
fn a_reply_that_is_cut_is_an_error() {
    let stand_in = StandIn::start().unwrap();
    for reply in [Reply::Execute, Reply::Ping, Reply::Transaction, Reply::Logoff] {
        let mut length = 0;
        for count in 0..LONGEST {
            let mut connection = connect(&stand_in);
            let (handle, answer) = first_request(&connection, "name", X, 0).unwrap();
            assert_eq!(answer, 0);
            stand_in.inject(reply, Fault::Cut(count));
            match call(&mut connection, reply, &handle) {
                Ok(is_right) => {
                    assert!(is_right, "{reply:?} {count}");
                    break;
                }
                Err(error) => assert!(matches!(error.kind(), ErrorKind::DeadConnection), "{reply:?} {count}: {error}"),
            }
            wait_until("the session ends", || stand_in.locks().is_empty());
            if reply != Reply::Logoff {
                assert!(matches!(connection.ping().unwrap_err().kind(), ErrorKind::NotConnected));
            }
            length = count + 1;
        }
        assert!((10..LONGEST).contains(&length), "{reply:?}: {length} bytes");
        wait_until("the session ends", || stand_in.locks().is_empty());
    }
}

/// The reply stalls after so many bytes and never goes on: whether it was all of it, after all.
fn stalls(reply: Reply, count: usize) -> bool {
    let stand_in = StandIn::start().unwrap();
    let mut connection = connect(&stand_in);
    let (handle, _) = first_request(&connection, "name", X, 0).unwrap();
    connection.set_call_timeout(Some(SHORT)).unwrap();
    stand_in.inject(reply, Fault::Stall(count));
    let (result, connection) = within(LONG, move || (call(&mut connection, reply, &handle), connection))
        .unwrap_or_else(|| panic!("{reply:?} {count}: hangs"))
        .unwrap_or_else(|_| panic!("{reply:?} {count}: panics"));
    match result {
        Ok(is_right) => {
            assert!(is_right, "{reply:?} {count}");
            // On this server it would log off for ever.
            stand_in.disconnect(connection.session_id().unwrap() as u32);
            return true;
        }
        // The interrupt wasn't answered either.
        Err(error) => assert!(matches!(error.kind(), ErrorKind::UnableToRecover), "{reply:?} {count}: {error}"),
    }
    assert!(matches!(connection.ping().unwrap_err().kind(), ErrorKind::NotConnected));
    assert_eq!(stand_in.locks().len(), 1, "the server doesn't know yet");
    stand_in.thaw();
    wait_until("it knows", || stand_in.locks().is_empty());
    false
}

#[test]
fn a_reply_that_stalls_costs_two_call_time_outs() {
    // The lengths of the replies are some 60 and 13 bytes; only what is whole can be an answer.
    for (reply, lengths) in [(Reply::Execute, 50..90), (Reply::Ping, 12..20), (Reply::Transaction, 12..20)] {
        let is_whole = match reply {
            Reply::Execute => for_each(0..lengths.end, |count| stalls(Reply::Execute, count)),
            Reply::Ping => for_each(0..lengths.end, |count| stalls(Reply::Ping, count)),
            _ => for_each(0..lengths.end, |count| stalls(Reply::Transaction, count)),
        };
        assert!(!is_whole[..lengths.start].contains(&true), "{reply:?}: {is_whole:?}");
        assert!(is_whole.contains(&true), "{reply:?}: {is_whole:?}");
    }
}

#[test]
fn a_reply_that_goes_on_too_late_is_never_anothers() {
    let results = for_each(0..70, |count| {
        let stand_in = Arc::new(StandIn::start().unwrap());
        let mut connection = connect(&stand_in);
        let (handle, _) = first_request(&connection, "name", X, 0).unwrap();
        connection.set_call_timeout(Some(SHORT)).unwrap();
        stand_in.inject(Reply::Execute, Fault::Stall(count));
        let thawing = Arc::clone(&stand_in);
        // While the driver waits for the answer to its interrupt, if the machine isn't too busy.
        let thaw = thread::spawn(move || {
            thread::sleep(SHORT + SHORT / 2);
            thawing.thaw();
        });
        let result = within(LONG, move || {
            let first = call(&mut connection, Reply::Execute, &handle);
            assert!(first.as_ref().map_or(true, |is_right| *is_right), "{count}");
            for number in 0..3 {
                match echo(&connection, 1000 + number) {
                    Ok(answer) => assert_eq!(answer, 1000 + number, "{count}"),
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::NotConnected | ErrorKind::UnableToRecover | ErrorKind::CallTimeoutExceeded
                        ),
                        "{count}: {error}"
                    ),
                }
            }
            first.is_ok()
        });
        thaw.join().unwrap();
        result.unwrap_or_else(|| panic!("{count}: hangs")).unwrap_or_else(|_| panic!("{count}: panics"))
    });
    assert!(
        results.contains(&false) && results.contains(&true),
        "some replies were late, and some were not: {results:?}"
    );
}

#[test]
fn a_call_that_takes_too_long_is_interrupted() {
    let stand_in = StandIn::start().unwrap();
    let holder = connect(&stand_in);
    let (handle, _) = first_request(&holder, "name", X, 0).unwrap();
    let waiter = connect(&stand_in);
    for round in 0..2 {
        // The answer to the interrupt has as much time again.
        waiter.set_call_timeout(Some(Duration::from_secs(3))).unwrap();
        let error = request(&waiter, &handle, X, 32_767).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::CallTimeoutExceeded), "{error}");
        assert_eq!(stand_in.locks().len(), 1, "it waits no longer");
        waiter.set_call_timeout(Some(LONG)).unwrap();
        assert_eq!(echo(&waiter, round).unwrap(), round);
        assert_eq!(request(&waiter, &handle, X, 0).unwrap(), 1);
    }
    release(&holder, &handle).unwrap();
    assert_eq!(request(&waiter, &handle, X, 0).unwrap(), 0);
    assert_eq!(stand_in.misunderstandings(), Vec::<String>::new());
}

#[test]
fn a_call_whose_reply_came_too_late_was_carried_out() {
    let stand_in = StandIn::start().unwrap();
    let connection = connect(&stand_in);
    let (handle, _) = first_request(&connection, "name", X, 0).unwrap();
    release(&connection, &handle).unwrap();
    let time_out = Duration::from_secs(3);
    connection.set_call_timeout(Some(time_out)).unwrap();
    stand_in.inject(Reply::Execute, Fault::Stall(0));
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the lock is held", || stand_in.locks().iter().any(|entry| entry.held == Some(Mode::X)));
            // While the driver waits for the answer to its interrupt.
            thread::sleep(time_out + time_out / 2);
            stand_in.thaw();
        });
        request(&connection, &handle, X, 0).unwrap_err()
    });
    match error.kind() {
        // An error, and yet the lock is held.
        ErrorKind::CallTimeoutExceeded => {
            assert_eq!(stand_in.locks().len(), 1);
            connection.set_call_timeout(Some(LONG)).unwrap();
            assert_eq!(release(&connection, &handle).unwrap(), 0);
        }
        // The machine is so busy that the answer to the interrupt came too late as well.
        ErrorKind::UnableToRecover => wait_until("the session ends", || stand_in.locks().is_empty()),
        other => panic!("{other:?}"),
    }
}

fn breaks_the_answer_to_an_interrupt(fault: Fault) {
    let stand_in = StandIn::start().unwrap();
    let holder = connect(&stand_in);
    let (handle, _) = first_request(&holder, "name", X, 0).unwrap();
    let waiter = connect(&stand_in);
    waiter.set_call_timeout(Some(SHORT)).unwrap();
    stand_in.inject(Reply::Reset, fault);
    let result = within(LONG, move || (request(&waiter, &handle, X, 32_767), waiter));
    let (result, waiter) = result.expect("it hangs").unwrap_or_else(|_| panic!("{fault:?}: panics"));
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnableToRecover | ErrorKind::CallTimeoutExceeded), "{fault:?}: {error}");
    // Lest it log off for ever, if it believes that it has recovered.
    stand_in.disconnect(waiter.session_id().unwrap() as u32);
}

#[test]
fn an_answer_to_the_interrupt_that_is_cut_or_stalls_is_an_error() {
    for_each(0..110, |count| breaks_the_answer_to_an_interrupt(Fault::Cut(count)));
    for_each(0..110, |count| breaks_the_answer_to_an_interrupt(Fault::Stall(count)));
}

#[test]
fn a_login_that_stalls_hangs_for_ever() {
    let stand_in = Arc::new(StandIn::start().unwrap());
    for reply in [Reply::Accept, Reply::Protocol, Reply::DataTypes, Reply::Challenge, Reply::Login] {
        let counts = [0, 1, 4, 9, 12];
        let logins: Vec<_> = counts
            .iter()
            .map(|count| {
                stand_in.inject(reply, Fault::Stall(*count));
                let stand_in = Arc::clone(&stand_in);
                thread::spawn(move || log_in(&stand_in).map(drop))
            })
            .collect();
        wait_until("all stall", || stand_in.stalled() == counts.len());
        thread::sleep(Duration::from_secs(1));
        assert!(logins.iter().all(|login| !login.is_finished()), "no time-out of the driver applies");
        stand_in.thaw();
        for login in logins {
            login.join().unwrap().unwrap();
        }
    }
}

#[test]
fn a_server_that_stands_still() {
    let stand_in = Arc::new(StandIn::start().unwrap());
    let connection = connect(&stand_in);
    first_request(&connection, "name", X, 0).unwrap();
    let dropped = connect(&stand_in);
    connection.set_call_timeout(Some(SHORT)).unwrap();
    dropped.set_call_timeout(Some(SHORT)).unwrap();
    stand_in.freeze();
    assert!(matches!(connection.ping().unwrap_err().kind(), ErrorKind::UnableToRecover));
    // It has closed the socket: this doesn't hang.
    drop(connection);
    // This does, for the driver takes the call time-out back before it logs off.
    let dropping = thread::spawn(move || drop(dropped));
    let logging_in = Arc::clone(&stand_in);
    let login = thread::spawn(move || log_in(&logging_in).map(drop));
    thread::sleep(Duration::from_secs(2));
    assert!(!dropping.is_finished() && !login.is_finished());
    assert_eq!(stand_in.locks().len(), 1, "a server that stands still keeps its locks");
    stand_in.thaw();
    dropping.join().unwrap();
    login.join().unwrap().unwrap();
    wait_until("the locks are free", || stand_in.locks().is_empty());
}

/// What tells the test below that it runs in the process that is to die.
const VICTIM: &str = "PILOTMAN_TESTKIT_ORACLE_VICTIM";

#[test]
fn the_driver_aborts_the_process_when_a_reply_stalls_in_the_middle() {
    const NAME: &str = "the_driver_aborts_the_process_when_a_reply_stalls_in_the_middle";
    if std::env::var_os(VICTIM).is_none() {
        let victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(VICTIM, "1")
            .output()
            .unwrap();
        // If this fails, the driver has been mended: so much the better.
        assert!(!victim.status.success());
        let said = String::from_utf8_lossy(&victim.stderr).into_owned();
        assert!(
            said.contains("index out of bounds") && said.contains("panic in a destructor during cleanup"),
            "{said}"
        );
        return;
    }
    let stand_in = StandIn::start().unwrap();
    let connection = connect(&stand_in);
    let (handle, _) = first_request(&connection, "name", X, 0).unwrap();
    // The beginning of the reply must have come by then.
    connection.set_call_timeout(Some(Duration::from_secs(3))).unwrap();
    stand_in.inject(Reply::Execute, Fault::Stall(11));
    drop(release(&connection, &handle));
}
