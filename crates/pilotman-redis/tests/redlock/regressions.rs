//! What went wrong once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState};
use pilotman_redis::RedisNode;
use pilotman_testkit::servers::redis::{Cluster, Node, Reply};

use crate::common::{LONG, assert_says, at, eventually, ms, within};
use crate::quorum::{Quorum, of, redlock, start};

/// A clock that always was slow is not one that was set, whichever nodes a client knows: it must not be taken for the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_clock_sets_nobody_aside() {
    let nodes = Quorum(start(3, |_| Node::start_with_clock(&[]).unwrap()));
    nodes.0[0].step_clock(-2).unwrap();
    let quorum = nodes.enter().await;
    let known = quorum.ready().await;
    for _ in 0..3 {
        let ways = quorum.ways();
        ways.cut(2);
        let partial = ways.locks();
        for locks in [&quorum.ready().await, &partial, &known] {
            let guard = within("it is free", LONG, locks.mutex("m").acquire()).await.unwrap();
            guard.release().await.unwrap();
        }
    }
}

/// Under load with a node down, what was to be given back there kept renewals out.
#[tokio::test(flavor = "multi_thread")]
async fn load_with_a_node_down_loses_no_hold() {
    const LEASE: Duration = Duration::from_millis(3000);
    let mut quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    quorum.0[2].kill().unwrap();
    let held = locks.mutex("held").lease(LEASE).acquire().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (locks, stop) = (locks.clone(), stop.clone());
            tokio::spawn(async move {
                let mut pairs = 0;
                while !stop.load(Ordering::Relaxed) {
                    let guard = locks.mutex(format!("m{task}")).acquire().await.unwrap();
                    guard.release().await.unwrap();
                    pairs += 1;
                }
                pairs
            })
        })
        .collect();
    let start = Instant::now();
    while start.elapsed() < LEASE * 3 {
        assert_ne!(held.state(), HoldState::Lost, "after {:?}", start.elapsed());
        tokio::time::sleep(ms(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(within("it ends", LONG, task).await.unwrap() > 0);
    }
    assert!(held.renewals() > 3, "{}", held.renewals());
}

/// One program without the quarantine must not end it for the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_quarantine_ends_it_for_nobody_else() {
    let mut quorum = Quorum::entered(3).await;
    for node in &mut quorum.0[..2] {
        node.restart().unwrap();
    }
    let error = quorum.locks().mutex("m").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["no say"]);
    let careless = of(quorum.redlock().quarantine(false));
    let guard = careless.mutex("m").try_acquire().await.unwrap().expect("it goes by no quarantine");
    guard.release().await.unwrap();
    let error = quorum.locks().mutex("m").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["no say"]);
}

/// A node that was emptied is entered and filled up again also where nothing is acquired any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_node_is_filled_up_by_renewals() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(ms(1500)).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in [2, 1, 0] {
        let before = guard.renewals();
        eventually("it counts everywhere", LONG, || guard.renewals() >= before + 2).await;
        quorum.0[node].cli(&["FLUSHALL"]).unwrap();
        quorum.held_on("m", 3).await;
        assert_ne!(guard.state(), HoldState::Lost);
    }
}

/// The clocks of a cluster's nodes are not known; those that are known must be enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_and_one_of_two_servers_are_a_quorum() {
    let cluster = Cluster::start(&[]).unwrap();
    let url = cluster.url();
    let hosts = url.trim_start_matches("redis-cluster://").split(['/', '?']).next().unwrap_or_default();
    let mut quorum = Quorum::start(2);
    let nodes = |quorum: &Quorum| {
        let cluster = RedisNode::cluster(hosts.split(',')).unwrap();
        redlock(std::iter::once(cluster).chain(quorum.ports().into_iter().map(at)))
    };
    quorum.enter_as(nodes(&quorum)).await;
    quorum.0[1].kill().unwrap();
    let locks = of(nodes(&quorum));
    let guard = within("it is free", LONG, locks.mutex("m").acquire()).await.unwrap();
    assert_eq!(guard.votes().unwrap().granted(), 2);
}

/// Somebody's scribbling on the note is taken for a loss of data, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_cant_be_read_is_written_anew() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    quorum.0[0].cli(&["SET", "pilotman:quorum", "garbage"]).unwrap();
    let note = || quorum.0[0].cli(&["GET", "pilotman:quorum"]).unwrap();
    let start = Instant::now();
    while !note().text().is_some_and(|note| note.starts_with("test/3|")) {
        assert!(start.elapsed() < LONG, "{:?}", note());
        let guard = within("two are enough", LONG, locks.mutex("m").acquire()).await.unwrap();
        guard.release().await.unwrap();
    }
}

/// A counter that nobody can count on from is an error of its node and not of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_beyond_all_time_does_not_spread() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let key = "pilotman:quorum:token:mutex:{m}";
    assert_eq!(quorum.0[0].cli(&["SET", key, "9007199254740990"]).unwrap(), Reply::Text("OK".to_owned()));
    let mut last = 0;
    for _ in 0..3 {
        let guard = within("two are enough", LONG, locks.mutex("m").acquire()).await.unwrap();
        let token = guard.token().unwrap();
        assert!(token > last && token < 9_000_000_000_000_000, "{token}");
        last = token;
        guard.release().await.unwrap();
    }
}
