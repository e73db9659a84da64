//! What is wrong from the beginning, and what a database must not be able to do to us.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, Locks, NameRule, Primitive};
use pilotman_oracle::{Oracle, OracleBackend, SessionOptions};

use crate::common::{LONG, backend_of, locks, locks_of, options, soon};
use crate::fake::{Database, FakeDriver};

#[tokio::test]
async fn a_wrong_password_is_a_clear_error_without_it() {
    let database = Database::start();
    let mut driver = FakeDriver::new(database.port);
    driver.password = "hunter2".into();
    let backend = OracleBackend::with_driver(options().password("hunter2"), Arc::new(driver)).unwrap();
    let error = Locks::new(backend).mutex("m").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let text = format!("{error} {error:?}");
    assert!(text.contains("ORA-01017") && !text.contains("hunter2"), "{text}");
    assert!(error.has_no_effect());
}

#[tokio::test]
async fn who_may_not_log_in_is_told_the_grant() {
    let database = Database::start();
    database.rights(|rights| rights.create_session = false);
    let error = locks(&database).mutex("m").acquire().await.unwrap_err();
    assert!(error.to_string().contains("GRANT CREATE SESSION TO APP"), "{error}");
}

#[tokio::test]
async fn without_the_grant_the_statement_to_run_is_told() {
    let database = Database::start();
    database.rights(|rights| rights.dbms_lock = false);
    let locks = locks(&database);
    for error in [
        locks.mutex("m").try_acquire().await.unwrap_err(),
        locks.mutex("m").acquire_timeout(Duration::from_secs(5)).await.unwrap_err(),
        locks.rw_lock("m").read().await.unwrap_err(),
        locks.check().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("GRANT EXECUTE ON SYS.DBMS_LOCK TO APP"), "{error}");
        assert!(error.has_no_effect());
    }
    assert!(database.locks.seen().is_empty());
    // The session was none the worse for it.
    database.rights(|rights| rights.dbms_lock = true);
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_standby_is_refused() {
    let database = Database::start();
    database.rights(|rights| rights.role = "PHYSICAL STANDBY");
    let error = locks(&database).mutex("m").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("standby") && error.to_string().contains("primary"), "{error}");
}

#[tokio::test]
async fn a_semaphore_is_refused_with_the_reason() {
    let database = Database::start();
    let error = locks(&database).semaphore("s", 3).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("sleeps on one that stays taken"), "{error}");
    let permit = Primitive::Permit(NonZeroU32::new(3).unwrap());
    assert!(locks(&database).physical_name("s", permit).is_err());
    assert_eq!(database.sessions(), 0, "nothing was connected for it");
}

#[test]
fn options_that_can_not_be_are_refused() {
    let database = Database::start();
    let with = |change: fn(&mut SessionOptions)| {
        let mut sessions = SessionOptions::default();
        change(&mut sessions);
        OracleBackend::with_driver(options().sessions(sessions), Arc::new(FakeDriver::new(database.port))).unwrap_err()
    };
    for error in [
        with(|sessions| sessions.heartbeat = Duration::from_millis(1999)),
        with(|sessions| sessions.max_sessions = 0),
        with(|sessions| sessions.max_waiting = 0),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    }
}

#[tokio::test]
async fn a_long_name_is_refused_in_exact_mode_before_anything_is_sent() {
    let database = Database::start();
    let locks = locks_of(&database, options().names(NameRule::Exact));
    let error = locks.mutex("x".repeat(129)).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert_eq!(database.sessions(), 0);
    locks.mutex("x".repeat(128)).acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn an_error_in_the_middle_leaves_nothing() {
    let database = Database::start();
    let locks = locks(&database);
    locks.mutex("warm").acquire().await.unwrap().release().await.unwrap();
    // One that leaves the session as it was, and one that ends it: another session is opened.
    database.fail_next(20_001, "ORA-20001: something of a trigger");
    let error = locks.mutex("m").try_acquire().await.unwrap_err();
    assert!(error.has_no_effect() && error.to_string().contains("ORA-20001"), "{error}");
    database.fail_next(600, "ORA-00600: internal error code");
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    database.fail_next(60, "ORA-00060: deadlock detected while waiting for resource");
    assert_eq!(locks.mutex("m").try_acquire().await.unwrap_err().kind(), ErrorKind::Deadlock);
    database.until("nothing is held", |database| database.locks.seen().is_empty());
}

#[tokio::test]
async fn a_release_that_fails_ends_the_session() {
    let database = Database::start();
    let locks = locks(&database);
    let guard = locks.mutex("m").acquire().await.unwrap();
    database.fail_next(3113, "ORA-03113: end-of-file on communication channel");
    // What it says doesn't matter: the hold ends with its session.
    let released = guard.release().await;
    println!("{released:?}");
    database.until("nothing is held", |database| database.locks.seen().is_empty());
    soon("it is free", locks.mutex("m").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_told_in_time() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let backend = OracleBackend::with_driver(options(), Arc::new(FakeDriver::new(port))).unwrap();
    let error = Locks::new(backend).mutex("m").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.has_no_effect());
}

/// A listener that takes connections and says nothing: attempts end in time, and no more than a few threads hang in it.
#[tokio::test]
async fn a_listener_that_says_nothing_is_told_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let oracle = options().connect_timeout(Duration::from_millis(300));
    let locks = Locks::new(OracleBackend::with_driver(oracle, Arc::new(FakeDriver::new(port))).unwrap());
    for nth in 0..12 {
        let start = Instant::now();
        let error = locks.mutex("m").acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(start.elapsed() < Duration::from_secs(6), "the {nth}. took {:?}", start.elapsed());
        if nth == 11 {
            assert!(error.to_string().contains("earlier attempts"), "{error}");
        }
    }
    let start = Instant::now();
    soon("it closes", locks.close()).await;
    assert!(start.elapsed() < LONG);
    drop(listener);
}

/// The real driver, before something that is no database: it must end, with an error, whatever it is told.
#[cfg(feature = "thin")]
#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_an_error_of_the_real_driver_too() {
    let answers: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
        // A packet that accepts, and is cut short; and one that is shorter than its own head.
        &[0, 32, 0, 0, 2, 0, 0, 0, 1, 0x3f],
        &[0, 4, 0, 0, 2],
    ];
    for answer in answers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut asked = [0; 1024];
            // What it asks is nothing to this one, which may find the connection closed already.
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer);
        });
        let oracle = Oracle::new(format!("127.0.0.1:{port}/S")).unwrap().user("APP").password("hunter2");
        let oracle = oracle.connect_timeout(Duration::from_secs(2));
        let locks = Locks::new(OracleBackend::new(oracle).unwrap());
        let error = soon("it ends", locks.mutex("m").acquire()).await.unwrap_err();
        assert!(error.has_no_effect(), "{error}");
        assert!(!error.to_string().contains("hunter2"));
        server.join().unwrap();
    }
}

#[test]
fn a_backend_that_was_never_started_says_so() {
    let database = Database::start();
    let backend = backend_of(&database, options());
    let error = pollster(pilotman_core::backend::Backend::check(&backend)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

fn pollster<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
