//! Leases are renewed as long as their guard lives, and nothing else is.

use std::time::{Duration, Instant};

use pilotman_core::{HoldState, LossReason, Release};
use pilotman_redis::{RedisBackend, Redlock};
use pilotman_testkit::servers::redis::{Node, Replicated, Reply};

use crate::common::{LONG, at, believes, eventually, get, granted, ms, waiter, within};
use crate::history::History;
use crate::quorum::{Quorum, SOON, of, queued, scripts_run};

const LEASE: Duration = Duration::from_millis(1200);

/// RedLock.net #97: a lock that was got only at a second attempt was never extended.
#[tokio::test(flavor = "multi_thread")]
async fn retry_then_renew() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    // The first round finds no quorum: two nodes belong to somebody else for a while.
    for node in &quorum.0[..2] {
        node.cli(&["SET", "m", "somebody else", "PX", "400"]).unwrap();
    }
    let start = Instant::now();
    let guard = within("it is free after a while", LONG, locks.mutex("m").lease(LEASE).acquire()).await.unwrap();
    assert!(start.elapsed() > ms(300), "{:?}", start.elapsed());
    tokio::time::sleep(LEASE * 2).await;
    assert!(guard.renewals() >= 3, "{}", guard.renewals());
    guard.ensure_held().unwrap();
    // And by tries.
    for node in &quorum.0[1..] {
        node.cli(&["SET", "tried", "somebody else", "PX", "400"]).unwrap();
    }
    let tried = locks.mutex("tried").lease(LEASE).retry(ms(20));
    assert!(tried.try_acquire().await.unwrap().is_none());
    let start = Instant::now();
    let guard = loop {
        if let Some(guard) = tried.try_acquire().await.unwrap() {
            break guard;
        }
        assert!(start.elapsed() < LONG);
        tokio::time::sleep(ms(20)).await;
    };
    tokio::time::sleep(LEASE * 2).await;
    assert!(guard.renewals() >= 3, "{}", guard.renewals());
    guard.ensure_held().unwrap();
}

/// RedLock.net #48: whose lock was taken by another, who has given it back since, must not find it his again.
#[tokio::test(flavor = "multi_thread")]
async fn extension_never_resurrects_after_another_holder() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (hung, others) = (ways.ready().await, quorum.ready().await);
    let guard = hung.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for way in &ways.0 {
        way.requests(pilotman_testkit::proxy::Flow::Hold);
    }
    let next = within("the lease ends", LEASE * 3, others.mutex("m").lease(LEASE).acquire()).await.unwrap();
    assert_eq!(guard.state(), HoldState::Lost);
    assert!(next.token() > guard.token());
    assert_eq!(next.release().await.unwrap(), Release::Released);
    quorum.held_on("m", 0).await;
    // What was held up arrives now, and with it the renewals.
    for way in &ways.0 {
        way.pass().unwrap();
    }
    let start = Instant::now();
    while start.elapsed() < LEASE * 2 {
        assert_eq!(quorum.holding("m"), 0, "it was made anew");
        assert_eq!(guard.state(), HoldState::Lost);
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired));
}

/// The same where the keys are gone and no other holder was there: what is gone is gone.
#[tokio::test(flavor = "multi_thread")]
async fn extension_makes_nothing_anew() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &quorum.0[..2] {
        assert_eq!(node.cli(&["DEL", "m"]).unwrap(), Reply::Integer(1));
    }
    assert_eq!(within("the next renewal tells", LEASE, guard.lost()).await, LossReason::Gone);
    // The third node is given back; the others stay free.
    eventually("nothing is left", LONG, || quorum.holding("m") == 0).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(quorum.holding("m"), 0);
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
}

/// One node of three that has lost a hold is filled up again.
#[tokio::test(flavor = "multi_thread")]
async fn one_lost_vote_is_made_good() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(LEASE * 3).acquire().await.unwrap();
    for node in &quorum.0 {
        quorum.held_on("m", 3).await;
        // What was taken after the quorum counts only after a renewal together with one.
        let before = guard.renewals();
        eventually("renewed", LONG, || guard.renewals() >= before + 2).await;
        guard.ensure_held().unwrap();
        assert_eq!(node.cli(&["DEL", "m"]).unwrap(), Reply::Integer(1));
    }
    quorum.held_on("m", 3).await;
    guard.ensure_held().unwrap();
    assert_eq!(guard.state(), HoldState::Held);
}

