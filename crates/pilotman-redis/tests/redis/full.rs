//! A server without memory, or without a disk, refuses what needs either; holds and hand-offs need neither.

use std::time::Duration;

use pilotman_core::{ErrorKind, HoldState, Release};
use pilotman_testkit::servers::redis::Node;

use crate::common::{LONG, assert_says, eventually, granted, keys, locks_at, ms, nothing_left, queued, waiter};

const LEASE: Duration = Duration::from_millis(1500);

fn fill(node: &Node) {
    node.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refusal = node.cli(&["SET", "anything", "x"]).unwrap_err().to_string();
    assert!(refusal.contains("OOM"), "{refusal}");
}

fn empty(node: &Node) {
    node.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_costs_no_hold_and_no_place_and_hands_on() {
    let node = Node::start(&[]).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(node.port()));
    let mutex = ours.mutex("m").lease(LEASE).acquire().await.unwrap();
    let read = ours.rw_lock("rw").lease(LEASE).read().await.unwrap();
    let permit = ours.semaphore("s", 1).lease(LEASE).acquire().await.unwrap();
    let waits = [
        waiter(&others.mutex("m").lease(LEASE)),
        waiter(others.rw_lock("rw").lease(LEASE).writer()),
        waiter(&others.semaphore("s", 1).lease(LEASE)),
    ];
    eventually("all wait", LONG, || keys(&node).iter().filter(|key| key.contains(":queue:")).count() == 3).await;
    fill(&node);
    // Longer than a waiter goes on asking a server that only refuses.
    for _ in 0..70 {
        tokio::time::sleep(ms(100)).await;
        for guard in [&mutex, &read, &permit] {
            guard.ensure_held().unwrap();
        }
        assert!(waits.iter().all(|waiter| !waiter.is_finished()));
    }
    assert_eq!(mutex.release().await.unwrap(), Release::Released);
    let [for_mutex, for_write, for_permit] = waits;
    let next = granted("the mutex is handed on by a full server", ms(3000), for_mutex).await;
    assert_eq!(read.release().await.unwrap(), Release::Released);
    let write = granted("the writer gets in at a full server", ms(3000), for_write).await;
    empty(&node);
    tokio::time::sleep(LEASE * 2).await;
    for guard in [&next, &write, &permit] {
        guard.ensure_held().unwrap();
    }
    fill(&node);
    assert_eq!(permit.release().await.unwrap(), Release::Released);
    let permit = granted("the permit is handed on by a full server", ms(3000), for_permit).await;
    for guard in [next, write, permit] {
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    nothing_left(&node, ms(3000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_gives_no_new_lock_and_keeps_nothing_of_it() {
    let node = Node::start(&[]).unwrap();
    fill(&node);
    let locks = locks_at(node.port());
    let (rw, semaphore, mutex) = (locks.rw_lock("rw"), locks.semaphore("s", 1), locks.mutex("m"));
    for lock in [&*mutex, rw.reader(), rw.writer(), &*semaphore] {
        let error = lock.try_acquire().await.unwrap_err();
        assert_says(&error, ErrorKind::Unavailable, &["no memory left", "maxmemory"]);
        assert!(error.is_retryable() && error.has_no_effect(), "{error:?}");
    }
    // Who waits is told, too, after a while.
    let error = locks.mutex("m").acquire_timeout(LONG).await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["no memory left", "maxmemory"]);
    assert_eq!(keys(&node), [""; 0]);
    empty(&node);
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_save_puts_a_hold_at_risk_and_no_more() {
    let node = Node::start(&["--save", "3600 1"]).unwrap();
    let locks = locks_at(node.port());
    let guard = locks.mutex("held").lease(ms(6000)).acquire().await.unwrap();
    // It can't write there, whoever runs it.
    std::fs::remove_dir_all(node.directory()).unwrap();
    node.cli(&["BGSAVE"]).unwrap();
    let refuses = || node.cli(&["SET", "x", "1"]).is_err_and(|error| error.to_string().contains("MISCONF"));
    eventually("the server refuses writes", LONG, refuses).await;
    let error = locks.mutex("wanted").try_acquire().await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["can't save", "disk"]);
    assert!(error.has_no_effect());
    eventually("a renewal is refused", ms(6000), || guard.state() == HoldState::AtRisk).await;
    node.cli(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).unwrap();
    eventually("a renewal succeeds", ms(6000), || guard.state() == HoldState::Held).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    node.cli(&["DEL", "x"]).unwrap();
    nothing_left(&node, ms(3000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_the_server_forgets_are_told_again() {
    let node = Node::start(&[]).unwrap();
    let (ours, others) = (locks_at(node.port()), locks_at(node.port()));
    let guard = ours.mutex("m").lease(LEASE).acquire().await.unwrap();
    let next = waiter(&others.mutex("m"));
    queued(&node, "m", 1).await;
    for _ in 0..10 {
        node.cli(&["SCRIPT", "FLUSH"]).unwrap();
        tokio::time::sleep(LEASE / 5).await;
        guard.ensure_held().unwrap();
    }
    node.cli(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = granted("handed on by a script told again", ms(1000), next).await;
    node.cli(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(next.release().await.unwrap(), Release::Released);
    nothing_left(&node, ms(3000)).await;
}
