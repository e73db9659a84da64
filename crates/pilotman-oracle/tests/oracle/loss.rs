//! How soon a loss is told. The page has the times that these print (`--no-capture`).

use std::time::{Duration, Instant};

use pilotman_core::{Guard, LossReason, Release};
use pilotman_testkit::timing::mostly_within;

use crate::common::{holder, locks, locks_of, options, quick, soon, until};
use crate::fake::Database;

const SECOND: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long it took to be told since `start`.
async fn told(guard: &Guard, start: Instant) -> Duration {
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    start.elapsed()
}

#[tokio::test]
async fn a_killed_session_is_told_within_a_second() {
    let database = Database::start();
    let locks = locks(&database);
    let mut times = Vec::new();
    for _ in 0..5 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        let start = Instant::now();
        database.kill(holder(&database, "m"));
        times.push(told(&guard, start).await);
        assert!(matches!(guard.release().await, Ok(Release::AlreadyLost(_))));
    }
    mostly_within("a killed session", SECOND, &times);
}

#[tokio::test]
async fn a_connection_that_is_closed_is_told_within_a_second() {
    let database = Database::start();
    let locks = locks(&database);
    let mut times = Vec::new();
    for _ in 0..5 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        let start = Instant::now();
        database.cut(holder(&database, "m"));
        times.push(told(&guard, start).await);
    }
    mostly_within("a connection that is closed", SECOND, &times);
}

#[tokio::test]
async fn a_database_that_is_frozen_is_told_within_two_heartbeats() {
    let database = Database::start();
    let locks = locks_of(&database, quick(options()));
    let mut times = Vec::new();
    for _ in 0..3 {
        let guard = soon("it is free", locks.mutex("m").acquire()).await.unwrap();
        let start = Instant::now();
        database.freeze();
        times.push(told(&guard, start).await);
        database.thaw();
        until("it is given back", || database.holders("m").is_empty()).await;
    }
    mostly_within("a frozen database, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}

#[tokio::test]
async fn a_network_without_answers_is_told_within_two_heartbeats() {
    let database = Database::start();
    let locks = locks_of(&database, quick(options()));
    let mut times = Vec::new();
    for nth in 0..3 {
        let name = format!("cut-{nth}");
        let guard = soon("it is free", locks.mutex(&name).acquire()).await.unwrap();
        let session = holder(&database, &name);
        let start = Instant::now();
        database.mute(session);
        times.push(told(&guard, start).await);
        // The database knows nothing of that: another session tells it.
        until("the session is ended over another one", || database.holders(&name).is_empty()).await;
    }
    mostly_within("a network that is cut, with a heartbeat of 2 s", HEARTBEAT * 2, &times);
}

#[tokio::test]
async fn a_lost_upgradeable_read_is_told_while_it_is_upgraded() {
    let database = Database::start();
    let locks = locks(&database);
    let reader = locks.rw_lock("x").read().await.unwrap();
    let mut upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
    let physical = locks.physical_name("x", pilotman_core::Primitive::Write).unwrap();
    let upgrade = tokio::spawn(async move { upgradeable.upgrade().await });
    until("it waits", || database.seen(&physical).iter().any(|seen| seen.asked.is_some())).await;
    let session = database.seen(&physical).iter().find(|seen| seen.asked.is_some()).unwrap().session;
    database.kill(session);
    let error = soon("it is told", upgrade).await.unwrap().unwrap_err();
    println!("{error}");
    assert!(!error.has_no_effect() || error.loss().is_some(), "{error}");
    drop(reader);
    soon("it is free", locks.rw_lock("x").write()).await.unwrap().release().await.unwrap();
}
