//! A request that was carried out, and whose answer nobody got.

use pilotman_core::Release;
use pilotman_testkit::proxy::{Cut, Flow, Proxy};
use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{LONG, eventually, get, granted, locks_at, ms, nothing_left, queued, waiter};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_an_acquire_is_asked_for_again() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let locks = locks_at(proxy.port());
    locks.check().await.unwrap();
    let (rw, semaphore, mutex) = (locks.rw_lock("lost-rw"), locks.semaphore("lost-s", 1), locks.mutex("lost-m"));
    for (nth, lock) in [&*mutex, rw.reader(), rw.writer(), &*semaphore].into_iter().enumerate() {
        proxy.lose_reply(lock.name(), 0);
        // One attempt: the hold that the first request made is this attempt's own.
        let guard = lock.try_acquire().await.unwrap().expect("the lock is free");
        assert!(proxy.wait_lost_replies(nth + 1, LONG), "no reply was lost");
        guard.ensure_held().unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        nothing_left(&node, ms(2000)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_that_nobody_waits_for_any_more_leaves_nothing() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let locks = locks_at(proxy.port());
    locks.check().await.unwrap();
    proxy.replies(Flow::Hold);
    let mutex = locks.mutex("m");
    let attempt = tokio::spawn(async move { mutex.acquire_timeout(ms(500)).await });
    eventually("the server has given the lock", LONG, || get(&node, "m").is_some()).await;
    // What gives it back is not to come through either.
    proxy.requests(Flow::Hold);
    assert!(attempt.await.unwrap().is_err());
    assert!(get(&node, "m").is_some());
    proxy.cut(Cut::Reset);
    proxy.pass().unwrap();
    // Its lease is 30 s.
    nothing_left(&node, ms(5000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_release_is_no_loss() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let (locks, others) = (locks_at(proxy.port()), locks_at(node.port()));
    for round in 0..2 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        let next = (round == 1).then(|| waiter(&others.mutex("m")));
        if next.is_some() {
            queued(&node, "m", 1).await;
        }
        proxy.lose_reply("EVALSHA", 0);
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        assert!(proxy.wait_lost_replies(round + 1, LONG), "no reply was lost");
        if let Some(next) = next {
            let next = granted("handed on once", ms(2000), next).await;
            tokio::time::sleep(ms(100)).await;
            next.ensure_held().unwrap();
            assert!(get(&node, "m").is_some(), "the repeated release took the next holder's lock");
        }
    }
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_renewal_is_no_loss() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let locks = locks_at(proxy.port());
    let guard = locks.mutex("m").lease(ms(1500)).acquire().await.unwrap();
    for round in 0..3 {
        proxy.lose_reply("EVALSHA", 0);
        assert!(proxy.wait_lost_replies(round + 1, LONG), "no reply was lost");
    }
    tokio::time::sleep(ms(1500)).await;
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(node.cli(&["EXISTS", "m"]).unwrap(), Reply::Integer(0));
}
