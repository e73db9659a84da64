//! What was once wrong, or might be.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, NameRule};
use pilotman_mysql::{MySqlBackend, SessionOptions, TlsMode};
use pilotman_testkit::proxy::Proxy;
use pilotman_testkit::servers::mysql::{Flavour, MySql as Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, soon, unique};

/// A session that was found for somebody who had stopped waiting for it stayed his for ever.
#[tokio::test]
async fn waits_given_up_while_a_session_is_opened_keep_none() {
    const SESSIONS: usize = 4;
    let (_server, port) = mariadb();
    let proxy = Proxy::before(port).unwrap();
    let mut sessions = SessionOptions::default();
    (sessions.max_sessions, sessions.max_waiting) = (SESSIONS, SESSIONS);
    let (locks, other) = (locks_of(options(proxy.port()).tls(TlsMode::Disable).sessions(sessions)), locks(port));
    let (name, mut admin) = (unique("opening"), Person::admin(port).await);
    let mut taken = Vec::new();
    for nth in 0..SESSIONS {
        taken.push(other.mutex(format!("{name}-{nth}")).acquire().await.unwrap());
    }
    locks.check().await.unwrap();
    proxy.delay(Duration::from_millis(50), Duration::from_millis(50));
    let waits = (0..SESSIONS).map(|nth| {
        let mutex = locks.mutex(format!("{name}-{nth}"));
        tokio::spawn(async move { mutex.acquire_timeout(Duration::from_millis(450)).await.map(drop) })
    });
    for wait in waits.collect::<Vec<_>>() {
        assert_eq!(soon("it ends", wait).await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    }
    proxy.delay(Duration::ZERO, Duration::ZERO);
    // As many as there are sessions can wait at the server.
    let waits = (0..SESSIONS).map(|nth| {
        let mutex = locks.mutex(format!("{name}-{nth}"));
        tokio::spawn(async move { mutex.acquire().await.map(drop) })
    });
    let waits: Vec<_> = waits.collect();
    for nth in 0..SESSIONS {
        let name = format!("{name}-{nth}");
        let start = Instant::now();
        while admin.rows_of(&name, "PENDING").await == 0 {
            assert!(start.elapsed() < crate::common::LONG, "{name} has no session to wait in");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    drop(taken);
    for wait in waits {
        soon("it is granted", wait).await.unwrap().unwrap();
    }
}

/// A name that the server refuses took the session with it.
#[tokio::test]
async fn a_name_that_is_refused_costs_no_hold() {
    let (_server, port) = mysql();
    let locks = locks_of(options(port).names(NameRule::Exact));
    let guard = locks.mutex(unique("held")).try_acquire().await.unwrap().expect("it is free");
    for _ in 0..3 {
        let error = locks.mutex("🚂").try_acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
        let error = locks.mutex("🚂").acquire_timeout(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    }
    assert!(guard.ensure_held().is_ok(), "{:?}", guard.state());
    guard.release().await.unwrap();
}

/// A session from before the server became a replica still gave locks.
#[tokio::test]
async fn a_primary_that_became_a_replica_gives_no_locks() {
    let server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let (locks, other) = (locks(server.port()), locks(server.port()));
    for locks in [&locks, &other] {
        locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    }
    let kept = other.mutex("kept").acquire().await.unwrap();
    server.sql("SET GLOBAL read_only=1").unwrap();
    for locks in [&locks, &other] {
        let got = locks.mutex("m").try_acquire().await;
        let error = got.expect_err("a replica's locks exclude nobody");
        assert!(error.kind() == ErrorKind::Misconfigured && error.to_string().contains("read-only"), "{error}");
        let error = locks.mutex("m").acquire_timeout(Duration::from_secs(10)).await.expect_err("the same");
        assert!(error.kind() == ErrorKind::Misconfigured && error.to_string().contains("read-only"), "{error}");
    }
    assert!(kept.ensure_held().is_ok());
    server.sql("SET GLOBAL read_only=0").unwrap();
    for locks in [&locks, &other] {
        locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    }
    kept.release().await.unwrap();
}

/// Somebody's transaction on the table of the tokens took all holds of the session.
#[tokio::test]
async fn a_table_of_tokens_that_is_locked_costs_no_hold() {
    for (_server, port) in [mariadb(), mysql()] {
        let (locks, name) = (locks(port), unique("table"));
        let fenced = locks.mutex(&name).fenced().unwrap();
        fenced.acquire().await.unwrap().release().await.unwrap();
        let held = locks.mutex(format!("{name}-held")).acquire().await.unwrap();
        let mut person = Person::user(port).await;
        person.value("SET autocommit=0").await;
        person.value(&format!("SELECT token FROM pilotman_fencing_token WHERE name='{name}' FOR UPDATE")).await;
        let error = soon("an answer", fenced.try_acquire()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        // For longer than a heartbeat.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(held.ensure_held().is_ok(), "{:?}", held.state());
        person.value("ROLLBACK").await;
        fenced.acquire().await.unwrap().release().await.unwrap();
        held.release().await.unwrap();
    }
}

/// Rows that are made at the same time next to each other.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_made_at_once_are_no_deadlock() {
    for (_server, port) in [mariadb(), mysql()] {
        let base = unique("at-once");
        let work: Vec<_> = (0..8)
            .map(|own| {
                let (locks, base) = (locks(port), base.clone());
                tokio::spawn(async move {
                    for nth in 0..40 {
                        let name = format!("{base}-{}-{}", nth / 2, (own * 7 + nth) % 8);
                        let guard = locks.mutex(&name).fenced().unwrap().acquire().await.unwrap();
                        guard.release().await.unwrap();
                    }
                })
            })
            .collect();
        for work in work {
            soon("it ends", work).await.unwrap();
        }
    }
}

/// Another program waits for ours and has what we try.
#[tokio::test]
async fn an_attempt_across_a_foreign_wait() {
    for (_server, port) in [mariadb(), mysql()] {
        let (locks, name) = (locks(port), unique("cross"));
        let (ours, theirs) = (name.clone(), format!("{name}-theirs"));
        let guard = locks.mutex(&ours).acquire().await.unwrap();
        let mut person = Person::user(port).await;
        person.value(&format!("SELECT GET_LOCK('{theirs}',0)")).await;
        let waiting = tokio::spawn(async move { person.value(&format!("SELECT GET_LOCK('{ours}',20)")).await });
        let mut admin = Person::admin(port).await;
        while admin.rows_of(&name, "PENDING").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let got = locks.mutex(&theirs).try_acquire().await;
        assert!(got.unwrap().is_none());
        assert!(guard.ensure_held().is_ok());
        guard.release().await.unwrap();
        assert_eq!(waiting.await.unwrap().as_deref(), Some("1"));
    }
}

/// A server's name ends there: all locks were the same one.
#[tokio::test]
async fn a_prefix_with_a_nul_is_refused() {
    let error = MySqlBackend::new(options(3306).prefix("a\0")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

/// Passes bytes on, until it goes dark: then what is connected stays so at both ends and hears nothing more, as after a firewall has
/// forgotten it, and new connections are closed at once.
async fn firewall(server: u16) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dark, is_dark) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut is_dark = is_dark.clone();
            if *is_dark.borrow() {
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let went_dark = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => false,
                    changed = is_dark.wait_for(|dark| *dark) => changed.is_ok(),
                };
                if went_dark {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (port, dark)
}

/// The server was told to end a session for some seconds only, and kept its locks for as long as TCP takes after that.
#[tokio::test]
async fn a_session_that_was_cut_off_for_long_is_ended_when_the_server_is_back() {
    let (_server, port) = mariadb();
    let (wall, dark) = firewall(port).await;
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_secs(1);
    let restless = options(wall).tls(TlsMode::Disable).connect_timeout(Duration::from_secs(1)).sessions(sessions);
    let (locks, other, name) = (locks_of(restless), locks(port), unique("dark"));
    let guard = locks.mutex(&name).acquire().await.unwrap();
    dark.send(true).unwrap();
    soon("the loss is told", guard.lost()).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(other.mutex(&name).try_acquire().await.unwrap().is_none(), "the server knows nothing of it yet");
    dark.send(false).unwrap();
    soon("it is free again", other.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
}

/// It waited for as long as TCP does, more than ten minutes.
#[tokio::test]
async fn a_wait_that_was_cut_off_goes_on_in_another_session() {
    let (_server, port) = mariadb();
    let (wall, dark) = firewall(port).await;
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_millis(300);
    let options_ = options(wall).tls(TlsMode::Disable).connect_timeout(Duration::from_secs(1)).sessions(sessions);
    let (locks, other, name) = (locks_of(options_), locks(port), unique("dark-wait"));
    let guard = other.mutex(&name).acquire().await.unwrap();
    let mutex = locks.mutex(&name);
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    let mut admin = Person::admin(port).await;
    while admin.rows_of(&name, "PENDING").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    dark.send(true).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    dark.send(false).unwrap();
    guard.release().await.unwrap();
    soon("it is granted", waiting).await.unwrap().unwrap().release().await.unwrap();
}

/// What bounds the wait for a table of tokens doesn't bound that for a lock.
#[tokio::test]
async fn a_wait_is_as_long_as_it_takes() {
    for (_server, port) in [mariadb(), mysql()] {
        let mut sessions = SessionOptions::default();
        sessions.heartbeat = Duration::from_millis(500);
        let (locks, other, name) = (locks_of(options(port).sessions(sessions)), locks(port), unique("long"));
        let guard = other.mutex(&name).acquire().await.unwrap();
        let mutex = locks.mutex(&name);
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        // Long enough to be looked after, too.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(!waiting.is_finished());
        guard.release().await.unwrap();
        soon("it is granted", waiting).await.unwrap().unwrap().release().await.unwrap();
    }
}