/// The same right after the acquire, which had not waited for the third node.
#[tokio::test(flavor = "multi_thread")]
async fn one_vote_lost_before_the_first_renewal_is_made_good() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    for nth in 0..3 {
        let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
        quorum.held_on("m", 3).await;
        assert_eq!(quorum.0[nth].cli(&["DEL", "m"]).unwrap(), Reply::Integer(1));
        eventually("renewed, or lost", LONG, || guard.renewals() >= 1 || guard.state() == HoldState::Lost).await;
        assert_eq!(guard.state(), HoldState::Held, "lost with node {nth}, though two of three have it");
        quorum.held_on("m", 3).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        quorum.nothing_left(ms(2000)).await;
    }
}

fn refuse_memory(node: &Node, bytes: &str) {
    node.cli(&["CONFIG", "SET", "maxmemory", bytes]).unwrap();
}

/// rslock: an extension that failed for a moment released the lock everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn transient_oom_in_renew_does_not_release() {
    let quorum = Quorum::entered(3).await;
    let (locks, other) = (quorum.ready().await, quorum.ready().await);
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    quorum.0[..2].iter().for_each(|node| refuse_memory(node, "1"));
    let start = Instant::now();
    while start.elapsed() < LEASE * 2 {
        guard.ensure_held().unwrap();
        assert!(quorum.holding("m") >= 2);
        tokio::time::sleep(ms(20)).await;
    }
    quorum.0[..2].iter().for_each(|node| refuse_memory(node, "0"));
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    tokio::time::sleep(LEASE).await;
    assert_eq!(guard.state(), HoldState::Held);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

/// Two of three nodes take no writes for a moment, as a primary that became a replica.
#[tokio::test(flavor = "multi_thread")]
async fn transient_readonly_in_renew_does_not_release() {
    const LEASE: Duration = Duration::from_secs(6);
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &quorum.0[..2] {
        // Of nobody, so that it keeps what it has.
        node.cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    }
    eventually("a renewal is refused", LEASE, || guard.state() == HoldState::AtRisk).await;
    assert_eq!(quorum.holding("m"), 3, "nothing is given back");
    for node in &quorum.0[..2] {
        node.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
    }
    eventually("a renewal succeeds", LEASE, || guard.state() == HoldState::Held).await;
    assert!(guard.renewals() >= 1);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

/// Below any constant within.
#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_lease_is_kept_and_handed_on() {
    let quorum = Quorum::entered(3).await;
    let (ours, others) = (quorum.ready().await, quorum.ready().await);
    let lock = |locks: &pilotman_core::Locks| locks.mutex("tiny").lease(RedisBackend::SHORTEST_LEASE);
    let history = History::default();
    // On a busy machine such a lease may really end; then that was told before anybody else had it, and we try again.
    let mut ended = 0;
    loop {
        let guard = granted("ours", LONG, waiter(&lock(&ours))).await;
        let believer = history.acquired("ours", &guard);
        let next = waiter(&lock(&others));
        let kept = believer.for_a(ms(1000)).await;
        let renewals = guard.renewals();
        let released = guard.release().await;
        let next = granted("the waiter gets it", ms(5000), next).await;
        history.acquired("the waiter", &next).believes();
        drop(next);
        if kept && matches!(released, Ok(Release::Released)) {
            assert!(renewals >= 10, "{renewals}");
            break;
        }
        ended += 1;
        assert!(ended < 25, "a lease of 100 ms was never kept for a second");
    }
    history.check();
    println!("leases of 100 ms that ended before one was kept for a second: {ended}");
    quorum.nothing_left(ms(3000)).await;
}

