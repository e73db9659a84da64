//! The database ends, freezes and forgets.

use std::time::Duration;

use pilotman_core::clock::ManualClock;
use pilotman_core::{Locks, LossReason};
use pilotman_oracle::SessionOptions;
use tokio::task::JoinSet;

use crate::common::{backend_of, holder, locks, locks_of, options, quick, soon, until};
use crate::fake::Database;

#[tokio::test]
async fn all_holds_of_a_session_end_together() {
    let database = Database::start();
    let locks = locks(&database);
    let mut guards = Vec::new();
    for nth in 0..5 {
        guards.push(locks.mutex(format!("m-{nth}")).acquire().await.unwrap());
    }
    database.kill(holder(&database, "m-0"));
    for guard in guards {
        assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    }
    // The next one is had in a session that is opened for it.
    soon("it is free", locks.mutex("m-0").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_killed_under_load_break_no_exclusion() {
    let database = Database::start();
    let clients = [locks(&database), locks(&database), locks(&database)];
    let mut workers = JoinSet::new();
    for (nth, client) in clients.iter().enumerate() {
        let locks = client.clone();
        workers.spawn(async move {
            let mut had = 0;
            for round in 0..40 {
                let name = format!("m-{}", (nth + round) % 2);
                // A session may be killed in the middle: then it says so, or the guard does.
                if let Ok(guard) = locks.mutex(name).acquire().await {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    had += u32::from(guard.release().await.is_ok());
                }
            }
            had
        });
    }
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(seen) = database.locks.seen().first() {
            database.kill(seen.session);
        }
    }
    while let Some(had) = workers.join_next().await {
        assert!(had.unwrap() > 0);
    }
    until("nothing is held", || database.locks.seen().is_empty()).await;
    for client in clients {
        soon("it closes", client.close()).await;
    }
}

#[tokio::test]
async fn a_frozen_database_hangs_neither_release_nor_close() {
    let database = Database::start();
    let locks = locks_of(&database, quick(options()));
    let (held, dropped) = (locks.mutex("a").acquire().await.unwrap(), locks.mutex("b").acquire().await.unwrap());
    database.freeze();
    let start = std::time::Instant::now();
    // What became of it is not known here.
    let _ = soon("it returns", held.release()).await;
    drop(dropped);
    soon("it closes", locks.close()).await;
    println!("released and closed in {:?}", start.elapsed());
    database.thaw();
    until("nothing is held", || database.locks.seen().is_empty()).await;
}

/// Why names are refreshed: without it, the lock of a name that is held for long would become another one.
#[tokio::test]
async fn a_forgotten_name_has_another_lock() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    database.locks.forget("m");
    let fresh = locks(&database);
    assert!(fresh.mutex("m").try_acquire().await.unwrap().is_some());
    guard.release().await.unwrap();
}

/// The database may forget a name after ten days; twice a day it is told that a held one is in use.
#[tokio::test]
async fn a_held_name_is_refreshed_and_one_that_was_forgotten_is_a_loss() {
    let database = Database::start();
    let clock = ManualClock::new();
    // Whatever is under way when the clock is set forward has not taken too long by that.
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_secs(1_000_000);
    let backend = backend_of(&database, options().sessions(sessions));
    let locks = Locks::builder(backend).clock(clock.clone()).build();
    let guard = locks.mutex("m").acquire().await.unwrap();
    let refreshed = || {
        let log = database.log();
        log.iter().filter(|run| run.text.contains("ALLOCATE_UNIQUE") && !run.text.contains("REQUEST")).count()
    };
    clock.advance(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(refreshed(), 0, "it was allocated an hour ago");
    clock.advance(Duration::from_secs(12 * 3600));
    until("it is refreshed", || refreshed() == 1).await;
    guard.ensure_held().unwrap();
    database.locks.forget("m");
    clock.advance(Duration::from_secs(13 * 3600));
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
}
