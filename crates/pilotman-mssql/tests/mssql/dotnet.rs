//! The data fixtures of the .NET library's tests that make sense here, by their names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pilotman_core::{LossReason, Release};
use pilotman_mssql::{SessionOptions, Wait, lock_on};
use pilotman_testkit_mssql::StandIn;

use crate::common::{connection, has, heartbeat, holder, locks, locks_of, nothing_left, options, server, soon, until};

/// `TestConnectionDoesNotLeak`
#[tokio::test]
async fn connection_does_not_leak() {
    let server = server();
    let locks = locks(&server);
    for _ in 0..30 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        assert_eq!(server.sessions().len(), 1);
        guard.release().await.unwrap();
        assert_eq!(server.sessions().len(), 1);
    }
    locks.close().await;
    until("its session has ended", || server.sessions().is_empty()).await;
}

/// `TestKeepaliveProtectsFromIdleSessionKiller`: the server ends sessions that are idle for four seconds, and ours are asked
/// every second.
#[tokio::test]
async fn keepalive_protects_from_idle_session_killer() {
    let server = StandIn::builder().idle_limit(Duration::from_secs(4)).start().unwrap();
    let locks = locks_of(options(&server).sessions(heartbeat(Duration::from_secs(2))));
    let guard = locks.mutex("m").acquire().await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

/// `TestIdleSessionKiller`: that the server does end others is what the test above stands on.
#[tokio::test]
async fn idle_session_killer() {
    let server = StandIn::builder().idle_limit(Duration::from_secs(2)).start().unwrap();
    let mut idle = connection(&server).await;
    assert!(lock_on(&mut idle, "m", Wait::No).await.unwrap());
    until("it is ended", || has(&server, "m", 0, 0)).await;
}

/// `TestKeepaliveDoesNotCreateRaceCondition`
#[tokio::test]
async fn keepalive_does_not_create_race_condition() {
    let server = server();
    // As long again is the time that the server has to answer.
    let locks = locks_of(options(&server).sessions(heartbeat(Duration::from_secs(2))));
    for _ in 0..4 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1010)).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
}

/// The same with upgrades; and after one that failed, a session is kept alive as before.
#[tokio::test]
async fn keepalive_and_upgrades() {
    let server = StandIn::builder().idle_limit(Duration::from_secs(4)).start().unwrap();
    let locks = locks_of(options(&server).sessions(heartbeat(Duration::from_secs(2))));
    let reader = locks.rw_lock("r").read().await.unwrap();
    let mut upgradeable = locks.rw_lock("r").upgradeable_read().await.unwrap();
    assert!(!upgradeable.try_upgrade_for(Duration::from_millis(100)).await.unwrap());
    tokio::time::sleep(Duration::from_secs(6)).await;
    upgradeable.ensure_held().unwrap();
    reader.release().await.unwrap();
    upgradeable.upgrade().await.unwrap();
    upgradeable.release().await.unwrap();
    for _ in 0..3 {
        let mut upgradeable = locks.rw_lock("r").upgradeable_read().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1003)).await;
        upgradeable.upgrade().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1003)).await;
        assert_eq!(upgradeable.release().await.unwrap(), Release::Released);
    }
}

/// `TestLockAbandonmentWithTimeBasedCleanupRun`
#[tokio::test]
async fn lock_abandonment_with_time_based_cleanup_run() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    drop(one.mutex("m").acquire().await.unwrap());
    soon("it is given back", other.mutex("m").acquire()).await.unwrap().release().await.unwrap();
    // Also with all that it came from.
    drop((one.mutex("m").acquire().await.unwrap(), one));
    soon("it is given back", other.mutex("m").acquire()).await.unwrap().release().await.unwrap();
    nothing_left(&server).await;
}