/// Many holds go in few scripts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_holds_are_renewed_in_batches() {
    const HOLDS: usize = 10_000;
    const LEASE: Duration = Duration::from_secs(30);
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let mut guards = Vec::with_capacity(HOLDS);
    let start = Instant::now();
    for chunk in 0..HOLDS / 100 {
        let tries: Vec<_> = (0..100)
            .map(|nth| {
                let mutex = locks.mutex(format!("m{}", chunk * 100 + nth)).lease(LEASE);
                tokio::spawn(async move { mutex.acquire().await.unwrap() })
            })
            .collect();
        for one in tries {
            guards.push(one.await.unwrap());
        }
    }
    println!("{HOLDS} locks acquired in {:?}", start.elapsed());
    assert!(start.elapsed() < LEASE, "{:?}", start.elapsed());
    // All have been renewed once, and the next time is far.
    let renewed = |times: u64| guards.iter().all(|guard| guard.renewals() >= times);
    eventually("all are renewed", LONG, || renewed(1)).await;
    let before: Vec<_> = quorum.0.iter().map(scripts_run).collect();
    let rounds = guards.iter().map(pilotman_core::Guard::renewals).sum::<u64>();
    eventually("all are renewed again", LONG, || renewed(2)).await;
    let after: Vec<_> = quorum.0.iter().map(scripts_run).collect();
    let rounds = guards.iter().map(pilotman_core::Guard::renewals).sum::<u64>() - rounds;
    assert!(guards.iter().all(|guard| guard.state() == HoldState::Held));
    let most = rounds / 100 + 60;
    for (before, after) in before.iter().zip(&after) {
        println!("{} scripts for {rounds} renewals", after - before);
        assert!(after - before <= most, "{} scripts for {rounds} renewals", after - before);
    }
    let start = Instant::now();
    drop(guards);
    locks.close().await;
    println!("given back and closed in {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_guard_stops_renewal() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    tokio::time::sleep(LEASE).await;
    assert!(guard.renewals() >= 1);
    drop(guard);
    quorum.nothing_left(ms(1000)).await;
    let before: Vec<_> = quorum.0.iter().map(scripts_run).collect();
    tokio::time::sleep(LEASE).await;
    let after: Vec<_> = quorum.0.iter().map(scripts_run).collect();
    assert_eq!(before, after, "nothing is renewed any more");
}

/// The process is stopped and goes on when its time is over: it must not think that it still has the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_comes_late_extends_nothing() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &quorum.0 {
        node.cli(&["SET", "m", "somebody else", "PX", "60000"]).unwrap();
    }
    assert_eq!(within("the next renewal tells", LEASE, guard.lost()).await, LossReason::Gone);
    assert!(!believes(&guard.held()));
    tokio::time::sleep(LEASE).await;
    for node in &quorum.0 {
        assert_eq!(get(node, "m").as_deref(), Some("somebody else"));
        let left = node.cli(&["PTTL", "m"]).unwrap().integer().unwrap();
        assert!((50_000..=60_000).contains(&left), "{left}");
    }
}

/// One of the three votes is a set whose primary fails; the holder is renewed by the others, and on the new primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_is_taken_in_again() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let quorum = Quorum::start(2);
    let among = crate::common::among(&[set.primary.port(), set.replicas[0].port()]);
    let nodes = || quorum.ports().into_iter().map(at).chain([among.clone()]);
    let locks = of(Redlock::new(nodes()).name("test"));
    locks.check().await.unwrap();
    let guard = locks.mutex("m").lease(ms(3000)).acquire().await.unwrap();
    quorum.held_on("m", 2).await;
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    // The new primary may have the lock by replication, or it is filled up.
    eventually("the new primary has it", LONG, || get(&set.primary, "m").is_some()).await;
    guard.ensure_held().unwrap();
    let before = guard.renewals();
    eventually("it is renewed", LONG, || guard.renewals() > before + 1).await;
    let other = of(Redlock::new(nodes()).name("test"));
    let next = waiter(&other.mutex("m"));
    queued(&quorum.0[0], "m", 1).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("it is handed on", SOON * 10, next).await);
}
