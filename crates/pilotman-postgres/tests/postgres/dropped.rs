//! Acquires that are dropped at any moment.

use std::time::Duration;

use pilotman_core::Locks;
use pilotman_postgres::Scope;
use tokio::task::JoinSet;

use crate::common::{LONG, Server, count, eventually, locked, locks, ms, unique, within};

const NAMES: u64 = 8;

async fn leave_nothing(scope: Scope) {
    let (server, name) = (Server::get(), unique("dropped"));
    let admin = server.admin().await;
    let other_name = format!("{name}-other");
    let (locks, other) =
        (locks(server.options(&name).scope(scope)), crate::common::locks(server.options(&other_name).scope(scope)));
    let mut takers = JoinSet::new();
    for nth in 0..NAMES {
        takers.spawn(take_turns(other.clone(), format!("{name}-{nth}")));
    }
    let (mut granted, mut given_up) = (0, 0);
    for round in 0..10 {
        let attempts = (0..100).map(|nth| tokio::spawn(dropped(locks.clone(), name.clone(), round * 100 + nth)));
        for attempt in attempts.collect::<Vec<_>>() {
            *if attempt.await.unwrap() { &mut granted } else { &mut given_up } += 1;
        }
    }
    takers.shutdown().await;
    println!("{granted} were granted, {given_up} were given up");
    assert!(given_up > 0, "all {granted} were granted");
    for name in [&name, &other_name] {
        eventually("no lock is left", || async { locked(&admin, name).await == 0 }).await;
    }
    for nth in 0..NAMES {
        let name = format!("{name}-{nth}");
        let free = [
            within("it is free", LONG, other.mutex(&name).acquire()).await.unwrap(),
            within("it is free", LONG, other.rw_lock(&name).write()).await.unwrap(),
            within("it is free", LONG, other.semaphore(&name, 2).acquire()).await.unwrap(),
            within("it is free", LONG, other.semaphore(&name, 2).acquire()).await.unwrap(),
        ];
        for guard in free {
            guard.release().await.unwrap();
        }
    }
    for (locks, name) in [(locks, name), (other, other_name)] {
        within("it closes", LONG, locks.close()).await;
        eventually("no connection is left", || async { count(&admin, &name).await == 0 }).await;
    }
}

/// An acquire that is dropped after a time that differs, or whose guard is dropped at once. Whether there was one.
async fn dropped(locks: Locks, name: String, nth: u64) -> bool {
    let name = format!("{name}-{}", nth % NAMES);
    // Multiples of the golden ratio lie evenly everywhere.
    let moment = Duration::from_micros(nth * 618_034 % 1_000_000 / 25);
    let attempt = async {
        match nth / NAMES % 4 {
            0 => locks.rw_lock(&name).read().await,
            1 => locks.rw_lock(&name).write().await,
            2 => locks.semaphore(&name, 2).acquire().await,
            _ => locks.mutex(&name).acquire().await,
        }
        .map(drop)
        .unwrap();
    };
    tokio::time::timeout(moment, attempt).await.is_ok()
}

/// Somebody else, so that there are waits and they end.
async fn take_turns(locks: Locks, name: String) {
    loop {
        let guards = (
            locks.mutex(&name).acquire().await.unwrap(),
            locks.rw_lock(&name).write().await.unwrap(),
            locks.semaphore(&name, 2).acquire().await.unwrap(),
        );
        tokio::time::sleep(ms(2)).await;
        drop(guards);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dropped_acquires_leave_nothing() {
    leave_nothing(Scope::Session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dropped_acquires_leave_nothing_in_transactions() {
    leave_nothing(Scope::Transaction).await;
}
