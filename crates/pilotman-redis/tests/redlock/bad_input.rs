//! Wrong lists, wrong leases, wrong credentials: clear errors that name the node; and what a factory goes through.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pilotman_core::blocking::{self, CancelToken};
use pilotman_core::{Error, ErrorKind, Locks, Release, Verdict, Vote};
use pilotman_redis::{QuorumStatus, RedisBackend, RedisNode, Redlock, RedlockBackend};
use pilotman_testkit::servers::redis::Node;

use crate::common::{LONG, assert_says, at, eventually, ms, waiter, within};
use crate::quorum::{Quorum, SOON, counted, of, queued, redlock};

/// Short, where a test waits until it is over.
const LONGEST: Duration = Duration::from_millis(1500);

/// An error of this kind with these words.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, words: &[&str]) {
    let shown = format!("{error} {error:?}");
    assert_eq!(error.kind(), kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "no '{word}' in: {shown}");
    }
    assert!(!shown.contains("secret"), "a secret in: {shown}");
}

fn refused(redlock: Redlock) -> Error {
    RedlockBackend::new(redlock).map(drop).unwrap_err()
}

#[test]
fn a_quorum_without_nodes_is_refused() {
    assert_says(&refused(Redlock::new([])), ErrorKind::Misconfigured, &["without nodes"]);
}

#[test]
fn the_same_address_twice_is_refused() {
    let nodes = ["10.0.0.1:6379", "10.0.0.2", "10.0.0.1"].map(|address| RedisNode::endpoint(address).unwrap());
    let error = refused(Redlock::new(nodes));
    assert_says(&error, ErrorKind::Misconfigured, &["10.0.0.1", "the same", "two votes"]);
}

#[test]
fn a_bad_node_is_refused_by_name() {
    let nodes = [RedisNode::endpoint("10.0.0.1").unwrap(), RedisNode::cluster(["10.0.0.2"]).unwrap().database(3)];
    let shown = refused(Redlock::new(nodes)).to_string();
    assert!(shown.contains("10.0.0.2") && shown.contains("database 0"), "{shown}");
}

