//! Acquires that are dropped at any moment.

use std::time::Duration;

use pilotman_core::Locks;
use tokio::task::JoinSet;

use crate::common::{locks, locks_of, options, soon, until};
use crate::fake::Database;

const NAMES: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dropped_acquires_leave_nothing() {
    let database = Database::start();
    let (one, other) = (locks_of(&database, options().application_name("dropped")), locks(&database));
    let mut takers = JoinSet::new();
    for nth in 0..NAMES {
        takers.spawn(take_turns(other.clone(), nth));
    }
    let (mut granted, mut given_up) = (0, 0);
    for round in 0..10 {
        let attempts = (0..100).map(|nth| tokio::spawn(dropped(one.clone(), round * 100 + nth)));
        for attempt in attempts.collect::<Vec<_>>() {
            *if attempt.await.unwrap() { &mut granted } else { &mut given_up } += 1;
        }
    }
    takers.shutdown().await;
    println!("{granted} were granted, {given_up} were given up");
    assert!(given_up > 0, "all {granted} were granted");
    until("nothing is held or waited for", || database.locks.seen().is_empty()).await;
    for nth in 0..NAMES {
        let guard = soon("it is free", other.mutex(name(nth)).acquire()).await.unwrap();
        guard.release().await.unwrap();
    }
    soon("it closes", one.close()).await;
    soon("it closes", other.close()).await;
    until("no session is left", || database.sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_reads_writes_and_upgrades_leave_nothing() {
    let database = Database::start();
    let locks = locks(&database);
    for nth in 0..120u64 {
        let lock = locks.rw_lock("shared");
        let moment = Duration::from_micros(nth * 618_034 % 1_000_000 / 20);
        let work = async {
            match nth % 3 {
                0 => drop(lock.read().await.unwrap()),
                1 => drop(lock.write().await.unwrap()),
                _ => {
                    let mut guard = lock.upgradeable_read().await.unwrap();
                    guard.upgrade().await.unwrap();
                }
            }
        };
        // Whether it came to its end is all the same.
        let _ = tokio::time::timeout(moment, work).await;
    }
    until("nothing is held or waited for", || database.locks.seen().is_empty()).await;
    soon("it closes", locks.close()).await;
}

fn name(nth: u64) -> String {
    format!("dropped-{}", nth % NAMES)
}

/// An acquire that is dropped after a time that differs, or whose guard is dropped at once. Whether there was one.
async fn dropped(locks: Locks, nth: u64) -> bool {
    let mutex = locks.mutex(name(nth));
    // Multiples of the golden ratio lie evenly everywhere.
    let moment = Duration::from_micros(nth * 618_034 % 1_000_000 / 25);
    let attempt = async { mutex.acquire().await.map(drop).unwrap() };
    tokio::time::timeout(moment, attempt).await.is_ok()
}

/// Somebody else, so that there are waits and they end.
async fn take_turns(locks: Locks, nth: u64) {
    loop {
        let guard = locks.mutex(name(nth)).acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(guard);
    }
}
