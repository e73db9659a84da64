//! Reader-writer locks: what order there is although waits stand in the queue for a second at a time only.

use std::time::Duration;

use crate::common::{locks, soon, until};
use crate::fake::Database;

/// As the .NET library's `TestWriterTrumpsReader`: while it stands in the queue, a writer keeps new readers out. Between two slices it
/// doesn't, for a moment, so that one of several readers may come in.
#[tokio::test]
async fn a_waiting_writer_keeps_new_readers_out_but_for_moments() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let physical = one.physical_name("x", pilotman_core::Primitive::Write).unwrap();
    let reader = one.rw_lock("x").read().await.unwrap();
    let lock = one.rw_lock("x");
    let writer = tokio::spawn(async move { lock.write().await });
    until("it waits", || database.seen(&physical).len() == 2).await;
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(other.rw_lock("x").try_read().await.unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{refused} of 20 readers were kept out");
    assert!(refused >= 10, "{refused} of 20 readers were kept out");
    assert!(!writer.is_finished());
    reader.release().await.unwrap();
    soon("the writer comes in", writer).await.unwrap().unwrap().release().await.unwrap();
}

/// Readers who hold shortly, and come again and again, don't starve a writer.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_comes_in_among_many_readers() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let readers: Vec<_> = (0..6)
        .map(|nth| {
            let lock = if nth % 2 == 0 { &one } else { &other }.rw_lock("x");
            tokio::spawn(async move {
                loop {
                    let guard = lock.read().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    guard.release().await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..3 {
        soon("the writer comes in", other.rw_lock("x").write()).await.unwrap().release().await.unwrap();
    }
    for reader in readers {
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled(), "readers never fail");
    }
}

/// Two readers of one process are two sessions: the database gives a lock to a session once.
#[tokio::test]
async fn each_reader_and_each_upgradeable_read_has_a_session() {
    let database = Database::start();
    let locks = locks(&database);
    let physical = locks.physical_name("x", pilotman_core::Primitive::Write).unwrap();
    let readers = [locks.rw_lock("x").read().await.unwrap(), locks.rw_lock("x").read().await.unwrap()];
    let upgradeable = locks.rw_lock("x").upgradeable_read().await.unwrap();
    let mutex = locks.mutex("m").acquire().await.unwrap();
    let mut sessions = database.holders(&physical);
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
    // A mutex stands beside a reader, not beside what may be upgraded.
    let modes = database.seen(&physical);
    let alone = modes.iter().find(|seen| seen.held == Some(5)).unwrap().session;
    assert!(!database.holders("m").contains(&alone));
    drop((readers, upgradeable, mutex));
    until("all are given back", || database.locks.seen().is_empty()).await;
}

#[tokio::test]
async fn an_upgrade_waits_in_slices_and_can_be_dropped() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let physical = one.physical_name("x", pilotman_core::Primitive::Write).unwrap();
    let reader = other.rw_lock("x").read().await.unwrap();
    let mut upgradeable = one.rw_lock("x").upgradeable_read().await.unwrap();
    // It is given up in the middle of a slice, and the hold is what it was.
    let limited = tokio::time::timeout(Duration::from_millis(200), upgradeable.upgrade()).await;
    assert!(limited.is_err(), "a reader is there");
    until("it has left the queue", || database.seen(&physical).iter().all(|seen| seen.asked.is_none())).await;
    let third = soon("a reader comes in", other.rw_lock("x").read()).await.unwrap();
    third.release().await.unwrap();
    reader.release().await.unwrap();
    soon("it is upgraded", upgradeable.upgrade()).await.unwrap();
    assert!(database.seen(&physical).iter().any(|seen| seen.held == Some(6)));
    drop(upgradeable);
    until("it is given back", || database.locks.seen().is_empty()).await;
}
