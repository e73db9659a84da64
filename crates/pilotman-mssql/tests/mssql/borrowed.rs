//! Locks in the user's own connections and transactions.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, NameRule};
use pilotman_mssql::{Wait, lock_in, lock_on, resource_name, unlock_on};

use crate::common::{connection, has, locks, nothing_left, says, server, until};

#[tokio::test]
async fn a_lock_in_a_transaction_ends_with_it() {
    let server = server();
    let (mut mine, locks) = (connection(&server).await, locks(&server));
    let name = resource_name("m", NameRule::DotNet).unwrap();
    for commits in [true, false] {
        mine.begin_transaction().await.unwrap();
        assert!(lock_in(&mut mine, &name, Wait::No).await.unwrap());
        assert!(locks.mutex("m").try_acquire().await.unwrap().is_none());
        match commits {
            true => mine.commit_transaction().await.unwrap(),
            false => mine.rollback_transaction().await.unwrap(),
        }
        locks.mutex("m").try_acquire().await.unwrap().unwrap().release().await.unwrap();
    }
    nothing_left(&server).await;
}

#[tokio::test]
async fn milliseconds_count() {
    let server = server();
    let (mut mine, locks) = (connection(&server).await, locks(&server));
    let guard = locks.mutex("m").acquire().await.unwrap();
    mine.begin_transaction().await.unwrap();
    let start = Instant::now();
    assert!(!lock_in(&mut mine, "m", Wait::For(Duration::from_millis(300))).await.unwrap());
    assert!(start.elapsed() >= Duration::from_millis(290) && start.elapsed() < Duration::from_secs(5));
    guard.release().await.unwrap();
    assert!(lock_in(&mut mine, "m", Wait::Forever).await.unwrap());
    mine.rollback_transaction().await.unwrap();
    nothing_left(&server).await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = server();
    let mut mine = connection(&server).await;
    // No transaction, or one that has ended.
    says(&lock_in(&mut mine, "m", Wait::No).await.unwrap_err(), ErrorKind::Misconfigured, &["in no transaction"]);
    mine.begin_transaction().await.unwrap();
    mine.rollback_transaction().await.unwrap();
    let error = lock_in(&mut mine, "m", Wait::Forever).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["it has ended", "lock_on"]);
    assert!(error.has_no_effect() && error.lock() == Some("m"));
    for bad in ["", &"x".repeat(256)] {
        says(&lock_on(&mut mine, bad, Wait::No).await.unwrap_err(), ErrorKind::InvalidName, &["255", "resource_name"]);
    }
    let error = lock_on(&mut mine, "m", Wait::For(Duration::from_secs(1 << 40))).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["longer than SQL Server can wait"]);
    nothing_left(&server).await;
}

/// `TestReAcquireLockOnSameConnection`, `TestScopedToTransactionOnly`
#[tokio::test]
async fn a_connection_does_not_wait_for_itself() {
    let server = server();
    let mut mine = connection(&server).await;
    mine.begin_transaction().await.unwrap();
    assert!(lock_in(&mut mine, "m", Wait::No).await.unwrap());
    assert!(!lock_in(&mut mine, "m", Wait::No).await.unwrap());
    assert!(!lock_on(&mut mine, "m", Wait::No).await.unwrap(), "not on the connection either");
    for wait in [Wait::Forever, Wait::For(Duration::from_millis(50))] {
        says(&lock_in(&mut mine, "m", wait).await.unwrap_err(), ErrorKind::Deadlock, &["wait for itself"]);
        says(&lock_on(&mut mine, "m", wait).await.unwrap_err(), ErrorKind::Deadlock, &["wait for itself"]);
    }
    mine.commit_transaction().await.unwrap();
    assert!(lock_on(&mut mine, "m", Wait::No).await.unwrap());
    assert!(!lock_on(&mut mine, "m", Wait::No).await.unwrap());
    assert!(unlock_on(&mut mine, "m").await.unwrap());
    assert!(!unlock_on(&mut mine, "m").await.unwrap());
    nothing_left(&server).await;
}

/// `TestIsNotScopedToTransaction`, `TestCloseLockOnClosedConnection`
#[tokio::test]
async fn a_lock_on_a_connection_ends_with_it() {
    let server = server();
    let (mut mine, locks) = (connection(&server).await, locks(&server));
    mine.begin_transaction().await.unwrap();
    assert!(lock_on(&mut mine, "m", Wait::No).await.unwrap());
    mine.rollback_transaction().await.unwrap();
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_none());
    mine.close().await.unwrap();
    until("it is free", || has(&server, "m", 0, 0)).await;
    let mut mine = connection(&server).await;
    server.kill_all();
    let error = lock_on(&mut mine, "m", Wait::No).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    nothing_left(&server).await;
}

/// `TestDeadlockDetection`
#[tokio::test]
async fn a_deadlock_is_told() {
    let server = server();
    let (mut one, mut other) = (connection(&server).await, connection(&server).await);
    assert!(lock_on(&mut one, "a", Wait::No).await.unwrap());
    assert!(lock_on(&mut other, "b", Wait::No).await.unwrap());
    let crossed = async {
        let one = async {
            let locked = lock_on(&mut one, "b", Wait::Forever).await;
            if locked.is_err() {
                assert!(unlock_on(&mut one, "a").await.unwrap());
            }
            locked
        };
        let other = async {
            let locked = lock_on(&mut other, "a", Wait::Forever).await;
            if locked.is_err() {
                assert!(unlock_on(&mut other, "b").await.unwrap());
            }
            locked
        };
        tokio::join!(one, other)
    };
    let both = crate::common::soon("one of them fails", crossed).await;
    let failed: Vec<_> = [both.0, both.1].into_iter().filter_map(Result::err).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    says(&failed[0], ErrorKind::Deadlock, &["deadlock", "same order"]);
}
