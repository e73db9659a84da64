//! Waiting at the server, and ceasing to.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, Locks};
use pilotman_mysql::MySqlBackend;

use crate::common::{Person, locks, mariadb, mysql, options, soon, unique, until};

#[tokio::test]
async fn milliseconds_count() {
    for (_server, port) in [mariadb(), mysql()] {
        let (one, other, name) = (locks(port), locks(port), unique("ms"));
        let guard = one.mutex(&name).acquire().await.unwrap();
        other.check().await.unwrap();
        for limit in [100, 300, 1200].map(Duration::from_millis) {
            let start = Instant::now();
            let error = other.mutex(&name).acquire_timeout(limit).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(start.elapsed() >= limit, "{:?} instead of {limit:?}", start.elapsed());
            assert!(start.elapsed() < limit + Duration::from_secs(5), "{:?} instead of {limit:?}", start.elapsed());
        }
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_wait_leaves_nothing() {
    for (_server, port) in [mariadb(), mysql()] {
        let (one, other, name) = (locks(port), locks(port), unique("cancel"));
        let mut admin = Person::admin(port).await;
        let guard = one.mutex(&name).acquire().await.unwrap();
        let mutex = other.mutex(&name);
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        while admin.rows_of(&name, "PENDING").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waiting.abort();
        let start = Instant::now();
        while admin.rows_of(&name, "PENDING").await > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "it still waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        guard.release().await.unwrap();
        assert_eq!(admin.rows_of(&name, "GRANTED").await, 0);
        // The session that waited goes on, and nothing that was sent to end the wait ends something else.
        for _ in 0..20 {
            other.mutex(&name).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn waits_that_end_as_they_are_granted_leave_nothing() {
    for (_server, port) in [mariadb(), mysql()] {
        let (one, other, name) = (locks(port), locks(port), unique("race"));
        let mut admin = Person::admin(port).await;
        for round in 0..25_u64 {
            let guard = one.mutex(&name).acquire().await.unwrap();
            let mutex = other.mutex(&name);
            let waiting = tokio::spawn(async move { mutex.acquire_timeout(Duration::from_millis(20)).await });
            tokio::time::sleep(Duration::from_millis(18 + round % 8)).await;
            guard.release().await.unwrap();
            match waiting.await.unwrap() {
                Ok(guard) => drop(guard.release().await.unwrap()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
            }
        }
        soon("it is free", one.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
        let start = Instant::now();
        while admin.rows_of(&name, "GRANTED").await + admin.rows_of(&name, "PENDING").await > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "something is left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn somebody_who_ends_a_wait_is_no_grant() {
    for (_server, port) in [mariadb(), mysql()] {
        let (one, other, name) = (locks(port), locks(port), unique("killed"));
        let guard = one.mutex(&name).acquire().await.unwrap();
        let mutex = other.mutex(&name);
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        let mut admin = Person::admin(port).await;
        let sql = "SELECT t.PROCESSLIST_ID FROM performance_schema.metadata_locks l JOIN performance_schema.threads t \
                   ON t.THREAD_ID=l.OWNER_THREAD_ID WHERE l.LOCK_STATUS='PENDING' AND l.OBJECT_NAME=";
        let id = loop {
            match admin.value(&format!("{sql}'{name}'")).await {
                Some(id) => break id,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        admin.value(&format!("KILL QUERY {id}")).await;
        let error = soon("the wait ends", waiting).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(guard.ensure_held().is_ok());
        guard.release().await.unwrap();
        soon("it is free", other.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn a_process_that_dies_while_it_waits_is_passed_over() {
    let (_server, port) = mariadb();
    let (locks, name) = (locks(port), unique("dead"));
    let guard = locks.mutex(&name).acquire().await.unwrap();
    // A connection that is simply gone, as after a kill: nobody says good-bye.
    let mut dead = Person::user(port).await;
    let sql = format!("SELECT GET_LOCK('{name}',1000)");
    let waiting = tokio::time::timeout(Duration::from_millis(300), dead.value(&sql)).await;
    assert!(waiting.is_err(), "it waits");
    drop(dead);
    let mut admin = Person::admin(port).await;
    let start = Instant::now();
    while admin.rows_of(&name, "PENDING").await > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "it still waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    guard.release().await.unwrap();
    until("it is free", || async { locks.mutex(&name).try_acquire().await.unwrap().is_some() }).await;
}

#[tokio::test]
async fn many_locks_at_once_take_few_sessions() {
    let (_server, port) = mariadb();
    let backend = std::sync::Arc::new(MySqlBackend::new(options(port)).unwrap());
    let locks = Locks::builder_shared(backend.clone()).build();
    let base = unique("many");
    for round in 0..5 {
        let waits = (0..100).map(|number| {
            let mutex = locks.mutex(format!("{base}-{round}-{number}"));
            tokio::spawn(async move { mutex.acquire().await.unwrap() })
        });
        let waits: Vec<_> = waits.collect();
        let mut guards = Vec::new();
        for wait in waits {
            guards.push(soon("it is free", wait).await.unwrap());
        }
        assert_eq!(backend.open_sessions(), 1, "in round {round}");
    }
}
