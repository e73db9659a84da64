//! One node that hangs costs nothing: not an acquire, not a release, not a renewal, not a hand-off.

use std::time::{Duration, Instant};

use pilotman_core::{HoldState, Release};
use pilotman_testkit::proxy::{Flow, Proxy};

use crate::common::{LONG, eventually, granted, ms, waiter, within};
use crate::quorum::{Quorum, SOON, queued, redlock};

/// The best of several: what hangs would cost each of them a second or more, a busy machine only some.
async fn best<F: Future<Output = Duration>>(times: usize, mut work: impl FnMut() -> F) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..times {
        best = best.min(work().await);
    }
    best
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_node_costs_no_acquire_and_no_release() {
    for count in [3, 5] {
        let mut quorum = Quorum::entered(count).await;
        let locks = quorum.ready().await;
        let held = locks.mutex("held").acquire().await.unwrap();
        // It did not wait for the node that is about to hang, nor for all the others.
        quorum.held_on("held", count).await;
        quorum.0[1].freeze().unwrap();
        let mut total = Duration::ZERO;
        for nth in 0..10 {
            let start = Instant::now();
            let guard = locks.mutex(format!("m{nth}")).try_acquire().await.unwrap().expect("it is free");
            assert!(start.elapsed() < SOON, "an acquire took {:?}", start.elapsed());
            let start_of_release = Instant::now();
            assert_eq!(guard.release().await.unwrap(), Release::Released);
            assert!(start_of_release.elapsed() < SOON, "a release took {:?}", start_of_release.elapsed());
            total += start.elapsed();
        }
        println!("{count} nodes, one of them hung: {:?} for an acquire and a release", total / 10);
        let start = Instant::now();
        assert_eq!(held.release().await.unwrap(), Release::Released);
        assert!(start.elapsed() < SOON, "a release of what the node had took {:?}", start.elapsed());
        quorum.0[1].thaw().unwrap();
        quorum.nothing_left(ms(10_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_node_costs_a_new_client_nothing() {
    let mut quorum = Quorum::entered(3).await;
    quorum.0[2].freeze().unwrap();
    let took = best(3, || async {
        let start = Instant::now();
        let guard = quorum.locks().mutex("m").acquire().await.unwrap();
        guard.release().await.unwrap();
        start.elapsed()
    })
    .await;
    assert!(took < SOON, "{took:?}");
}

/// With all but a quorum hung.
#[tokio::test(flavor = "multi_thread")]
async fn hung_nodes_cost_no_hand_off() {
    let mut quorum = Quorum::entered(5).await;
    let (first, second) = (quorum.ready().await, quorum.ready().await);
    for nth in [0, 3] {
        quorum.0[nth].freeze().unwrap();
    }
    for _ in 0..5 {
        let guard = first.mutex("m").acquire().await.unwrap();
        let next = waiter(&second.mutex("m"));
        for nth in [1, 2, 4] {
            queued(&quorum.0[nth], "m", 1).await;
        }
        let start = Instant::now();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        let next = granted("it is handed on", ms(2000), next).await;
        assert!(start.elapsed() < SOON, "a hand-off took {:?}", start.elapsed());
        assert_eq!(next.release().await.unwrap(), Release::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hung_node_costs_no_renewal() {
    const LEASE: Duration = Duration::from_millis(900);
    let mut quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guards = hold(&locks, LEASE, 50).await;
    eventually("all are renewed", LONG, || guards.iter().all(|guard| guard.renewals() >= 1)).await;
    quorum.0[0].freeze().unwrap();
    let start = Instant::now();
    while start.elapsed() < LEASE * 4 {
        for guard in &guards {
            guard.ensure_held().unwrap();
        }
        tokio::time::sleep(ms(5)).await;
    }
    assert!(guards.iter().all(|guard| guard.state() == HoldState::Held));
    assert!(guards.iter().all(|guard| guard.renewals() >= 6), "{}", guards[0].renewals());
}

/// The acquire does not wait for all nodes, but those that grant it a moment later have granted it.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_hangs_right_after_the_acquire_costs_no_hold() {
    const LEASE: Duration = Duration::from_millis(1500);
    for nth in 0..3 {
        let mut quorum = Quorum::entered(3).await;
        let locks = quorum.ready().await;
        let guards = hold(&locks, LEASE, 10).await;
        for at in 0..10 {
            quorum.held_on(&format!("m{at}"), 3).await;
        }
        assert!(guards.iter().all(|guard| guard.renewals() == 0), "too slow to tell anything");
        quorum.0[nth].freeze().unwrap();
        tokio::time::sleep(LEASE * 2).await;
        let lost = guards.iter().filter(|guard| guard.ensure_held().is_err()).count();
        assert_eq!(lost, 0, "holds of 10 lost with node {nth} hung, though two of three have them");
    }
}

async fn hold(locks: &pilotman_core::Locks, lease: Duration, count: usize) -> Vec<pilotman_core::Guard> {
    let mut guards = Vec::new();
    for nth in 0..count {
        guards.push(locks.mutex(format!("m{nth}")).lease(lease).acquire().await.unwrap());
    }
    guards
}

/// Its answers come, but late.
#[tokio::test(flavor = "multi_thread")]
async fn one_slow_node_costs_nothing_and_what_it_grants_late_is_given_back() {
    let quorum = Quorum::entered(3).await;
    let slow = Proxy::before(quorum.0[2].port()).unwrap();
    let ports = quorum.ports();
    let nodes = [ports[0], ports[1], slow.port()];
    let locks = crate::quorum::of(redlock(nodes.map(crate::common::at)));
    locks.check().await.unwrap();
    slow.delay(ms(400), ms(400));
    let start = Instant::now();
    let guard = locks.mutex("m").try_acquire().await.unwrap().expect("it is free");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    slow.delay(Duration::ZERO, Duration::ZERO);
    // What is on its way to it arrives in this order: the acquire, the release.
    within("nothing stays there", ms(5000), async {
        tokio::time::sleep(ms(900)).await;
        quorum.nothing_left(ms(3000)).await;
    })
    .await;
    slow.requests(Flow::Pass);
}
