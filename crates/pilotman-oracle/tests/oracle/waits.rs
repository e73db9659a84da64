//! Waits, which stand in the queue for a second at a time.

use std::time::{Duration, Instant};

use pilotman_core::ErrorKind;
use pilotman_testkit::timing::mostly_within;

use crate::common::{holder, locks, locks_of, options, quick, soon, until};
use crate::fake::Database;

#[tokio::test]
async fn a_wait_goes_on_over_many_slices() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    let waits = tokio::spawn(async move { other.mutex("m").acquire().await });
    let start = Instant::now();
    let requests = || database.log().iter().filter(|run| run.text.contains("DBMS_LOCK.REQUEST")).count();
    // One of the holder, and up to two attempts before the wait, are answered at once; the others take a second each.
    until("it has waited for three slices", || requests() >= 7).await;
    assert!(start.elapsed() > Duration::from_millis(2900), "it asks again and again: {:?}", start.elapsed());
    assert!(!waits.is_finished());
    guard.release().await.unwrap();
    soon("it is had", waits).await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn milliseconds_count() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    // Connecting is no part of a wait.
    other.check().await.unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let error = other.mutex("m").acquire_timeout(Duration::from_millis(150)).await.unwrap_err();
        times.push(start.elapsed());
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert!(times.iter().all(|time| *time >= Duration::from_millis(150)), "{times:?}");
    mostly_within("a wait of 150 ms, less than a slice", Duration::from_millis(900), &times);
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_stopped_wait_is_out_of_the_queue_when_its_slice_ends() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    let mutex = other.mutex("m");
    let waits = tokio::spawn(async move { mutex.acquire().await });
    until("it waits", || database.seen("m").len() == 2).await;
    waits.abort();
    until("it has gone", || database.seen("m").len() == 1).await;
    guard.release().await.unwrap();
    until("nothing is left", || database.seen("m").is_empty()).await;
}

#[tokio::test]
async fn what_was_granted_to_a_stopped_wait_is_given_back_at_once() {
    let database = Database::start();
    let (one, other, third) = (locks(&database), locks(&database), locks(&database));
    for _ in 0..5 {
        let guard = one.mutex("m").acquire().await.unwrap();
        let mutex = other.mutex("m");
        let waits = tokio::spawn(async move { mutex.acquire().await });
        until("it waits", || database.seen("m").len() == 2).await;
        waits.abort();
        guard.release().await.unwrap();
        // It stands in the queue still, is granted, and nobody wants it.
        soon("it is free", third.mutex("m").acquire()).await.unwrap().release().await.unwrap();
    }
    until("nothing is left", || database.seen("m").is_empty()).await;
}

#[tokio::test]
async fn a_wait_survives_the_end_of_its_session() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    let session = holder(&database, "m");
    let mutex = other.mutex("m");
    let waits = tokio::spawn(async move { mutex.acquire().await });
    for _ in 0..2 {
        until("it waits", || database.seen("m").len() == 2).await;
        let waiting = database.seen("m").into_iter().find(|seen| seen.session != session).unwrap().session;
        database.kill(waiting);
    }
    until("it waits again", || database.seen("m").len() == 2).await;
    guard.release().await.unwrap();
    soon("it is had", waits).await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_wait_at_a_database_that_is_frozen_begins_anew() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks_of(&database, quick(options())));
    let guard = one.mutex("m").acquire().await.unwrap();
    let session = holder(&database, "m");
    let mutex = other.mutex("m");
    let waits = tokio::spawn(async move { mutex.acquire().await });
    until("it waits", || database.seen("m").len() == 2).await;
    let waiting = database.seen("m").into_iter().find(|seen| seen.session != session).unwrap().session;
    database.mute(waiting);
    until("another session waits", || {
        database.seen("m").iter().any(|seen| seen.session != session && seen.session != waiting)
    })
    .await;
    guard.release().await.unwrap();
    soon("it is had", waits).await.unwrap().unwrap().release().await.unwrap();
}

/// The lock is granted, and the database freezes before it gives the token.
#[tokio::test]
async fn a_wait_that_is_granted_and_gets_no_token_begins_anew() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks_of(&database, quick(options())));
    // The sequence is there.
    other.mutex("warm").fenced().unwrap().acquire().await.unwrap().release().await.unwrap();
    let guard = one.mutex("m").acquire().await.unwrap();
    let mutex = other.mutex("m").fenced().unwrap();
    let waits = tokio::spawn(async move { mutex.acquire().await });
    until("it waits", || database.seen("m").iter().any(|seen| seen.asked.is_some())).await;
    database.mute_at(".NEXTVAL");
    guard.release().await.unwrap();
    // The session that is muted has the lock until it is ended over another one.
    let guard = soon("it is had", waits).await.unwrap().unwrap();
    assert!(guard.token() > 0);
    assert_eq!(database.holders("m").len(), 1);
    guard.release().await.unwrap();
    until("nothing is held", || database.locks.seen().is_empty()).await;
}

#[tokio::test]
async fn naming_a_lock_is_done_once_in_a_session_and_never_in_a_transaction() {
    let database = Database::start();
    let locks = locks(&database);
    for _ in 0..10 {
        locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    }
    let named = database.log().iter().filter(|run| run.text.contains("ALLOCATE_UNIQUE")).count();
    assert!((1..=2).contains(&named), "{named} times");
    let requested = database.log().iter().filter(|run| run.text.contains("DBMS_LOCK.REQUEST")).count();
    assert!(requested >= 10, "{requested}");
}

#[tokio::test]
async fn a_thousand_locks_are_held_in_one_session() {
    let database = Database::start();
    let locks = locks(&database);
    let mut guards = Vec::new();
    for nth in 0..1000 {
        guards.push(locks.mutex(format!("m-{nth}")).try_acquire().await.unwrap().expect("it is free"));
    }
    assert!(database.sessions() <= 2, "{}", database.sessions());
    guards.into_iter().for_each(drop);
    until("all are given back", || database.locks.seen().is_empty()).await;
    let releases = database.log().iter().filter(|run| run.text.contains("DBMS_LOCK.RELEASE")).count();
    println!("{releases} blocks released 1000 locks");
}
