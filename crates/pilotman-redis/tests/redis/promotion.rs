//! A primary and its replicas without anybody who decides: what a promotion leaves, and sets without a primary.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, Release};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::redis::{Node, Replicated, Reply};

use crate::common::{
    LONG, among, assert_says, at, believes, eventually, get, granted, keys, locks, locks_at, ms, queued, waiter,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lock_and_queue_on_a_promoted_server_are_gone_within_one_lease() {
    const LEASE: Duration = Duration::from_secs(3);
    let mut set = Replicated::start(1, &[]).unwrap();
    // These know the first primary only, and so are dead for the second one.
    let (holding, waiting) = (locks_at(set.primary.port()), locks_at(set.primary.port()));
    let held = [
        holding.mutex("m").lease(LEASE).acquire().await.unwrap(),
        holding.rw_lock("rw").lease(LEASE).read().await.unwrap(),
    ];
    let dead = [waiter(&waiting.mutex("m").lease(LEASE)), waiter(waiting.rw_lock("rw").lease(LEASE).writer())];
    queued(&set.replicas[0], "m", 1).await;
    let locks = locks(among(&[set.primary.port(), set.replicas[0].port()]));
    locks.check().await.unwrap();
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    let promoted = Instant::now();
    assert!(keys(&set.primary).len() >= 2, "nothing stale to get rid of: {:?}", keys(&set.primary));
    let next = [waiter(&locks.mutex("m")), waiter(locks.rw_lock("rw").writer())];
    for (next, held) in next.into_iter().zip(&held) {
        let limit = (LEASE + ms(1000)).saturating_sub(promoted.elapsed());
        let next = granted("a stale lock and a dead waiter keep nobody", limit, next).await;
        assert!(!believes(&held.held()), "{} has two holders", held.name());
        next.ensure_held().unwrap();
    }
    dead.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_a_primary_is_an_error_at_once_and_works_after_a_promotion() {
    let mut set = Replicated::start(2, &[]).unwrap();
    let ports = [set.primary.port(), set.replicas[0].port(), set.replicas[1].port()];
    let (used, unused) = (locks(among(&ports)), locks(among(&ports)));
    let guard = used.mutex("m").lease(ms(9000)).acquire().await.unwrap();
    eventually("the replicas have it", LONG, || get(&set.replicas[1], "m").is_some()).await;
    set.primary.kill().unwrap();
    for locks in [&used, &unused, &used] {
        let start = Instant::now();
        let error = locks.mutex("other").try_acquire().await.unwrap_err();
        assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
        assert_says(&error, ErrorKind::Unavailable, &["primary", "a replica", "promote"]);
        assert!(error.is_retryable());
    }
    set.promote(1).unwrap();
    for locks in [&used, &unused] {
        let other = locks.mutex("other").try_acquire().await.unwrap().expect("it is free");
        assert_eq!(other.release().await.unwrap(), Release::Released);
    }
    eventually("the hold goes on at the new primary", ms(9000), || {
        guard.state() == HoldState::Held && guard.remaining().unwrap() > ms(8000)
    })
    .await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(set.primary.cli(&["EXISTS", "m"]).unwrap(), Reply::Integer(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_primaries_are_refused() {
    let (one, other) = (Node::start(&[]).unwrap(), Node::start(&[]).unwrap());
    let start = Instant::now();
    let error = locks(among(&[one.port(), other.port()])).mutex("m").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["both", &one.port().to_string(), &other.port().to_string()]);
    assert!(start.elapsed() < ms(2000));
    assert_eq!([keys(&one), keys(&other)], [vec![""; 0], vec![""; 0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_demoted_under_us_is_left() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let ports = [set.primary.port(), set.replicas[0].port()];
    let (ours, others) = (locks(among(&ports)), locks(among(&ports)));
    let guard = ours.mutex("m").lease(ms(3000)).acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&set.replicas[0], "m", 1).await;
    // Both run and nobody is cut off.
    let new = set.replicas[0].port().to_string();
    set.promote(0).unwrap();
    set.replicas[0].cli(&["REPLICAOF", "127.0.0.1", &new]).unwrap();
    tokio::time::sleep(ms(6000)).await;
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("handed on at the new primary", ms(2000), next).await);
}

/// A set whose replica copies through a proxy, so that it can be made to lag.
async fn lagging() -> (Replicated, Proxy) {
    let set = Replicated::start(1, &[]).unwrap();
    let proxy = Proxy::before(set.primary.port()).unwrap();
    set.replicas[0].cli(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]).unwrap();
    eventually("the replica copies through the proxy", LONG, || {
        proxy.open_connections() == 1 && set.replicas[0].info("master_link_status").is_ok_and(|link| link == "up")
    })
    .await;
    (set, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_has_does_not_count_where_that_was_asked_for() {
    let (set, proxy) = lagging().await;
    let locks = locks(at(set.primary.port()).wait_replicas(1, ms(300)));
    let guard = locks.mutex("held").lease(ms(3000)).acquire().await.unwrap();
    assert_eq!(get(&set.replicas[0], "held"), get(&set.primary, "held"), "the replica has it");
    proxy.replies(Flow::Hold);
    let start = Instant::now();
    let error = locks.mutex("wanted").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["0 of 1 replicas"]);
    assert!(start.elapsed() < ms(2000), "{:?}", start.elapsed());
    eventually("it was given back", ms(2000), || get(&set.primary, "wanted").is_none()).await;
    eventually("a renewal is not confirmed", ms(3000), || guard.state() == HoldState::AtRisk).await;
    proxy.replies(Flow::Pass);
    eventually("a renewal is confirmed", ms(3000), || guard.state() == HoldState::Held).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_confirmation_a_promotion_of_a_lagging_replica_gives_locks_twice_and_that_is_told() {
    const COUNT: usize = 100;
    const LEASE: Duration = Duration::from_secs(3);
    let (mut set, proxy) = lagging().await;
    let ports = [set.primary.port(), set.replicas[0].port()];
    let (ours, others) = (locks(among(&ports)), locks(among(&ports)));
    proxy.replies(Flow::Hold);
    let mut held = Vec::new();
    for nth in 0..COUNT {
        held.push(ours.mutex(format!("m{nth}")).lease(LEASE).acquire().await.unwrap());
    }
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    let mut overlaps = 0;
    let mut taken = Vec::new();
    for guard in &held {
        let limit = LEASE + ms(2000);
        taken.push(others.mutex(guard.name()).acquire_timeout(limit).await.unwrap());
        overlaps += usize::from(believes(&guard.held()));
    }
    println!("a lagging replica promoted, no WAIT: overlaps: {overlaps} of {COUNT}");
    eventually("every holder is told within its lease", LEASE + ms(500), || {
        held.iter().all(|guard| guard.state() == HoldState::Lost)
    })
    .await;
    assert!(taken.iter().all(|guard| believes(&guard.held())));
}
