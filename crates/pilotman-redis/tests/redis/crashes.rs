//! Leases: kept while their holder lives, free soon after it died, and never extended for somebody else.

use std::time::{Duration, Instant};

use pilotman_core::{HoldState, LossReason, Release};
use pilotman_redis::RedisBackend;
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{believes, get, granted, locks_at, ms, nothing_left, queued, waiter, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_lease_is_kept_and_handed_on() {
    let node = Node::start(&[]).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(node.port()));
    let lock = |locks: &pilotman_core::Locks| locks.mutex("tiny").lease(RedisBackend::SHORTEST_LEASE);
    // On a busy machine such a lease may really end; then that was told before anybody else had it, and we try again.
    let mut ended = 0;
    loop {
        let guard = lock(&ours).acquire().await.unwrap();
        let next = waiter(&lock(&others));
        queued(&node, "tiny", 1).await;
        let start = Instant::now();
        while guard.ensure_held().is_ok() && start.elapsed() < ms(2000) {
            let handed_on = next.is_finished();
            assert!(!(handed_on && believes(&guard.held())), "two holders");
            tokio::time::sleep(ms(1)).await;
        }
        let released = guard.release().await;
        let next = granted("the waiter gets it", ms(5000), next).await;
        if matches!(released, Ok(Release::Released)) && start.elapsed() >= ms(2000) {
            drop(next);
            break;
        }
        drop(next);
        ended += 1;
        assert!(ended < 25, "a lease of 100 ms was never kept for 2 s");
    }
    println!("leases of 100 ms that ended before one was kept for 2 s: {ended}");
    nothing_left(&node, ms(3000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_is_followed_within_its_lease_among_100_000_expiring_keys() {
    const LEASE: Duration = Duration::from_secs(2);
    let node = Node::start(&[]).unwrap();
    let noise = "for i = 1, 100000 do redis.call('SET', 'noise:' .. i, i, 'PX', 3600000 + i) end";
    node.cli(&["EVAL", noise, "0"]).unwrap();
    assert!(node.cli(&["DBSIZE"]).unwrap().integer().unwrap() >= 100_000);
    let proxy = Proxy::before(node.port()).unwrap();
    let (dying, others) = (locks_at(proxy.port()), locks_at(node.port()));
    let held = [
        dying.mutex("m").lease(LEASE).acquire().await.unwrap(),
        dying.rw_lock("rw").lease(LEASE).read().await.unwrap(),
        dying.semaphore("s", 1).lease(LEASE).acquire().await.unwrap(),
    ];
    let waits = [waiter(&others.mutex("m")), waiter(others.rw_lock("rw").writer()), waiter(&others.semaphore("s", 1))];
    queued(&node, "m", 1).await;
    tokio::time::sleep(LEASE).await;
    proxy.requests(Flow::Drop);
    let died = Instant::now();
    for (guard, next) in held.iter().zip(waits) {
        let limit = (LEASE + ms(1000)).saturating_sub(died.elapsed());
        let next = granted("the waiter follows the dead", limit, next).await;
        assert!(!believes(&guard.held()), "{} has two holders", guard.name());
        assert_eq!(guard.ensure_held().unwrap_err().loss(), Some(&LossReason::Expired));
        next.ensure_held().unwrap();
    }
    println!("all followed {:?} after the death", died.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_not_extended_for_another_holder() {
    const LEASE: Duration = Duration::from_millis(1500);
    let node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let gone = locks.mutex("gone").lease(LEASE).acquire().await.unwrap();
    node.cli(&["DEL", "m", "gone"]).unwrap();
    node.cli(&["SET", "m", "somebody else", "NX", "PX", "60000"]).unwrap();
    for guard in [&guard, &gone] {
        assert_eq!(within("the loss is told by the next renewal", LEASE, guard.lost()).await, LossReason::Gone);
        assert_eq!(guard.state(), HoldState::Lost);
    }
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
    assert_eq!(gone.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
    tokio::time::sleep(LEASE).await;
    assert_eq!(get(&node, "m").as_deref(), Some("somebody else"));
    let left = node.cli(&["PTTL", "m"]).unwrap().integer().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert_eq!(node.cli(&["EXISTS", "gone"]).unwrap(), Reply::Integer(0), "nothing is made anew");
    // Released late, a hold takes nothing from its successor.
    let guard = locks.mutex("late").acquire().await.unwrap();
    node.cli(&["SET", "late", "somebody else", "PX", "60000"]).unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
    assert_eq!(get(&node, "late").as_deref(), Some("somebody else"));
}
