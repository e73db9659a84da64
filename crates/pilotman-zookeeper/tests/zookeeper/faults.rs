//! Networks and servers that fail: a hold is told lost before anybody else has it, and what passes loses nothing.

use std::time::{Duration, Instant};

use pilotman_core::{Guard, HoldState, LossReason, Release};
use pilotman_testkit::proxy::{Cut, Flow, Proxy};
use pilotman_testkit::servers::zookeeper::ZooKeeper as Server;

use crate::common::{LONG, client, eventually, granted, locks, ms, queued, shared, unique, waiter};

/// When the guard is told, in a task of its own.
fn told(guard: &Guard) -> tokio::task::JoinHandle<(LossReason, Instant)> {
    let lost = guard.lost();
    tokio::spawn(async move { (lost.await, Instant::now()) })
}

async fn reaches(guard: &Guard, state: HoldState) {
    eventually("the hold reaches the state", || async { guard.state() == state }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expires_behind_a_cut_is_told_before_others_hold() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("cut"));
    let proxy = Proxy::before(port).unwrap();
    let (ours, others) = (locks(proxy.port()), locks(port));
    let holds = [
        ours.mutex(&name).acquire().await.unwrap(),
        ours.rw_lock(&name).write().await.unwrap(),
        ours.semaphore(&name, 1).acquire().await.unwrap(),
    ];
    let losses: Vec<_> = holds.iter().map(told).collect();
    let waits =
        [waiter(&others.mutex(&name)), waiter(others.rw_lock(&name).writer()), waiter(&others.semaphore(&name, 1))];
    queued(&client, &format!("/{name}"), 6).await;
    proxy.requests(Flow::Hold);
    proxy.replies(Flow::Hold);
    reaches(&holds[0], HoldState::AtRisk).await;
    for (loss, next) in losses.into_iter().zip(waits) {
        let (reason, told) = tokio::time::timeout(LONG, loss).await.unwrap().unwrap();
        let (next, got) = granted(next).await;
        assert!(told <= got, "told {:?} too late", told - got);
        assert_eq!(reason, LossReason::Expired);
        next.ensure_held().unwrap();
        next.release().await.unwrap();
    }
    // The network comes back: the old holder's release spares everybody.
    proxy.pass().unwrap();
    for hold in holds {
        assert!(matches!(hold.release().await, Ok(Release::AlreadyLost(_))));
    }
    // And it can go on, in a new session.
    ours.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    ours.close().await;
    others.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_is_a_risk_and_no_loss() {
    let (_server, port) = shared();
    let name = unique("short");
    let proxy = Proxy::before(port).unwrap();
    let zookeeper = crate::common::options(proxy.port()).session_timeout(Duration::from_secs(20));
    let (ours, others) = (crate::common::locks_of(zookeeper), locks(port));
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let token = guard.token().unwrap();
    for how in [Cut::Reset, Cut::Close] {
        proxy.refuse();
        proxy.cut(how);
        reaches(&guard, HoldState::AtRisk).await;
        assert!(guard.ensure_held().is_ok(), "at risk is not lost");
        assert!(others.mutex(&name).try_acquire().await.unwrap().is_none());
        proxy.accept_again().unwrap();
        reaches(&guard, HoldState::Held).await;
    }
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = others.mutex(&name).acquire().await.unwrap();
    assert!(next.token().unwrap() > token);
    next.release().await.unwrap();
    ours.close().await;
    others.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlives_cuts_and_sessions() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("wait"));
    let path = format!("/{name}");
    let proxy = Proxy::before(port).unwrap();
    let (holder, waits) = (locks(port), locks(proxy.port()));
    let guard = holder.mutex(&name).acquire().await.unwrap();
    let waiting = waiter(&waits.mutex(&name));
    queued(&client, &path, 2).await;
    let before = crate::common::children(&client, &path).await;
    // A cut within the session: the place is kept.
    proxy.cut(Cut::Reset);
    tokio::time::sleep(ms(500)).await;
    assert_eq!(crate::common::children(&client, &path).await, before);
    // A longer one: the session ends at the server, and with it the place.
    proxy.requests(Flow::Hold);
    proxy.replies(Flow::Hold);
    queued(&client, &path, 1).await;
    proxy.pass().unwrap();
    queued(&client, &path, 2).await;
    assert!(!waiting.is_finished());
    guard.release().await.unwrap();
    let (next, _) = granted(waiting).await;
    next.ensure_held().unwrap();
    next.release().await.unwrap();
    holder.close().await;
    waits.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_a_risk_then_a_loss_and_hangs_nothing() {
    let mut server = Server::start(&[]).unwrap();
    let name = unique("frozen");
    let ours = locks(server.port());
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let loss = told(&guard);
    server.freeze().unwrap();
    let frozen = Instant::now();
    reaches(&guard, HoldState::AtRisk).await;
    // Time-outs are kept meanwhile.
    let start = Instant::now();
    assert!(ours.mutex("other").try_acquire_for(ms(300)).await.map_or(true, |guard| guard.is_none()));
    assert!(start.elapsed() < ms(2300), "an acquire of 300 ms took {:?}", start.elapsed());
    let (reason, told) = tokio::time::timeout(LONG, loss).await.unwrap().unwrap();
    assert_eq!(reason, LossReason::Expired);
    assert!(told - frozen < ms(3000), "told after the time-out: {:?}", told - frozen);
    server.thaw().unwrap();
    drop(guard);
    let next = locks(server.port());
    let (guard, _) = granted(waiter(&next.mutex(&name))).await;
    guard.release().await.unwrap();
    // The first one finds its way back.
    let (guard, _) = granted(waiter(&ours.mutex(&name))).await;
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_within_the_session_loses_nothing() {
    let mut server = Server::start(&[]).unwrap();
    let name = unique("restart");
    let zookeeper = crate::common::options(server.port()).session_timeout(Duration::from_secs(40));
    let ours = crate::common::locks_of(zookeeper);
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let token = guard.token().unwrap();
    server.restart().unwrap();
    reaches(&guard, HoldState::Held).await;
    let others = locks(server.port());
    assert!(others.mutex(&name).try_acquire().await.unwrap().is_none());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = others.mutex(&name).acquire().await.unwrap();
    assert!(next.token().unwrap() > token, "tokens go on over a restart");
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_and_a_drop_don_t_wait_for_a_server_that_is_gone() {
    let mut server = Server::start(&[]).unwrap();
    let ours = locks(server.port());
    let guard = ours.mutex("m").acquire().await.unwrap();
    server.freeze().unwrap();
    drop(guard);
    let start = Instant::now();
    tokio::time::timeout(LONG, ours.close()).await.expect("the close ends");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
