//! The database ends, freezes and forgets.

use std::time::Duration;

use pilotman_core::LossReason;
use tokio::task::JoinSet;

use crate::common::{holder, locks, locks_of, options, quick, soon, until};
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

/// A name that the database has forgotten, though its lock is held in a session that knows its handle: the hold is told to be lost when
/// the name is refreshed, and until then others can have a lock of that name. The refresh comes twice a day, ten days are needed.
#[tokio::test]
async fn a_forgotten_name_has_another_lock() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    database.locks.forget("m");
    let fresh = locks(&database);
    assert!(fresh.mutex("m").try_acquire().await.unwrap().is_some(), "this is why names are refreshed");
    guard.release().await.unwrap();
}
