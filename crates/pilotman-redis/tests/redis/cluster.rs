//! A cluster whose slots move while their locks are held and waited for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pilotman_core::{Guard, Locks, Release};
use pilotman_redis::RedisNode;
use pilotman_testkit::servers::redis::{Cluster, Reply};

use crate::common::{LONG, eventually, granted, locks, ms, waiter};

const COUNT: usize = 100;
const LEASE: Duration = Duration::from_secs(10);

fn locks_of(cluster: &Cluster) -> Locks {
    locks(RedisNode::cluster(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()))).unwrap())
}

fn keys(cluster: &Cluster) -> Vec<String> {
    let all = cluster.nodes.iter().map(|node| node.cli(&["KEYS", "*"]).unwrap());
    let all: Vec<String> =
        all.flat_map(|reply| reply.items().iter().map(Reply::to_string).collect::<Vec<_>>()).collect();
    all.into_iter().filter(|key| !key.starts_with("pilotman:token:")).collect()
}

async fn nothing_left(cluster: &Cluster) {
    let start = Instant::now();
    while !keys(cluster).is_empty() {
        assert!(start.elapsed() < ms(5000), "left behind: {:?}", keys(cluster));
        tokio::time::sleep(ms(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resharding_loses_none_of_100_locks_and_serves_their_100_waiters() {
    let cluster = Cluster::start(&[]).unwrap();
    let (ours, others) = (locks_of(&cluster), locks_of(&cluster));
    let names: Vec<String> = (0..COUNT).map(|nth| format!("m{nth}")).collect();
    let mutexes: Vec<_> = names.iter().map(|name| ours.mutex(name).lease(LEASE)).collect();
    let held: Vec<Guard> =
        join_all(mutexes.iter().map(|mutex| mutex.acquire())).await.into_iter().map(Result::unwrap).collect();
    let mut waits: Vec<_> = names.iter().map(|name| waiter(&others.mutex(name).lease(LEASE))).collect();
    let queues = || keys(&cluster).iter().filter(|key| key.contains("queue:mutex:")).count();
    eventually("all wait", LONG, || queues() == COUNT).await;

    let slots: BTreeSet<u16> = names.iter().map(|name| cluster.slot(name).unwrap()).collect();
    let start = Instant::now();
    let cluster = tokio::task::spawn_blocking(move || {
        for slot in &slots {
            let from = cluster.owner(*slot).unwrap();
            cluster.reshard(*slot..slot + 1, from, (from + 1) % 3).unwrap();
        }
        println!("{} slots moved in {:?}", slots.len(), start.elapsed());
        cluster
    })
    .await
    .unwrap();
    // Each hold is renewed at its new place.
    let until = Instant::now() + LEASE;
    while Instant::now() < until {
        let lost: Vec<_> = held.iter().filter(|guard| guard.ensure_held().is_err()).map(Guard::name).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        if let Some(ended) = waits.iter_mut().find(|wait| wait.is_finished()) {
            panic!("a wait for a lock that is held has ended: {:?}", ended.await);
        }
        tokio::time::sleep(ms(100)).await;
    }
    let start = Instant::now();
    for guard in held {
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    let mut slowest = Duration::ZERO;
    let mut served = Vec::new();
    for wait in waits {
        served.push(granted("every waiter is served", LONG, wait).await);
        slowest = start.elapsed();
    }
    println!("all waiters served within {slowest:?}");
    assert!(slowest < ms(10_000), "{slowest:?}");
    for guard in served {
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    nothing_left(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lock_works_in_the_middle_of_its_move_and_pushes_follow_it() {
    let cluster = Cluster::start(&[]).unwrap();
    let (ours, others) = (locks_of(&cluster), locks_of(&cluster));
    let slot = cluster.slot("m").unwrap();
    let from = cluster.owner(slot).unwrap();
    let to = (from + 1) % 3;
    let guard = ours.mutex("m").lease(ms(4000)).acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    eventually("it waits", LONG, || keys(&cluster).iter().any(|key| key.contains("queue:mutex:"))).await;
    cluster.begin_move(slot, from, to).unwrap();
    tokio::time::sleep(ms(1500)).await;
    guard.ensure_held().unwrap();
    cluster.finish_move(slot, from, to).unwrap();
    // A refresh and a renewal at the new place.
    tokio::time::sleep(ms(3000)).await;
    guard.ensure_held().unwrap();
    assert!(!next.is_finished());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let guard = granted("served at the new place", ms(2000), next).await;
    // From here on by push again: nobody refreshes as often as this.
    let mut fastest = Duration::MAX;
    let mut guard = guard;
    for turn in 0..4 {
        let locks = if turn % 2 == 0 { &ours } else { &others };
        let next = waiter(&locks.mutex("m"));
        tokio::time::sleep(ms(300)).await;
        let start = Instant::now();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        guard = granted("handed on", ms(2000), next).await;
        fastest = fastest.min(start.elapsed());
    }
    assert!(fastest < ms(250), "pushes don't follow the slot: the fastest of four hand-offs took {fastest:?}");
    drop(guard);
    nothing_left(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holds_and_waiters_go_on_over_a_failover_of_their_shard() {
    let mut cluster = Cluster::start(&[]).unwrap();
    let of = cluster.owner(cluster.slot("m").unwrap()).unwrap();
    let replica = cluster.add_replica(of).unwrap();
    let (ours, others) = (locks_of(&cluster), locks_of(&cluster));
    let guard = ours.mutex("m").lease(LEASE).acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    eventually("it waits", LONG, || keys(&cluster).iter().any(|key| key.contains("queue:mutex:"))).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.failover(replica).unwrap();
        cluster
    })
    .await
    .unwrap();
    tokio::time::sleep(LEASE).await;
    guard.ensure_held().unwrap();
    assert!(!next.is_finished());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = granted("handed on after the failover", ms(3000), next).await;
    // Word that came over the replica, where nobody counts who hears it, is no grant.
    let third = locks_of(&cluster);
    assert!(third.mutex("m").try_acquire().await.unwrap().is_none(), "two holders");
    next.ensure_held().unwrap();
    assert_eq!(next.release().await.unwrap(), Release::Released);
    nothing_left(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hangs_costs_no_holds_on_the_others() {
    // With full coverage required, the others would refuse everything once they notice.
    let mut cluster = Cluster::start(&["--cluster-require-full-coverage", "no"]).unwrap();
    let ours = locks_of(&cluster);
    let lease = Duration::from_secs(6);
    let names: Vec<String> = (0..60).map(|nth| format!("hung{nth}")).collect();
    let mutexes: Vec<_> = names.iter().map(|name| ours.mutex(name).lease(lease)).collect();
    let held: Vec<Guard> =
        join_all(mutexes.iter().map(|mutex| mutex.acquire())).await.into_iter().map(Result::unwrap).collect();
    let on = |node: usize, name: &str| cluster.owner(cluster.slot(name).unwrap()).unwrap() == node;
    let hung: BTreeSet<&String> = names.iter().filter(|name| on(0, name)).collect();
    assert!(!hung.is_empty() && hung.len() < names.len());
    let hung: BTreeSet<String> = hung.into_iter().cloned().collect();
    cluster.nodes[0].freeze().unwrap();
    tokio::time::sleep(lease + ms(1000)).await;
    let lost: BTreeSet<String> =
        held.iter().filter(|guard| guard.ensure_held().is_err()).map(|guard| guard.name().to_owned()).collect();
    cluster.nodes[0].thaw().unwrap();
    assert_eq!(lost, hung, "those on the other nodes go on");
}
