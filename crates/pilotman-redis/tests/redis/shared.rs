//! Readers, writers and permits: each hold ends by itself, and no other one keeps it.

use std::time::{Duration, Instant};

use pilotman_core::{LossReason, Primitive, Release};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{LONG, believes, eventually, granted, locks_at, ms, nothing_left, waiter, within};

async fn rw_queued(node: &Node, count: i64) {
    let queue = ["ZCARD", "pilotman:queue:rw:{rw}"];
    eventually("so many stand in the queue", LONG, || node.cli(&queue).unwrap() == Reply::Integer(count)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_renews_keeps_no_dead_one() {
    const LEASE: Duration = Duration::from_millis(1500);
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (dying, living, writing) = (locks_at(proxy.port()), locks_at(node.port()), locks_at(node.port()));
    let dead = dying.rw_lock("rw").lease(LEASE).read().await.unwrap();
    let read = living.rw_lock("rw").lease(LEASE).read().await.unwrap();
    let write = waiter(writing.rw_lock("rw").writer());
    rw_queued(&node, 1).await;
    proxy.requests(Flow::Drop);
    tokio::time::sleep(LEASE * 2 + ms(500)).await;
    read.ensure_held().unwrap();
    assert!(!write.is_finished());
    assert_eq!(dead.ensure_held().unwrap_err().loss(), Some(&LossReason::Expired));
    let seen = living.inspect("rw", Primitive::Read).await.unwrap();
    assert_eq!(seen.holders.len(), 1, "{seen:?}");
    // The dead one's hold is over, though the key that both are in was renewed all the time.
    assert_eq!(read.release().await.unwrap(), Release::Released);
    drop(granted("nothing keeps the writer", ms(1000), write).await);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_for_the_lease_of_a_dead_reader_and_no_longer() {
    const LEASE: Duration = Duration::from_secs(2);
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (dying, living, writing) = (locks_at(proxy.port()), locks_at(node.port()), locks_at(node.port()));
    let dead = dying.rw_lock("rw").lease(LEASE).read().await.unwrap();
    let read = living.rw_lock("rw").read().await.unwrap();
    let write = waiter(writing.rw_lock("rw").writer());
    rw_queued(&node, 1).await;
    proxy.requests(Flow::Drop);
    let died = Instant::now();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(read.release().await.unwrap(), Release::Released);
    let limit = (LEASE + ms(1000)).saturating_sub(died.elapsed());
    let write = granted("the writer follows the dead reader", limit, write).await;
    assert!(!believes(&dead.held()), "a reader beside a writer");
    write.ensure_held().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_goes_before_readers_that_come_later() {
    let node = Node::start(&[]).unwrap();
    let [ours, writing, later] = [(); 3].map(|()| locks_at(node.port()));
    let read = ours.rw_lock("rw").read().await.unwrap();
    let beside = later.rw_lock("rw").try_read().await.unwrap().expect("readers go together");
    let write = waiter(writing.rw_lock("rw").writer());
    rw_queued(&node, 1).await;
    assert!(later.rw_lock("rw").try_read().await.unwrap().is_none());
    let reads = [(); 3].map(|()| locks_at(node.port())).map(|locks| waiter(locks.rw_lock("rw").reader()));
    rw_queued(&node, 4).await;
    assert_eq!(read.release().await.unwrap(), Release::Released);
    tokio::time::sleep(ms(100)).await;
    assert!(!write.is_finished());
    assert_eq!(beside.release().await.unwrap(), Release::Released);
    let write = granted("the writer has its turn", ms(1500), write).await;
    tokio::time::sleep(ms(100)).await;
    assert!(reads.iter().all(|read| !read.is_finished()));
    assert_eq!(write.release().await.unwrap(), Release::Released);
    let mut held = Vec::new();
    for read in reads {
        held.push(granted("the readers have theirs, together", ms(1500), read).await);
    }
    for read in &held {
        read.ensure_held().unwrap();
    }
    drop(held);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permits_stay_exact_when_holders_die() {
    const LEASE: Duration = Duration::from_secs(2);
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (dying, living, waiting) = (locks_at(proxy.port()), locks_at(node.port()), locks_at(node.port()));
    let dead = dying.semaphore("s", 3).lease(LEASE).acquire().await.unwrap();
    let semaphore = living.semaphore("s", 3).lease(LEASE);
    let (first, second) = (semaphore.acquire().await.unwrap(), semaphore.acquire().await.unwrap());
    let waits = [waiter(&waiting.semaphore("s", 3)), waiter(&living.semaphore("s", 3))];
    let queue = ["ZCARD", "pilotman:queue:semaphore:{s}"];
    eventually("both wait", LONG, || node.cli(&queue).unwrap() == Reply::Integer(2)).await;
    proxy.requests(Flow::Drop);
    let died = Instant::now();
    while waits.iter().all(|wait| !wait.is_finished()) {
        assert!(died.elapsed() < LEASE + ms(1000), "the dead holder's permit is not given on");
        tokio::time::sleep(ms(1)).await;
    }
    assert!(!believes(&dead.held()), "four holders of three permits");
    tokio::time::sleep(LEASE).await;
    assert_eq!(waits.iter().filter(|wait| wait.is_finished()).count(), 1, "four holders of three permits");
    first.ensure_held().unwrap();
    second.ensure_held().unwrap();
    assert!(living.semaphore("s", 3).try_acquire().await.unwrap().is_none());
    assert_eq!(first.release().await.unwrap(), Release::Released);
    let mut held = Vec::new();
    for wait in waits {
        held.push(granted("the other one has its turn", ms(1500), wait).await);
    }
    held.push(second);
    assert!(living.semaphore("s", 3).try_acquire().await.unwrap().is_none());
    drop(held);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_holders_are_told_that_their_lock_was_broken() {
    let node = Node::start(&[]).unwrap();
    let [one, other, breaker] = [(); 3].map(|()| locks_at(node.port()));
    let held = [one.rw_lock("rw").read().await.unwrap(), other.rw_lock("rw").read().await.unwrap()];
    let write = waiter(breaker.rw_lock("rw").writer());
    rw_queued(&node, 1).await;
    assert_eq!(breaker.force_release("rw", Primitive::Read).await.unwrap().len(), 2);
    for guard in &held {
        assert_eq!(within("the holder is told", ms(1000), guard.lost()).await, LossReason::Gone);
    }
    let write = granted("the writer has it", ms(1000), write).await;
    assert!(held.iter().all(|read| read.token() < write.token()));
}
