//! The .NET library's tests of its SQL backends, as far as they have a meaning here. Each is named as there.

use std::time::{Duration, Instant};

use pilotman_core::{Locks, NameRule, Primitive, Release};
use tokio::task::JoinSet;

use crate::common::{holder, locks, locks_of, options, soon, until};
use crate::fake::Database;

#[tokio::test]
async fn test_connection_does_not_leak() {
    let database = Database::start();
    let locks = locks_of(&database, options().application_name("leak"));
    for _ in 0..30 {
        locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
        assert_eq!(database.sessions_of("leak").len(), 1);
    }
    soon("it closes", locks.close()).await;
    until("no session is left", || database.sessions_of("leak").is_empty()).await;
}

/// Sessions with holds are never idle for long: each is asked whether it is there.
#[tokio::test]
async fn test_keepalive_protects_from_idle_session_killer() {
    let database = Database::start();
    let locks = locks(&database);
    let guard = locks.mutex("m").acquire().await.unwrap();
    let upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
    // A profile's IDLE_TIME is in minutes; our pause between two questions is a quarter of a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    guard.ensure_held().unwrap();
    guard.release().await.unwrap();
    upgradeable.release().await.unwrap();
}

#[tokio::test]
async fn test_keepalive_does_not_create_race_condition() {
    let database = Database::start();
    let locks = locks(&database);
    for _ in 0..25 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        let mut upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
        upgradeable.upgrade().await.unwrap();
        upgradeable.release().await.unwrap();
    }
}

#[tokio::test]
async fn test_keepalive_protects_from_idle_session_killer_after_failed_upgrade() {
    let database = Database::start();
    let locks = locks(&database);
    let reader = locks.rw_lock("x").read().await.unwrap();
    let mut upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
    assert!(!upgradeable.try_upgrade().await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    reader.release().await.unwrap();
    soon("it is upgraded", upgradeable.upgrade()).await.unwrap();
    upgradeable.release().await.unwrap();
}

#[tokio::test]
async fn test_idle_session_killer() {
    let database = Database::start();
    let locks = locks(&database);
    let guard = locks.mutex("m").acquire().await.unwrap();
    database.kill(holder(&database, "m"));
    soon("it is told", guard.lost()).await;
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(_)));
}

#[tokio::test]
async fn test_lock_abandonment_with_time_based_cleanup_run() {
    let database = Database::start();
    let locks = locks(&database);
    drop(locks.mutex("m").acquire().await.unwrap());
    until("it is given back", || database.holders("m").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_high_concurrency_with_small_pool() {
    let database = Database::start();
    let mut sessions = pilotman_oracle::SessionOptions::default();
    sessions.max_sessions = 1;
    let locks = locks_of(&database, options().sessions(sessions));
    let mut tasks = JoinSet::new();
    for task in 0..10u64 {
        let locks: Locks = locks.clone();
        tasks.spawn(async move {
            for round in 0..100 {
                let mutex = locks.mutex(format!("m-{}", (task * 7 + round * 13) % 20));
                if let Some(guard) = mutex.try_acquire().await.unwrap() {
                    guard.release().await.unwrap();
                }
            }
        });
    }
    let start = Instant::now();
    while let Some(done) = soon("all end", tasks.join_next()).await {
        done.unwrap();
    }
    println!("1000 attempts in {:?}", start.elapsed());
    assert!(database.sessions() <= 1);
}

#[tokio::test]
async fn test_broken_connection_does_not_corrupt_pool() {
    let database = Database::start();
    let locks = locks(&database);
    let guard = locks.mutex("a").acquire().await.unwrap();
    database.kill(holder(&database, "a"));
    for name in ["b", "c", "a"] {
        soon("it is had", locks.mutex(name).acquire()).await.unwrap().release().await.unwrap();
    }
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(_)));
}

/// Its names, as far as the rule tells them: the .NET library has vectors for those that it hashes.
#[tokio::test]
async fn oracle_name_compatibility() {
    let database = Database::start();
    let (plain, rw) = (locks(&database), locks_of(&database, options().dotnet_rw(true)));
    let physical = |locks: &Locks, name: &str, primitive| locks.physical_name(name, primitive).unwrap();
    for name in ["abc", "ABC", "\\", " ", &"a".repeat(128)] {
        assert_eq!(physical(&plain, name, Primitive::Mutex), name);
        assert_eq!(physical(&rw, name, Primitive::Write), name);
    }
    let long = physical(&plain, &"a".repeat(129), Primitive::Mutex);
    assert!(long.starts_with(&"a".repeat(40)) && long.len() == 128 && long.ends_with("=="), "{long}");
}

/// Reads, upgrades and writes among each other, and a mutex beside them, as .NET's provider gives them.
#[tokio::test]
async fn oracle_provider() {
    let database = Database::start();
    let locks = locks_of(&database, options().dotnet_rw(true));
    let reader = locks.rw_lock("x").read().await.unwrap();
    let mut upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
    assert!(locks.rw_lock("x").try_write().await.unwrap().is_none());
    assert!(locks.mutex("x").try_acquire().await.unwrap().is_none(), "there they are one lock");
    reader.release().await.unwrap();
    upgradeable.upgrade().await.unwrap();
    assert!(locks.rw_lock("x").try_read().await.unwrap().is_none());
    upgradeable.release().await.unwrap();
    let mutex = locks.mutex("x").acquire().await.unwrap();
    assert!(locks.rw_lock("x").try_read().await.unwrap().is_none());
    mutex.release().await.unwrap();
}

#[tokio::test]
async fn oracle_options() {
    let database = Database::start();
    let locks = locks_of(&database, options().application_name("named").names(NameRule::Strict).prefix("app."));
    let guard = locks.mutex("m").acquire().await.unwrap();
    assert_eq!(database.sessions_of("named").len(), 1);
    assert!(locks.physical_name("m", Primitive::Mutex).unwrap().starts_with("app_m."));
    guard.release().await.unwrap();
}
