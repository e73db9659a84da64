//! Three servers: the leader is lost, a member is cut off from it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pilotman_core::{HoldState, Locks, LossReason, Release};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::is_skipped;
use pilotman_testkit::servers::zookeeper::{Ensemble, Mode};
use pilotman_zookeeper::ZooKeeper;

use crate::common::{LONG, eventually, granted, locks_of, ms, options, waiter};

fn of(ensemble: &Ensemble, session: Duration) -> Locks {
    locks_of(ZooKeeper::hosts(ensemble.addresses()).unwrap().session_timeout(session).connect_timeout(ms(60_000)))
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_waits_outlive_the_leader() {
    if is_skipped("zookeeper") {
        return;
    }
    let mut ensemble = Ensemble::start().unwrap();
    let session = Duration::from_secs(30);
    let (ours, others, third) = (of(&ensemble, session), of(&ensemble, session), of(&ensemble, session));
    let mutex = ours.mutex("m").acquire().await.unwrap();
    let write = ours.rw_lock("rw").write().await.unwrap();
    let permit = ours.semaphore("s", 1).acquire().await.unwrap();
    let tokens: Vec<u64> = [&mutex, &write, &permit].iter().map(|guard| guard.token().unwrap()).collect();
    let waits = [waiter(&others.mutex("m")), waiter(others.rw_lock("rw").writer()), waiter(&others.semaphore("s", 1))];
    for round in 0..2 {
        let leader = ensemble.leader().unwrap();
        ensemble.members[leader].kill().unwrap();
        ensemble.leader().unwrap();
        for guard in [&mutex, &write, &permit] {
            eventually("the hold is safe again", || async { guard.state() != HoldState::AtRisk }).await;
            assert_eq!(guard.state(), HoldState::Held, "{} in round {round}", guard.name());
        }
        let (again, _) = granted(waiter(&third.mutex(format!("new-{round}")))).await;
        again.release().await.unwrap();
        assert!(third.mutex("m").try_acquire().await.unwrap().is_none());
        assert!(waits.iter().all(|wait| !wait.is_finished()), "nobody else was let in");
        ensemble.members[leader].restart().unwrap();
    }
    for guard in [mutex, write, permit] {
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    for (wait, token) in waits.into_iter().zip(tokens) {
        let (guard, _) = granted(wait).await;
        assert!(guard.token().unwrap() > token, "tokens go on over elections");
        guard.release().await.unwrap();
    }
}

/// A follower that is cut off from its leader answers reads and pings until it notices, which here takes twenty seconds. The
/// session ends at the leader meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_at_a_member_that_is_cut_off_is_told_lost_before_others_hold() {
    if is_skipped("zookeeper") {
        return;
    }
    let mut proxies: HashMap<(usize, usize), Proxy> = HashMap::new();
    let ensemble = Ensemble::start_with(|own, other, port| {
        let proxy = Proxy::before(port).unwrap();
        let port = proxy.port();
        proxies.insert((own, other), proxy);
        port
    })
    .unwrap();
    let leader = ensemble.leader().unwrap();
    let follower = (0..3).find(|&member| ensemble.members[member].mode() == Some(Mode::Follower)).unwrap();
    let session = Duration::from_secs(8);
    let ours = locks_of(options(ensemble.members[follower].port()).session_timeout(session));
    let others = of(&ensemble, Duration::from_secs(30));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let lost = guard.lost();
    let told = tokio::spawn(async move { (lost.await, Instant::now()) });
    let next = waiter(&others.mutex("m"));
    tokio::time::sleep(session / 2).await;
    assert!(!next.is_finished() && guard.ensure_held().is_ok());
    let link = &proxies[&(follower, leader)];
    link.requests(Flow::Hold);
    link.replies(Flow::Hold);
    let (reason, told) = tokio::time::timeout(LONG, told).await.unwrap().unwrap();
    assert_eq!(reason, LossReason::Expired);
    let (next, got) = granted(next).await;
    assert!(told <= got, "told {:?} too late", told - got);
    next.ensure_held().unwrap();
    link.pass().unwrap();
    drop(guard);
    next.release().await.unwrap();
}
