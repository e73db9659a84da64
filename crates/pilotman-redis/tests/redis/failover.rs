//! A failover through Sentinel with many locks held, and somebody who tries to get them all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::{Guard, Held, Locks, Release};
use pilotman_redis::RedisNode;
use pilotman_testkit::servers::redis::{SERVICE, Sentinels};

use crate::common::{LONG, believes, eventually, locks, ms, within};

const COUNT: usize = 100;
/// How many of the takers' tasks share the names.
const TAKERS: usize = 10;
/// Longer than a failover takes, and shorter.
const LEASES: [Duration; 2] = [Duration::from_secs(8), Duration::from_millis(1200)];

fn node(set: &Sentinels, confirmed: bool) -> RedisNode {
    let hosts = set.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
    let node = RedisNode::sentinel(hosts, SERVICE).unwrap();
    if confirmed { node.wait_replicas(1, ms(500)) } else { node }
}

/// Tries these locks until told to stop. Returns what it got, and how many holders believed in theirs at that moment.
async fn take(locks: Locks, lease: Duration, held: Vec<Held>, stop: Arc<AtomicBool>) -> (Vec<Guard>, usize) {
    let (mut taken, mut overlaps) = (Vec::new(), 0);
    let mut left = held;
    while !stop.load(Ordering::Relaxed) {
        let mut still = Vec::new();
        for held in left {
            match locks.mutex(held.name()).lease(lease).try_acquire().await {
                Ok(Some(guard)) => {
                    if believes(&held) {
                        overlaps += 1;
                    }
                    taken.push(guard);
                }
                Ok(None) => still.push(held),
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    tokio::time::sleep(ms(5)).await;
                    still.push(held);
                }
            }
        }
        left = still;
        tokio::time::sleep(ms(1)).await;
    }
    (taken, overlaps)
}

struct Found {
    kept: usize,
    taken: usize,
    overlaps: usize,
}

async fn fail_over(confirmed: bool, lease: Duration) -> Found {
    let mut set = Sentinels::start(&[]).unwrap();
    let ours = locks(node(&set, confirmed));
    let names: Vec<_> = (0..COUNT).map(|nth| ours.mutex(format!("m{nth}")).lease(lease)).collect();
    let held: Vec<Guard> =
        join_all(names.iter().map(|mutex| mutex.acquire())).await.into_iter().map(Result::unwrap).collect();
    let others = locks(node(&set, confirmed));
    others.check().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let takers: Vec<_> = held
        .chunks(COUNT / TAKERS)
        .map(|held| tokio::spawn(take(others.clone(), lease, held.iter().map(Guard::held).collect(), stop.clone())))
        .collect();
    tokio::time::sleep(ms(500)).await;
    let old = set.primary_port().unwrap();
    set.primary().unwrap().kill().unwrap();
    set.wait_failed_over(old).unwrap();
    let new = set.primary_port().unwrap();
    let back = set.nodes.iter_mut().find(|node| node.port() == old).unwrap();
    back.restart().unwrap();
    // The sentinels would do that, too, but later; till then nothing could be confirmed.
    back.cli(&["REPLICAOF", "127.0.0.1", &new.to_string()]).unwrap();
    tokio::time::sleep(lease * 2).await;
    let kept = held.iter().filter(|guard| believes(&guard.held())).count();
    stop.store(true, Ordering::Relaxed);
    let mut found = Found { kept, taken: 0, overlaps: 0 };
    for taker in takers {
        let (taken, overlaps) = within("the takers end", LONG, taker).await.unwrap();
        found.taken += taken.len();
        found.overlaps += overlaps;
        drop(taken);
    }
    for guard in held {
        let kept = believes(&guard.held());
        let released = within("a release ends", LONG, guard.release()).await.unwrap();
        assert_eq!(kept, released == Release::Released, "{released:?}");
    }
    // Whatever became of them, all are to be had afterwards.
    let fresh = locks(node(&set, confirmed));
    let all = names.iter().map(|mutex| mutex.name().to_owned());
    let all: Vec<_> = all.map(|name| fresh.mutex(name).lease(lease)).collect();
    let all = within("all are to be had", LONG, join_all(all.iter().map(|mutex| mutex.acquire()))).await;
    assert!(all.iter().all(Result::is_ok));
    drop(all);
    let primary = set.primary().unwrap();
    eventually("nothing is left", LONG, || crate::common::keys(primary).is_empty()).await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_with_100_confirmed_locks_has_no_overlap() {
    for lease in LEASES {
        let Found { kept, taken, overlaps } = fail_over(true, lease).await;
        println!("failover with WAIT 1, lease {lease:?}: kept {kept}, taken {taken}, overlaps: {overlaps} of {COUNT}");
        assert_eq!(overlaps, 0);
        assert!(kept + taken <= COUNT, "{kept} kept and {taken} taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_with_100_unconfirmed_locks_ends_and_its_overlaps_are_counted() {
    for lease in LEASES {
        let Found { kept, taken, overlaps } = fail_over(false, lease).await;
        println!("failover without WAIT, lease {lease:?}: kept {kept}, taken {taken}, overlaps: {overlaps} of {COUNT}");
    }
}
