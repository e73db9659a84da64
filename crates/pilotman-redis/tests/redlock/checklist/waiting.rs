//! Who waits gets it, in order, whoever dies.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilotman_core::Release;

use crate::common::{LONG, granted, ms, waiter, within};
use crate::history::History;
use crate::quorum::{Quorum, SOON, queued};

/// How long one waiter comes after another: more than the clocks of the nodes can be misread by on a busy machine.
const APART: Duration = Duration::from_millis(100);

/// Six processes, in the order in which they came, also when their holds are handed from one to another.
async fn order_is_kept(count: usize, missing: usize, hung: bool) {
    let mut quorum = Quorum::entered(count).await;
    let holder = quorum.ready().await;
    let mut others = Vec::new();
    for _ in 0..6 {
        let locks = quorum.ready().await;
        // The best of several readings of the clocks is kept.
        for _ in 0..4 {
            drop(locks.mutex("other").acquire().await.unwrap());
        }
        others.push(locks);
    }
    for nth in 0..missing {
        let node = &mut quorum.0[nth];
        if hung {
            node.freeze().unwrap();
        } else {
            node.kill().unwrap();
        }
    }
    let guard = holder.mutex("q").acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waits = Vec::new();
    for (nth, locks) in others.into_iter().enumerate() {
        let order = order.clone();
        waits.push(tokio::spawn(async move {
            let guard = locks.mutex("q").lease(ms(6000)).acquire().await.unwrap();
            order.lock().unwrap().push((nth, guard.token().unwrap()));
            assert_eq!(guard.release().await.unwrap(), Release::Released);
        }));
        queued(&quorum.0[missing], "q", nth as i64 + 1).await;
        tokio::time::sleep(APART).await;
    }
    let token = guard.token().unwrap();
    let start = Instant::now();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    for wait in waits {
        if tokio::time::timeout(LONG, wait).await.map(Result::unwrap).is_err() {
            panic!("not all are served: {:?}; {}", order.lock().unwrap(), quorum.queue_of("q"));
        }
    }
    println!("{count} nodes, {missing} missing: six hand-offs in {:?}", start.elapsed());
    let order = order.lock().unwrap().clone();
    assert!(order.iter().map(|(nth, _)| *nth).eq(0..6), "{order:?}");
    assert!(order.iter().map(|(_, token)| *token).is_sorted_by(|a, b| a < b) && order[0].1 > token, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_order_over_3_nodes() {
    order_is_kept(3, 0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_order_over_3_nodes_with_one_missing() {
    order_is_kept(3, 1, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_order_over_3_nodes_with_one_hung() {
    order_is_kept(3, 1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_order_over_5_nodes_with_one_missing() {
    order_is_kept(5, 1, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_order_over_5_nodes_with_two_missing() {
    order_is_kept(5, 2, false).await;
}

/// All at once on two, four and three nodes: ties are resolved, each has its turn, and nobody waits for a lease.
#[tokio::test(flavor = "multi_thread")]
async fn even_n_ties_resolve() {
    for count in [2, 3, 4] {
        let quorum = Quorum::entered(count).await;
        let history = History::default();
        let mut clients = Vec::new();
        for nth in 0..4 {
            let (locks, history) = (quorum.ready().await, history.clone());
            clients.push(tokio::spawn(async move {
                for _ in 0..10 {
                    let guard = locks.mutex("m").acquire().await.unwrap();
                    let believer = history.acquired(&format!("client {nth}"), &guard);
                    assert!(believer.for_a(ms(2)).await);
                    assert_eq!(guard.release().await.unwrap(), Release::Released);
                }
            }));
        }
        let start = Instant::now();
        for client in clients {
            within("nobody waits for ever", ms(15_000), client).await.unwrap();
        }
        println!("{count} nodes: 40 rounds of four clients in {:?}", start.elapsed());
        history.check();
        assert_eq!(history.len(), 40);
        quorum.nothing_left(ms(3000)).await;
    }
}

/// As it is with two nodes of which one belongs to another program: neither has a majority, and both are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_tie_with_another_program_is_an_answer() {
    let quorum = Quorum::entered(2).await;
    let locks = quorum.ready().await;
    quorum.0[0].cli(&["SET", "m", "somebody else", "PX", "60000"]).unwrap();
    let tried = within("an answer", ms(2000), locks.mutex("m").try_acquire()).await;
    assert!(tried.unwrap().is_none());
    let start = Instant::now();
    let error = locks.mutex("m").acquire_timeout(ms(500)).await.unwrap_err();
    assert_eq!(error.kind(), pilotman_core::ErrorKind::TimedOut, "{error}");
    assert!(start.elapsed() < ms(500) + SOON, "{:?}", start.elapsed());
    within("what was granted is given back", ms(2000), async {
        while quorum.0[1].cli(&["EXISTS", "m"]).unwrap().integer() != Some(0) {
            tokio::time::sleep(ms(5)).await;
        }
    })
    .await;
}

/// Redis tells late of keys that expire, if there are many: waiters have timers of their own.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_wakes_after_holder_crash_with_100_000_volatile_keys() {
    const LEASE: Duration = Duration::from_secs(2);
    let quorum = Quorum::entered(3).await;
    let noise = "for i = 1, 100000 do redis.call('SET', 'noise:' .. i, i, 'PX', 3600000 + i) end";
    for node in &quorum.0 {
        node.cli(&["EVAL", noise, "0"]).unwrap();
    }
    let ways = quorum.ways();
    let (dying, others) = (ways.ready().await, quorum.ready().await);
    let mutex = dying.mutex("m").lease(LEASE).acquire().await.unwrap();
    let write = dying.rw_lock("rw").lease(LEASE).write().await.unwrap();
    let waits = [waiter(&others.mutex("m")), waiter(others.rw_lock("rw").reader())];
    queued(&quorum.0[0], "m", 1).await;
    ways.die();
    let died = Instant::now();
    for (wait, dead) in waits.into_iter().zip([mutex, write]) {
        let next = granted("the waiter follows the dead", LEASE + ms(1500), wait).await;
        assert!(dead.ensure_held().is_err(), "two holders");
        next.ensure_held().unwrap();
    }
    println!("followed {:?} after the death", died.elapsed());
}

/// A dead waiter at the head of the queue keeps nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_waiter_is_passed_over_at_once() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (holder, dying, next) = (quorum.ready().await, ways.ready().await, quorum.ready().await);
    let guard = holder.mutex("m").acquire().await.unwrap();
    let dead = waiter(&dying.mutex("m"));
    for node in &quorum.0 {
        queued(node, "m", 1).await;
    }
    tokio::time::sleep(APART).await;
    let next = waiter(&next.mutex("m"));
    for node in &quorum.0 {
        queued(node, "m", 2).await;
    }
    ways.die();
    for node in &quorum.0 {
        crate::common::listening(node, 2).await;
    }
    let start = Instant::now();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("the next one that lives gets it", LONG, next).await);
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    dead.abort();
}

/// One that hangs is given the lock by all nodes, and costs its first lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_waiter_costs_its_first_lease_and_believes_nothing_afterwards() {
    const LEASE: Duration = Duration::from_secs(3);
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (holder, hanging, next) = (quorum.ready().await, ways.ready().await, quorum.ready().await);
    let history = History::default();
    let guard = holder.mutex("m").acquire().await.unwrap();
    let hung = waiter(&hanging.mutex("m").lease(LEASE));
    for node in &quorum.0 {
        queued(node, "m", 1).await;
    }
    tokio::time::sleep(APART).await;
    let next = waiter(&next.mutex("m").lease(LEASE));
    for node in &quorum.0 {
        queued(node, "m", 2).await;
    }
    for way in &ways.0 {
        way.requests(pilotman_testkit::proxy::Flow::Hold);
        way.replies(pilotman_testkit::proxy::Flow::Hold);
    }
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = granted("the first lease ends", LEASE + ms(2000), next).await;
    let believer = history.acquired("the next one", &next);
    for way in &ways.0 {
        way.pass().unwrap();
    }
    assert!(believer.for_a(ms(1500)).await, "what came late took it away");
    assert!(!hung.is_finished(), "what came late was believed");
    assert_eq!(next.release().await.unwrap(), Release::Released);
    let hung = granted("who hung has its turn", ms(5000), hung).await;
    history.acquired("the hung one", &hung).believes();
    history.check();
}