#[test]
fn more_nodes_than_votes_can_be_counted_are_refused() {
    let nodes = |count: u32| Redlock::new((0..count).map(|nth| at(1000 + u16::try_from(nth).unwrap())));
    assert!(refused(nodes(65)).to_string().contains("64"));
    drop(RedlockBackend::new(nodes(64)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_works() {
    let quorum = Quorum::start(1);
    let (locks, other) = (quorum.locks(), quorum.locks());
    let guard = locks.mutex("m").acquire().await.unwrap();
    assert_eq!(counted(guard.votes()), (1, 0, 0, Verdict::Acquired));
    let next = waiter(&other.mutex("m"));
    queued(&quorum.0[0], "m", 1).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = within("it is handed on", ms(1000), next).await.unwrap().unwrap();
    assert_eq!(next.release().await.unwrap(), Release::Released);
    quorum.nothing_left(ms(2000)).await;
}

/// And bears no more failures than one node less would.
#[tokio::test(flavor = "multi_thread")]
async fn an_even_number_works() {
    let mut quorum = Quorum::entered(4).await;
    let locks = quorum.ready().await;
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    quorum.0[0].kill().unwrap();
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    quorum.0[1].kill().unwrap();
    let error = within("an answer", ms(3000), locks.mutex("m").try_acquire()).await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["3 needed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_under_two_addresses_is_refused() {
    let quorum = Quorum::start(2);
    let [first, second] = [0, 1].map(|nth| quorum.0[nth].port());
    let twice = || {
        let other_name = RedisNode::endpoint(format!("localhost:{first}")).unwrap();
        of(redlock([at(first), other_name, at(second)]))
    };
    let error = twice().check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["127.0.0.1", "localhost", "same server", "two votes"]);
    // One server must not make a majority, whoever asks.
    quorum.0[1].cli(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    let locks = twice();
    for _ in 0..3 {
        let error = locks.mutex("m").try_acquire().await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &["same server"]);
        let error = locks.mutex("m").acquire_timeout(ms(3000)).await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &["same server"]);
    }
    assert_eq!(crate::quorum::left(&quorum.0[0]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_over_the_agreed_maximum_is_refused() {
    let quorum = Quorum::start(3);
    let agreed = of(quorum.redlock().longest_lease(ms(20_000)));
    agreed.check().await.unwrap();
    let error = agreed.mutex("m").lease(ms(20_001)).try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("20s") && error.has_no_effect(), "{error}");
    assert!(agreed.mutex("m").lease(ms(20_000)).try_acquire().await.unwrap().is_some());
    // Another program wants more than these have agreed on.
    let greedy = of(quorum.redlock().longest_lease(ms(40_000)));
    let error = greedy.mutex("m").try_acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["20s", "40s"]);
    says(&greedy.check().await.unwrap_err(), ErrorKind::Misconfigured, &["20s", "40s"]);
    // Less is fine, and bound by what was agreed on.
    let modest = of(quorum.redlock().longest_lease(ms(5000)));
    modest.check().await.unwrap();
    assert!(modest.mutex("other").try_acquire().await.unwrap().is_some());
    for bad in [RedisBackend::SHORTEST_LEASE - ms(1), RedisBackend::LONGEST_LEASE + ms(1)] {
        assert_eq!(refused(quorum.redlock().longest_lease(bad)).kind(), ErrorKind::Misconfigured);
    }
}

/// Two lists could each have a majority. A new one can be used when the old one has not been for the longest lease.
#[tokio::test(flavor = "multi_thread")]
async fn another_list_of_nodes_is_refused_until_the_old_one_is_out_of_use() {
    let quorum = Quorum::start(5);
    let list =
        |nodes: &[usize]| of(Redlock::new(nodes.iter().map(|nth| at(quorum.0[*nth].port()))).longest_lease(LONGEST));
    let (old, new) = (list(&[0, 1, 2]), list(&[2, 3, 4, 0]));
    old.check().await.unwrap();
    let guard = old.mutex("m").lease(ms(1000)).acquire().await.unwrap();
    let error = new.check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["another set of nodes", "same list"]);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    // As long as a lock is held, however long ago it was acquired.
    let start = Instant::now();
    while start.elapsed() < LONGEST * 3 {
        assert!(new.check().await.is_err(), "after {:?}", start.elapsed());
        tokio::time::sleep(ms(100)).await;
    }
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    old.close().await;
    let start = Instant::now();
    while let Err(error) = new.check().await {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(start.elapsed() < LONGEST + ms(4000), "{error}");
        tokio::time::sleep(ms(50)).await;
    }
    println!("the new list works {:?} after the end of the old one", start.elapsed());
    drop(within("a lock", LONGEST * 4, new.mutex("m").lease(ms(1000)).acquire()).await.unwrap());
    says(&list(&[0, 1, 2]).check().await.unwrap_err(), ErrorKind::Misconfigured, &["another set"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_list_in_another_order_is_the_same_set() {
    let quorum = Quorum::start(3);
    let list = |order: [usize; 3]| of(Redlock::new(order.map(|nth| at(quorum.0[nth].port()))));
    let (one, other) = (list([0, 1, 2]), list([2, 0, 1]));
    let guard = one.mutex("m").acquire().await.unwrap();
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert!(other.mutex("m").try_acquire().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_with_a_wrong_password_is_named_and_costs_its_vote_only() {
    let quorum = Quorum::entered(3).await;
    quorum.0[1].cli(&["CONFIG", "SET", "requirepass", "right-secret"]).unwrap();
    let bad = quorum.0[1].port();
    let with = |password: &str| {
        of(redlock(
            quorum.ports().into_iter().map(|port| if port == bad { at(port).password(password) } else { at(port) }),
        ))
    };
    let locks = with("wrong-secret");
    let error = locks.check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["user name or password", &format!("127.0.0.1:{bad}")]);
    let guard = locks.mutex("m").acquire().await.unwrap();
    guard.ensure_held().unwrap();
    let other = with("wrong-secret");
    let next = waiter(&other.mutex("m"));
    queued(&quorum.0[0], "m", 1).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = within("it is handed on", ms(3000), next).await.unwrap().unwrap();
    let told = |vote: &Vote| matches!(vote, Vote::Failed(error) if error.kind() == ErrorKind::Misconfigured);
    eventually("the guard's votes say why", LONG, || {
        next.votes().unwrap().nodes.iter().any(|node| node.node.ends_with(&bad.to_string()) && told(&node.vote))
    })
    .await;
    drop(next);
    with("right-secret").check().await.unwrap();
}

/// What the reader can do is as much part of an error of one node as of others.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_one_node_keeps_its_advice() {
    let quorum = Quorum::entered(3).await;
    quorum.0[1].cli(&["CONFIG", "SET", "requirepass", "right-secret"]).unwrap();
    let error = quorum.locks().check().await.unwrap_err();
    assert_says(&error, ErrorKind::Misconfigured, &["password", &quorum.0[1].port().to_string()]);
}

/// A node that keeps every write may vote at once after a restart, if that is what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn without_quarantine_a_node_that_kept_everything_votes_at_once() {
    let kept = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut quorum = Quorum(crate::quorum::start(3, |_| Node::start(&kept).unwrap()));
    let redlock = quorum.redlock().quarantine(false);
    quorum.enter_as(redlock.clone()).await;
    let locks = of(redlock.clone());
    let guard = locks.mutex("m").acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &mut quorum.0[..2] {
        node.terminate().unwrap();
        node.restart().unwrap();
    }
    // They kept it; one that is still loading says nothing.
    quorum.held_on("m", 3).await;
    for locks in [locks, of(redlock)] {
        let other = locks.mutex("other").acquire_timeout(ms(3000)).await.unwrap();
        assert_eq!(other.release().await.unwrap(), Release::Released);
    }
    guard.ensure_held().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_without_its_passwords_is_a_wrong_configuration() {
    let quorum = Quorum::start(3);
    for node in &quorum.0 {
        node.cli(&["CONFIG", "SET", "requirepass", "right-secret"]).unwrap();
    }
    let locks = quorum.locks();
    let error = locks.mutex("m").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::Misconfigured, &["password"]);
    let error = within("an answer", ms(9000), locks.mutex("m").acquire()).await.unwrap_err();
    assert_says(&error, ErrorKind::Misconfigured, &["password"]);
    // Each node by its name.
    for port in quorum.ports().into_iter().take(2) {
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semaphores_are_refused_with_the_reason() {
    let quorum = Quorum::entered(3).await;
    let error = quorum.locks().semaphore("s", 2).try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, &["2 permits", "3 of 3 nodes", "Redlock::semaphores"]);
    let allowed = || of(quorum.redlock().semaphores(true));
    let (one, two, three) = (allowed(), allowed(), allowed());
    let first = one.semaphore("s", 2).acquire().await.unwrap();
    let second = two.semaphore("s", 2).acquire().await.unwrap();
    assert_eq!(counted(first.votes()), (3, 0, 0, Verdict::Acquired));
    assert!(three.semaphore("s", 2).try_acquire().await.unwrap().is_none());
    assert_eq!(second.release().await.unwrap(), Release::Released);
    assert!(within("a permit", ms(2000), three.semaphore("s", 2).acquire()).await.is_ok());
}

/// RedLock.net's configuration-changed event.
#[tokio::test(flavor = "multi_thread")]
async fn which_nodes_are_up_is_told() {
    let mut quorum = Quorum::entered(3).await;
    let told: Arc<Mutex<Vec<QuorumStatus>>> = Arc::default();
    let tell = told.clone();
    let redlock = quorum.redlock().longest_lease(ms(60_000)).on_change(move |status| {
        tell.lock().unwrap().push(status.clone());
    });
    let backend = RedlockBackend::new(redlock).unwrap();
    let watch = backend.watch();
    assert!(!watch.status().has_quorum(), "nothing is connected yet");
    let locks = Locks::new(backend);
    locks.check().await.unwrap();
    let status = watch.status();
    assert_eq!((status.needed, status.nodes.len(), status.voting()), (2, 3, 3), "{status}");
    assert!(status.has_quorum());
    assert!(told.lock().unwrap().last().is_some_and(|status| status.voting() == 3));
    quorum.0[0].kill().unwrap();
    let _guard = locks.mutex("m").lease(ms(1000)).acquire().await.unwrap();
    eventually("one is down", LONG, || watch.status().voting() == 2).await;
    assert!(watch.status().has_quorum());
    assert!(!watch.status().nodes[0].is_connected);
    quorum.0[1].kill().unwrap();
    eventually("there is no quorum", LONG, || !watch.status().has_quorum()).await;
    eventually("that was told", LONG, || told.lock().unwrap().last().is_some_and(|last| !last.has_quorum())).await;
    // Started anew and empty: they are connected, but may have forgotten locks.
    for nth in [0, 1] {
        quorum.0[nth].restart().unwrap();
    }
    let start = Instant::now();
    loop {
        // It may fail; that is not what this is about.
        let _ = locks.mutex("other").acquire_timeout(ms(200)).await;
        let status = watch.status();
        if status.nodes[..2].iter().all(|node| node.is_connected && node.set_aside.is_some()) {
            break;
        }
        assert!(start.elapsed() < LONG, "{status}");
    }
    assert!(!watch.status().has_quorum(), "{}", watch.status());
    let shown = watch.status().to_string();
    assert!(shown.contains("has no say"), "{shown}");
    let count = told.lock().unwrap().len();
    assert!((3..60).contains(&count), "told {count} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_factory_is_used_again_and_closed() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.locks();
    for nth in 0..20 {
        let guard = locks.mutex(format!("m{}", nth % 3)).acquire().await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    let connections = |nth: usize| {
        let list = quorum.0[nth].cli(&["CLIENT", "LIST"]).unwrap().to_string();
        list.lines().filter(|line| line.contains("name=pilotman")).count()
    };
    for nth in 0..3 {
        assert_eq!(connections(nth), 1, "one connection to each node");
    }
    let held = locks.mutex("held").acquire().await.unwrap();
    drop(locks.mutex("dropped").acquire().await.unwrap());
    locks.close().await;
    let error = locks.mutex("m").try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_eq!(quorum.holding("dropped"), 0, "a close waits until what was dropped is given back");
    held.ensure_held().unwrap();
    quorum.held_on("held", 3).await;
    assert_eq!(held.release().await.unwrap(), Release::Released);
    for nth in 0..3 {
        eventually("the connections end with the last guard", LONG, || connections(nth) == 0).await;
    }
    quorum.nothing_left(ms(1000)).await;
    // Another one goes on.
    assert!(quorum.locks().mutex("m").try_acquire().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_acquire_leaves_nothing_in_any_node() {
    let quorum = Quorum::entered(3).await;
    let (holder, other) = (quorum.ready().await, quorum.ready().await);
    for nth in 0..30_u64 {
        let guard = holder.mutex("m").acquire().await.unwrap();
        let waiting = waiter(&other.mutex("m"));
        tokio::time::sleep(Duration::from_micros(nth * 200)).await;
        // Dropped while it asks, while it waits, or just when it is granted.
        let release = tokio::spawn(guard.release());
        tokio::time::sleep(Duration::from_micros((nth % 5) * 150)).await;
        waiting.abort();
        drop(waiting.await);
        assert_eq!(within("an answer", LONG, release).await.unwrap().unwrap(), Release::Released);
        // And a try that is dropped under way.
        drop(tokio::time::timeout(Duration::from_micros(nth * 50), other.mutex("m").try_acquire()).await);
    }
    quorum.nothing_left(ms(3000)).await;
}

#[test]
fn a_cancelled_blocking_wait_leaves_nothing_in_any_node() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let quorum = runtime.block_on(Quorum::entered(3));
    let (holder, other) = (blocking::Locks::from(quorum.locks()), blocking::Locks::from(quorum.locks()));
    let guard = holder.mutex("m").acquire().unwrap();
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let waits: Vec<_> = ["m", "m", "m"]
            .into_iter()
            .map(|name| {
                let lock = other.mutex(name).with_cancel(&cancel);
                scope.spawn(move || lock.acquire().map(drop).unwrap_err())
            })
            .collect();
        runtime.block_on(queued(&quorum.0[2], "m", 1));
        let start = Instant::now();
        cancel.cancel();
        for wait in waits {
            assert_eq!(wait.join().unwrap().kind(), ErrorKind::Cancelled);
        }
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    });
    for node in &quorum.0 {
        runtime.block_on(queued(node, "m", 0));
    }
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().unwrap(), Release::Released);
    runtime.block_on(quorum.nothing_left(ms(2000)));
}

/// A set that is entered while a node is missing can't know what that one has forgotten: it has no say until all leases
/// that can have been are over, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_may_have_forgotten_are_said_to_have_no_say() {
    let mut quorum = Quorum::start(3);
    quorum.0[2].kill().unwrap();
    let locks = of(quorum.redlock().longest_lease(LONGEST));
    let error = within("an answer", LONG, locks.mutex("m").lease(ms(1000)).try_acquire()).await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["no say at the moment", "has a say again"]);
    let start = Instant::now();
    drop(within("they have a say again", LONG, locks.mutex("m").lease(ms(1000)).acquire()).await.unwrap());
    println!("after {:?}", start.elapsed());
    // Without the quarantine nobody waits for that.
    let mut quorum = Quorum::start(3);
    quorum.0[2].kill().unwrap();
    let locks = of(quorum.redlock().quarantine(false));
    assert!(within("an answer", ms(3000), locks.mutex("m").try_acquire()).await.unwrap().is_some());
}
