//! `lost()` comes before another can acquire.

use std::time::{Duration, Instant};

use pilotman_core::{HoldState, LossReason};
use pilotman_redis::Redlock;
use pilotman_testkit::proxy::Flow;
use pilotman_testkit::servers::redis::Replicated;

use crate::common::{LONG, among, at, eventually, ms, waiter, within};
use crate::faults::{LEASE, LONGEST, Rival};
use crate::history::History;
use crate::quorum::{Quorum, of};

/// The holder is cut off from all nodes, as if it were stopped, while others wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_hangs_is_told_before_another_has_it() {
    const LEASE: Duration = Duration::from_secs(1);
    let quorum = Quorum::entered(3).await;
    for _ in 0..3 {
        let ways = quorum.ways();
        let (hung, others) = (ways.ready().await, quorum.ready().await);
        let history = History::default();
        let guard = hung.mutex("m").lease(LEASE).acquire().await.unwrap();
        let believer = history.acquired("who hangs", &guard);
        let next = waiter(&others.mutex("m"));
        assert!(believer.for_a(LEASE * 2).await);
        for way in &ways.0 {
            way.requests(Flow::Hold);
        }
        let believing = tokio::spawn(async move { believer.for_a(LONG).await });
        let reason = within("it is told by its own clock", LEASE * 2, guard.lost()).await;
        assert_eq!(reason, LossReason::Expired);
        let next = within("the next one", LEASE * 2, next).await.unwrap().unwrap();
        history.acquired("the next one", &next).believes();
        assert!(!believing.await.unwrap());
        history.check();
    }
}

/// All nodes hang for longer than the lease, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stop_and_go_on_are_no_reason_to_believe() {
    const LEASE: Duration = Duration::from_secs(1);
    let mut quorum = Quorum::entered(3).await;
    let (locks, others) = (quorum.ready().await, quorum.ready().await);
    let history = History::default();
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let believer = history.acquired("the holder", &guard);
    let next = waiter(&others.mutex("m").lease(LEASE));
    tokio::time::sleep(ms(300)).await;
    quorum.0.iter_mut().for_each(|node| node.freeze().unwrap());
    let start = Instant::now();
    assert!(!believer.for_a(LEASE * 3).await, "it is over by its own clock");
    assert!(start.elapsed() <= LEASE + ms(300), "{:?}", start.elapsed());
    quorum.0.iter_mut().for_each(|node| node.thaw().unwrap());
    let next = within("the next one", LONG, next).await.unwrap().unwrap();
    history.acquired("the next one", &next).believes();
    let start = Instant::now();
    while start.elapsed() < LEASE {
        assert_eq!(guard.state(), HoldState::Lost);
        tokio::time::sleep(ms(10)).await;
    }
    history.check();
}

/// With all three nodes, one of them may forget everything: nobody loses anything by it.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_forgets_costs_a_full_holder_nothing() {
    let mut quorum = Quorum::with_clocks(3).await;
    let (locks, rival) = (quorum.ready().await, quorum.ready().await);
    let history = History::default();
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let believer = history.acquired("the holder", &guard);
    quorum.held_on("m", 3).await;
    eventually("renewed, so that all three count", LONG, || guard.renewals() >= 1).await;
    let rivals = [
        Rival::start("a rival", &history, move || rival.clone()),
        Rival::start("a new rival", &history, {
            let redlock = quorum.redlock();
            move || of(redlock.clone())
        }),
    ];
    quorum.0[0].restart().unwrap();
    let renewed_twice = || {
        let before = guard.renewals();
        let guard = &guard;
        eventually("renewed", LONG, move || guard.renewals() >= before + 2)
    };
    renewed_twice().await;
    assert!(believer.believes());
    quorum.0[1].cli(&["FLUSHALL"]).unwrap();
    renewed_twice().await;
    assert!(believer.believes());
    quorum.0[2].step_clock(120).unwrap();
    renewed_twice().await;
    assert!(believer.believes());
    for rival in rivals {
        rival.stop().await;
    }
    assert_eq!(history.len(), 1, "nobody else has had it");
    guard.ensure_held().unwrap();
}

/// A majority forgets at once: the holder is told by its next renewal, and others have to wait until all leases are over.
#[tokio::test(flavor = "multi_thread")]
async fn a_majority_restarted_empty_is_told_before_another_has_it() {
    let mut quorum = Quorum::start(3);
    let redlock = quorum.redlock().longest_lease(LONGEST);
    quorum.enter_as(redlock.clone()).await;
    let (locks, known) = (of(redlock.clone()), of(redlock.clone()));
    known.check().await.unwrap();
    let history = History::default();
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let believer = history.acquired("the holder", &guard);
    quorum.held_on("m", 3).await;
    let believing = tokio::spawn(async move { believer.for_a(LONG).await });
    for nth in [0, 1] {
        quorum.0[nth].restart().unwrap();
    }
    let rivals = [
        Rival::start("who knew the nodes", &history, move || known.clone()),
        Rival::start("a new one", &history, move || of(redlock.clone())),
    ];
    within("the holder is told", LEASE + ms(500), guard.lost()).await;
    eventually("somebody has it in the end", LONGEST + LEASE + ms(5000), || history.len() > 1).await;
    for rival in rivals {
        rival.stop().await;
    }
    assert!(!believing.await.unwrap());
    history.check();
}

/// One vote is a primary and its replica, which has heard of nothing when it takes over.
#[tokio::test(flavor = "multi_thread")]
async fn promotion_of_an_empty_replica_lets_no_rival_in() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let quorum = Quorum::start(2);
    let ways = quorum.ways();
    let set_ports = [set.primary.port(), set.replicas[0].port()];
    let redlock = |ports: Vec<u16>| {
        Redlock::new(ports.into_iter().map(at).chain([among(&set_ports)])).name("test").longest_lease(LONGEST)
    };
    quorum.enter_as(redlock(quorum.ports())).await;
    let known = of(redlock(quorum.ports()));
    known.check().await.unwrap();
    let locks = of(redlock(ways.0.iter().map(pilotman_testkit::proxy::Proxy::port).collect()));
    locks.check().await.unwrap();
    // From here on the replica hears of nothing.
    set.wait_synced().unwrap();
    set.replicas[0].cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    ways.cut(1);
    let history = History::default();
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let believer = history.acquired("the holder", &guard);
    let believing = tokio::spawn(async move { believer.for_a(LONG).await });
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    let new = redlock(quorum.ports());
    let rivals = [
        Rival::start("who knew the nodes", &history, move || known.clone()),
        Rival::start("a new one", &history, move || of(new.clone())),
    ];
    within("the holder is told", LEASE + ms(500), guard.lost()).await;
    eventually("somebody has it in the end", LONGEST + LEASE + ms(5000), || history.len() > 1).await;
    for rival in rivals {
        rival.stop().await;
    }
    assert!(!believing.await.unwrap());
    history.check();
}
