//! The queue: first come, first served, whoever dies or is cut off meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use pilotman_core::{HoldState, LossReason, Primitive, Release};
use pilotman_testkit::proxy::{Cut, Flow, Proxy};
use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{
    LONG, at, eventually, get, granted, listening, locks, locks_at, ms, nothing_left, queued, waiter, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_served_in_the_order_in_which_they_came() {
    let node = Node::start(&[]).unwrap();
    let guard = locks_at(node.port()).mutex("q").acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waits = Vec::new();
    for nth in 0..6 {
        let (locks, order) = (locks_at(node.port()), order.clone());
        waits.push(tokio::spawn(async move {
            let guard = locks.mutex("q").lease(ms(6000)).acquire().await.unwrap();
            order.lock().unwrap().push((nth, guard.token().unwrap()));
            guard.release().await.unwrap();
            locks.close().await;
        }));
        queued(&node, "q", i64::from(nth) + 1).await;
    }
    // Longer than a place lives that is not refreshed.
    tokio::time::sleep(ms(3500)).await;
    let token = guard.token().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    for wait in waits {
        within("all are served", ms(5000), wait).await.unwrap();
    }
    let order = order.lock().unwrap().clone();
    assert!(order.iter().map(|(nth, _)| *nth).eq(0..6), "{order:?}");
    assert!(order.iter().map(|(_, token)| *token).is_sorted_by(|a, b| a < b) && order[0].1 > token, "{order:?}");
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_has_gone_is_passed_over_at_once() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (ours, dying, next) = (locks_at(node.port()), locks_at(proxy.port()), locks_at(node.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let dead = waiter(&dying.mutex("m"));
    queued(&node, "m", 1).await;
    let next = waiter(&next.mutex("m"));
    queued(&node, "m", 2).await;
    listening(&node, 3).await;
    proxy.refuse();
    proxy.cut(Cut::Reset);
    listening(&node, 2).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("the next one that lives gets it", ms(1000), next).await);
    dead.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_hangs_costs_the_first_lease_and_believes_nothing_afterwards() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (ours, hanging, next) = (locks_at(node.port()), locks_at(proxy.port()), locks_at(node.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let hung = waiter(&hanging.mutex("m").lease(ms(3000)));
    queued(&node, "m", 1).await;
    let next = waiter(&next.mutex("m").lease(ms(3000)));
    queued(&node, "m", 2).await;
    proxy.requests(Flow::Hold);
    proxy.replies(Flow::Hold);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = granted("the first lease ends, and the next one has the lock", ms(4000), next).await;
    // What was on its way comes now, and must not be believed.
    proxy.pass().unwrap();
    tokio::time::sleep(ms(1500)).await;
    assert!(!hung.is_finished());
    next.ensure_held().unwrap();
    assert_eq!(next.release().await.unwrap(), Release::Released);
    drop(granted("who hung has its turn", ms(5000), hung).await);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_kept_over_a_reconnect() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (ours, cut_off, other) = (locks_at(node.port()), locks_at(proxy.port()), locks_at(node.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let first = waiter(&cut_off.mutex("m"));
    queued(&node, "m", 1).await;
    let second = waiter(&other.mutex("m"));
    queued(&node, "m", 2).await;
    for how in [Cut::Close, Cut::Reset] {
        let before = proxy.connections();
        proxy.cut(how);
        eventually("it connects again", LONG, || proxy.connections() > before).await;
        listening(&node, 3).await;
    }
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let first = granted("the first one is still the first", ms(2000), first).await;
    assert!(!second.is_finished());
    assert_eq!(first.release().await.unwrap(), Release::Released);
    drop(granted("the second one follows", ms(2000), second).await);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_lost_with_its_connection_is_asked_for() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(proxy.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    proxy.replies(Flow::Hold);
    let before = get(&node, "m");
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert!(get(&node, "m").is_some_and(|now| Some(now) != before), "it was handed on");
    proxy.cut(Cut::Reset);
    proxy.pass().unwrap();
    drop(granted("what was pushed is asked for", ms(1500), next).await);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_lost_alone_is_asked_for_with_the_next_refresh() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(proxy.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    // Right after a refresh nothing but the push is on its way for a while.
    let lives_until = || node.cli(&["HVALS", "pilotman:waiters:mutex:{m}"]).unwrap();
    let before = lives_until();
    eventually("the place is refreshed", LONG, || lives_until() != before).await;
    tokio::time::sleep(ms(50)).await;
    proxy.replies(Flow::Drop);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    tokio::time::sleep(ms(100)).await;
    proxy.replies(Flow::Pass);
    let start = Instant::now();
    let guard = granted("the next refresh finds it", ms(1500), next).await;
    assert!(start.elapsed() > ms(100), "the push was not lost");
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_deleted_is_found_free_without_a_push() {
    let node = Node::start(&[]).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(node.port()));
    let guard = ours.mutex("m").acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    assert_eq!(node.cli(&["DEL", "m"]).unwrap(), Reply::Integer(1));
    drop(granted("the next refresh finds it", ms(1500), next).await);
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_lock_is_told_to_its_holder_and_handed_on() {
    let node = Node::start(&[]).unwrap();
    let (ours, others, breaker) = (locks_at(node.port()), locks_at(node.port()), locks_at(node.port()));
    breaker.check().await.unwrap();
    // Leases of 30 s: no renewal for ten seconds.
    let guard = ours.mutex("m").acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    let broken = breaker.force_release("m", Primitive::Mutex).await.unwrap();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].token, guard.token());
    assert_eq!(within("the holder is told", ms(1000), guard.lost()).await, LossReason::Gone);
    assert_eq!(guard.state(), HoldState::Lost);
    let next = granted("the waiter has it", ms(1000), next).await;
    assert!(next.token() > guard.token());
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
    next.ensure_held().unwrap();
    assert!(breaker.force_release("free", Primitive::Mutex).await.unwrap().is_empty());
    let token = next.token();
    assert_eq!(breaker.force_release("m", Primitive::Mutex).await.unwrap().len(), 1);
    let after = ours.mutex("m").try_acquire().await.unwrap().expect("it was broken");
    assert!(after.token() > token);
    drop(after);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_outlives_a_restart_of_the_server() {
    let mut node = Node::start(&[]).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(node.port()));
    let guard = ours.mutex("m").lease(ms(1500)).acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    node.restart().unwrap();
    // Nothing of it was on disk.
    let next = granted("the waiter gets the lock of the new server", ms(5000), next).await;
    assert_eq!(within("the holder is told", ms(2500), guard.lost()).await, LossReason::Gone);
    next.ensure_held().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_that_died_keep_nobody_from_a_free_lock() {
    let server = Node::start(&[]).unwrap();
    let (holder, other) = (locks_at(server.port()), locks_at(server.port()));
    let guard = holder.mutex("a").acquire().await.unwrap();
    let dying = Proxy::before(server.port()).unwrap();
    let dead = locks_at(dying.port());
    let wait = waiter(&dead.mutex("a"));
    queued(&server, "a", 1).await;
    dying.requests(Flow::Drop);
    dying.refuse();
    dying.cut(Cut::Reset);
    listening(&server, 1).await;
    guard.release().await.unwrap();
    let start = Instant::now();
    let taken = other.mutex("a").try_acquire().await.unwrap();
    assert!(taken.is_some(), "a try is not kept out by a place in the queue that nobody answers for");
    println!("taken after {:?}", start.elapsed());
    wait.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_character_of_the_key_format_is_fine() {
    let server = Node::start(&[]).unwrap();
    let with = || locks(at(server.port()).key_format("a|b|{}").unwrap());
    let (one, other) = (with(), with());
    let guard = one.mutex("m").acquire().await.unwrap();
    let wait = waiter(&other.mutex("m"));
    tokio::time::sleep(ms(200)).await;
    guard.release().await.unwrap();
    let start = Instant::now();
    drop(granted("the mutex", ms(900), wait).await);
    println!("handed on after {:?}", start.elapsed());
    let permit = one.semaphore("s", 1).acquire().await.unwrap();
    let wait = waiter(&other.semaphore("s", 1));
    tokio::time::sleep(ms(200)).await;
    permit.release().await.unwrap();
    drop(granted("the permit", ms(900), wait).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_close_ends_the_connection() {
    let server = Node::start(&[]).unwrap();
    let locks = locks_at(server.port());
    locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
    let open = || {
        let list = server.cli(&["CLIENT", "LIST"]).unwrap().to_string();
        list.lines().filter(|line| line.contains("name=pilotman")).count()
    };
    assert_eq!(open(), 1);
    locks.close().await;
    eventually("the connection is closed", LONG, || open() == 0).await;
    drop(locks);
}
