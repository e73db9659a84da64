//! Sessions that are killed, and servers that hang or end.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, LossReason, Primitive, Release};
use pilotman_mysql::TlsMode;
use pilotman_testkit::proxy::{Cut, Proxy};
use pilotman_testkit::servers::mysql::{Flavour, MySql as Server};

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, soon, unique};

#[tokio::test]
async fn all_holds_of_a_killed_session_are_told() {
    for (_server, port) in [mariadb(), mysql()] {
        let (locks, name) = (locks(port), unique("killed"));
        let (one, two) = (locks.mutex(&name), locks.mutex(format!("{name}-2")));
        let (one, two) = (one.acquire().await.unwrap(), two.acquire().await.unwrap());
        Person::admin(port).await.kill_holder(&name).await;
        for guard in [&one, &two] {
            assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
            assert_eq!(guard.state(), HoldState::Lost);
        }
        assert!(matches!(one.release().await.unwrap(), Release::AlreadyLost(_)));
        soon("others go on", locks.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_frozen_server_holds_nobody_up() {
    let mut server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let locks = locks_of(options(server.port()).connect_timeout(Duration::from_secs(1)));
    let guard = locks.mutex("m").acquire().await.unwrap();
    server.freeze().unwrap();
    let start = Instant::now();
    let error = locks.mutex("n").acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unavailable), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
    assert!(start.elapsed() < Duration::from_secs(15), "told after {:?}", start.elapsed());
    soon("a close ends", locks.close()).await;
    server.thaw().unwrap();
    // What was held is freed once the server goes on, though nobody could tell it before.
    let again = crate::common::locks(server.port());
    soon("it is free again", again.mutex("m").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back() {
    let mut server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let locks = locks(server.port());
    let guard = locks.mutex("m").acquire().await.unwrap();
    server.kill().unwrap();
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
    let error = locks.mutex("n").try_acquire().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error}");
    server.restart().unwrap();
    soon("it is back", locks.mutex("n").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle() {
    let (_server, port) = mariadb();
    for cut in [Cut::Close, Cut::Reset] {
        let proxy = Proxy::before(port).unwrap();
        let (locks, name) = (locks_of(options(proxy.port()).tls(TlsMode::Disable)), unique("cut"));
        let guard = locks.mutex(&name).acquire().await.unwrap();
        proxy.cut(cut);
        assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
        soon("a new session", locks.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_grant_whose_answer_is_lost_is_given_back() {
    let (_server, port) = mariadb();
    let proxy = Proxy::before(port).unwrap();
    let (one, other, name) = (locks_of(options(proxy.port()).tls(TlsMode::Disable)), locks(port), unique("lost-reply"));
    one.check().await.unwrap();
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    proxy.lose_reply(hex, 0);
    let mutex = one.mutex(&name);
    let attempt = tokio::spawn(async move { mutex.acquire_timeout(Duration::from_secs(1)).await });
    let _ = soon("it ends", attempt).await.unwrap();
    assert!(proxy.wait_lost_replies(1, Duration::from_secs(10)));
    soon("it is free", other.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn idle_sessions_that_were_ended_are_nothing_to_who_comes_next() {
    let (_server, port) = mariadb();
    let application = unique("idle");
    let locks = locks_of(options(port).application_name(&application).tls(TlsMode::Disable));
    let (other, name, mut admin) = (crate::common::locks(port), unique("idle"), Person::admin(port).await);
    for waits in [false, true] {
        // Waits take a session each, which all stay open for a while.
        let mut taken = Vec::new();
        let mut waiting = Vec::new();
        for number in 0..6 {
            let name = format!("{name}-{number}");
            taken.push(other.mutex(&name).acquire().await.unwrap());
            let mutex = locks.mutex(&name);
            waiting.push(tokio::spawn(async move { mutex.acquire().await.unwrap() }));
        }
        let start = Instant::now();
        while admin.sessions_of(&application).await < 6 {
            assert!(start.elapsed() < Duration::from_secs(20), "six sessions");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(taken);
        for waiting in waiting {
            soon("it is granted", waiting).await.unwrap().release().await.unwrap();
        }
        let sql = "SELECT PROCESSLIST_ID FROM performance_schema.session_connect_attrs WHERE ATTR_VALUE";
        while let Some(id) = admin.value(&format!("{sql}='{application}' LIMIT 1")).await {
            admin.try_value(&format!("KILL CONNECTION {id}")).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match waits {
            false => {
                for number in 0..3 {
                    let guard = locks.mutex(format!("{name}-{number}")).try_acquire().await.unwrap();
                    guard.expect("it is free").release().await.unwrap();
                }
            }
            true => {
                let guard = other.mutex(&name).acquire().await.unwrap();
                let mutex = locks.mutex(&name);
                let waiting = tokio::spawn(async move { mutex.acquire().await });
                tokio::time::sleep(Duration::from_millis(200)).await;
                guard.release().await.unwrap();
                soon("it is granted", waiting).await.unwrap().unwrap().release().await.unwrap();
            }
        }
    }
}

/// Who looks at a lock isn't told of it either.
#[tokio::test]
async fn an_idle_session_that_was_ended_is_passed_over_by_a_look() {
    let (_server, port) = mariadb();
    let (locks, name, mut admin) = (locks(port), unique("look"), Person::admin(port).await);
    for _ in 0..3 {
        locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
        let guard = locks.mutex(&name).acquire().await.unwrap();
        let session = admin.holder(&name).await.unwrap();
        guard.release().await.unwrap();
        admin.try_value(&format!("KILL CONNECTION {session}")).await;
        assert!(locks.inspect(&name, Primitive::Mutex).await.unwrap().holders.is_empty());
    }
}

#[tokio::test]
async fn a_wait_is_given_up_even_without_a_connection_to_end_it() {
    let server = Server::start(Flavour::MariaDb, &["--max-user-connections=2"]).unwrap();
    let (one, other) = (locks(server.port()), locks(server.port()));
    let guard = one.mutex("m").acquire().await.unwrap();
    let start = Instant::now();
    let error = other.mutex("m").acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE='User lock'";
    crate::common::until("nobody waits", || async { server.sql(sql).unwrap().trim() == "0" }).await;
    guard.release().await.unwrap();
    // The connections of what was given up take a moment to go.
    crate::common::until("it is free", || async {
        match other.mutex("m").try_acquire().await {
            Ok(Some(guard)) => guard.release().await.is_ok(),
            _ => false,
        }
    })
    .await;
}