/// `TestHighConcurrencyWithSmallPool`
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn high_concurrency_with_small_pool() {
    let server = server();
    let mut sessions = SessionOptions::default();
    (sessions.max_sessions, sessions.max_waiting) = (2, 1);
    let locks = locks_of(options(&server).sessions(sessions));
    let work: Vec<_> = (0..200_usize)
        .map(|number| {
            let mutex = locks.mutex(format!("m{}", number * 7 % 20));
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
    assert!(server.sessions().len() <= 2);
    nothing_left(&server).await;
}

/// `TestBrokenConnectionDoesNotCorruptPool`
#[tokio::test]
async fn broken_connection_does_not_corrupt_pool() {
    let server = server();
    let locks = locks(&server);
    let broken = locks.mutex("m").acquire().await.unwrap();
    server.kill(holder(&server, "m"));
    // Who comes next does not pay for it, whether the loss is known already or not.
    locks.mutex("m-2").acquire().await.unwrap().release().await.unwrap();
    assert_eq!(soon("the loss is told", broken.lost()).await, LossReason::SessionEnded);
    for name in ["m", "m-2", "m-3"] {
        locks.mutex(name).acquire().await.unwrap().release().await.unwrap();
    }
    nothing_left(&server).await;
}

/// `TestMultipleConnectionsCannotTriggerSelfDeadlock`: waiters for permits of one program are no deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multiple_connections_cannot_trigger_self_deadlock() {
    let server = server();
    let locks = locks(&server);
    let (held, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let work: Vec<_> = (0..20)
        .map(|_| {
            let (semaphore, held, most) = (locks.semaphore("s", 2), held.clone(), most.clone());
            tokio::spawn(async move {
                let permit = semaphore.acquire().await.unwrap();
                most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                held.fetch_sub(1, Ordering::SeqCst);
                permit.release().await.unwrap();
            })
        })
        .collect();
    for done in work {
        soon("it ends", done).await.unwrap();
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    nothing_left(&server).await;
}

/// `TestSelfDeadlockWaitsOnSpecifiedTime`, `TestSelfDeadlockWaitRespectsCancellation`: who has all permits and waits for one more
/// waits for his time, and can be stopped.
#[tokio::test]
async fn self_deadlock_waits_on_specified_time_and_respects_cancellation() {
    let server = server();
    let semaphore = locks(&server).semaphore("s", 2);
    let permits = [semaphore.acquire().await.unwrap(), semaphore.acquire().await.unwrap()];
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    assert!(semaphore.try_acquire_for(Duration::from_millis(200)).await.unwrap().is_none());
    assert!(tokio::time::timeout(Duration::from_millis(200), semaphore.acquire()).await.is_err());
    for permit in permits {
        permit.release().await.unwrap();
    }
    soon("it is had", semaphore.acquire()).await.unwrap().release().await.unwrap();
    nothing_left(&server).await;
}

/// `TestSameNameDifferentCounts`: never more than the larger number, of whom never more than each asked for.
#[tokio::test]
async fn same_name_different_counts() {
    let server = server();
    let locks = locks(&server);
    let (two, five) = (locks.semaphore("s", 2), locks.semaphore("s", 5));
    let of_two = [two.acquire().await.unwrap(), two.acquire().await.unwrap()];
    assert!(two.try_acquire().await.unwrap().is_none());
    let of_five = [five.acquire().await.unwrap(), five.acquire().await.unwrap(), five.acquire().await.unwrap()];
    assert!(five.try_acquire().await.unwrap().is_none());
    for permit in of_two.into_iter().chain(of_five) {
        permit.release().await.unwrap();
    }
    nothing_left(&server).await;
}

/// The resources of the permits are those of the .NET library.
#[tokio::test]
async fn permits_are_tickets_of_dotnet() {
    let server = server();
    let permit = locks(&server).semaphore("a", 1).acquire().await.unwrap();
    let rows = server.locks();
    assert_eq!(rows[0].resource, "aca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bbsemaphore0");
    permit.release().await.unwrap();
}
