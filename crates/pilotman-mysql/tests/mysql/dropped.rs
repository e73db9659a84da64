//! Acquires that are dropped at any moment.

use std::time::Duration;

use pilotman_core::Locks;
use tokio::task::JoinSet;

use crate::common::{Person, locks_of, mariadb, mysql, options, soon, unique, until};

const NAMES: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dropped_acquires_leave_nothing() {
    for (_server, port) in [mariadb(), mysql()] {
        let (application, base) = (unique("dropped"), unique("dropped"));
        let locks = locks_of(options(port).application_name(&application));
        let other = locks_of(options(port));
        let mut admin = Person::admin(port).await;
        let mut takers = JoinSet::new();
        for nth in 0..NAMES {
            takers.spawn(take_turns(other.clone(), format!("{base}-{nth}")));
        }
        let (mut granted, mut given_up) = (0, 0);
        for round in 0..10 {
            let attempts = (0..100).map(|nth| tokio::spawn(dropped(locks.clone(), base.clone(), round * 100 + nth)));
            for attempt in attempts.collect::<Vec<_>>() {
                *if attempt.await.unwrap() { &mut granted } else { &mut given_up } += 1;
            }
        }
        takers.shutdown().await;
        println!("{granted} were granted, {given_up} were given up");
        assert!(given_up > 0, "all {granted} were granted");
        let sql = format!(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE='USER LEVEL LOCK' \
             AND OBJECT_NAME LIKE '{base}%'"
        );
        let start = std::time::Instant::now();
        while admin.number(&sql).await > 0 {
            assert!(start.elapsed() < crate::common::LONG, "a lock is left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for nth in 0..NAMES {
            let guard = soon("it is free", other.mutex(format!("{base}-{nth}")).acquire()).await.unwrap();
            guard.release().await.unwrap();
        }
        soon("it closes", locks.close()).await;
        soon("it closes", other.close()).await;
        until("no connection is left", || async { Person::admin(port).await.sessions_of(&application).await == 0 })
            .await;
    }
}

/// An acquire that is dropped after a time that differs, or whose guard is dropped at once. Whether there was one.
async fn dropped(locks: Locks, base: String, nth: u64) -> bool {
    let mutex = locks.mutex(format!("{base}-{}", nth % NAMES));
    // Multiples of the golden ratio lie evenly everywhere.
    let moment = Duration::from_micros(nth * 618_034 % 1_000_000 / 25);
    let attempt = async { mutex.acquire().await.map(drop).unwrap() };
    tokio::time::timeout(moment, attempt).await.is_ok()
}

/// Somebody else, so that there are waits and they end.
async fn take_turns(locks: Locks, name: String) {
    loop {
        let guard = locks.mutex(&name).acquire().await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(guard);
    }
}
