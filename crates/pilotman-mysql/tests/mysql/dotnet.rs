//! The data fixtures of the .NET library's tests that make sense here, by their names.

use std::time::Duration;

use pilotman_core::{LossReason, Release};
use pilotman_mysql::{SessionOptions, TlsMode};
use pilotman_testkit::servers::mysql::{Flavour, LOCKER, MySql as Server};

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, soon, unique, until};

/// `TestConnectionDoesNotLeak`
#[tokio::test]
async fn connection_does_not_leak() {
    for (_server, port) in [mariadb(), mysql()] {
        let (application, name) = (unique("leak"), unique("m"));
        // The driver tells its name too late where there is TLS.
        let locks = locks_of(options(port).application_name(&application).tls(TlsMode::Disable));
        let mut admin = Person::admin(port).await;
        for _ in 0..30 {
            let guard = locks.mutex(&name).acquire().await.unwrap();
            assert_eq!(admin.sessions_of(&application).await, 1);
            guard.release().await.unwrap();
            assert_eq!(admin.sessions_of(&application).await, 1);
        }
        locks.close().await;
        for _ in 0..1500 {
            if admin.sessions_of(&application).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(admin.sessions_of(&application).await, 0);
    }
}

/// `TestKeepaliveProtectsFromIdleSessionKiller`: the server ends sessions that are idle for a second.
#[tokio::test]
async fn keepalive_protects_from_idle_session_killer() {
    let server = Server::start(Flavour::MariaDb, &["--wait-timeout=1", "--interactive-timeout=1"]).unwrap();
    let locks = locks_of(options(server.port()));
    // A session without holds is not asked anything: it lives by what it has set.
    let sql = format!("SELECT GROUP_CONCAT(ID) FROM information_schema.PROCESSLIST WHERE USER='{LOCKER}'");
    locks.check().await.unwrap();
    let session = server.sql(&sql).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(server.sql(&sql).unwrap(), session);
    let guard = locks.mutex("m").acquire().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(server.sql(&sql).unwrap(), session);
}

/// `TestIdleSessionKiller`: that the server does end others is what the test above stands on.
#[tokio::test]
async fn idle_session_killer() {
    let server = Server::start(Flavour::MariaDb, &["--wait-timeout=1", "--interactive-timeout=1"]).unwrap();
    let mut idle = Person::user(server.port()).await;
    assert_eq!(idle.value("SELECT GET_LOCK('m',0)").await.as_deref(), Some("1"));
    until("it is ended", || async { server.sql("SELECT IS_FREE_LOCK('m')").unwrap().trim() == "1" }).await;
}

/// `TestKeepaliveDoesNotCreateRaceCondition`
#[tokio::test]
async fn keepalive_does_not_create_race_condition() {
    let (_server, port) = mariadb();
    let mut sessions = SessionOptions::default();
    // As long again is the time that the server has to answer.
    sessions.heartbeat = Duration::from_millis(500);
    let (locks, name) = (locks_of(options(port).sessions(sessions)), unique("race"));
    for _ in 0..5 {
        let guard = locks.mutex(&name).acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(510)).await;
        guard.release().await.unwrap();
    }
}

/// `TestLockAbandonmentWithTimeBasedCleanupRun`
#[tokio::test]
async fn lock_abandonment_with_time_based_cleanup_run() {
    let (_server, port) = mariadb();
    let (one, other, name) = (locks(port), locks(port), unique("abandoned"));
    drop(one.mutex(&name).acquire().await.unwrap());
    soon("it is given back", other.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
    // Also with all that it came from.
    drop((one.mutex(&name).acquire().await.unwrap(), one));
    soon("it is given back", other.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
}

/// `TestHighConcurrencyWithSmallPool`
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn high_concurrency_with_small_pool() {
    let (_server, port) = mariadb();
    let mut sessions = SessionOptions::default();
    (sessions.max_sessions, sessions.max_waiting) = (2, 1);
    let (locks, base) = (locks_of(options(port).sessions(sessions)), unique("pool"));
    let work: Vec<_> = (0..200_usize)
        .map(|number| {
            let mutex = locks.mutex(format!("{base}-{}", number * 7 % 20));
            tokio::spawn(async move {
                for _ in 0..5 {
                    if let Some(guard) = mutex.try_acquire_for(Duration::from_secs(20)).await.unwrap() {
                        guard.release().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for done in work {
        soon("it ends", done).await.unwrap();
    }
}

/// `TestBrokenConnectionDoesNotCorruptPool`
#[tokio::test]
async fn broken_connection_does_not_corrupt_pool() {
    for (_server, port) in [mariadb(), mysql()] {
        let (locks, name) = (locks(port), unique("broken"));
        let broken = locks.mutex(&name).acquire().await.unwrap();
        Person::admin(port).await.kill_holder(&name).await;
        // Who comes next does not pay for it, whether the loss is known already or not.
        locks.mutex(format!("{name}-2")).acquire().await.unwrap().release().await.unwrap();
        assert_eq!(soon("the loss is told", broken.lost()).await, LossReason::SessionEnded);
        for suffix in ["", "-2", "-3"] {
            let guard = locks.mutex(format!("{name}{suffix}")).acquire().await.unwrap();
            guard.release().await.unwrap();
        }
    }
}
