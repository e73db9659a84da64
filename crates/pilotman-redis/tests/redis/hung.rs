//! A server that hangs hangs nobody.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, Release};
use pilotman_testkit::proxy::{Flow, Proxy};
use pilotman_testkit::servers::redis::Node;

use crate::common::{LONG, eventually, locks_at, ms, nothing_left};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_holds_up_no_acquire_and_no_release() {
    let mut node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    let held = locks.mutex("held").acquire().await.unwrap();
    node.freeze().unwrap();
    let start = Instant::now();
    let error = locks.mutex("wanted").acquire_timeout(ms(400)).await.unwrap_err();
    assert!(start.elapsed() < ms(400) + SLACK, "{:?}", start.elapsed());
    assert!([ErrorKind::TimedOut, ErrorKind::Unavailable].contains(&error.kind()), "{error}");
    let start = Instant::now();
    let error = locks.mutex("tried").try_acquire().await.unwrap_err();
    assert!(start.elapsed() < ms(2000) + SLACK, "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!error.has_no_effect(), "the server may still do it: {error:?}");
    let start = Instant::now();
    let error = held.release().await.unwrap_err();
    assert!(start.elapsed() < ms(2000) + SLACK, "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    node.thaw().unwrap();
    // Long before the leases of 30 s end.
    nothing_left(&node, ms(5000)).await;
    // The release that goes on behind the error has still to hear that it is done.
    drop(locks.mutex("held").acquire_timeout(ms(3000)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_holds_up_no_close() {
    let mut node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    let held = locks.mutex("held").acquire().await.unwrap();
    node.freeze().unwrap();
    let wanted = locks.mutex("wanted");
    let waiting = tokio::spawn(async move { wanted.acquire().await.map(drop) });
    tokio::time::sleep(ms(100)).await;
    drop(held);
    let start = Instant::now();
    locks.close().await;
    assert!(start.elapsed() < ms(4000) + SLACK, "{:?}", start.elapsed());
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    node.thaw().unwrap();
    nothing_left(&node, ms(5000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answered_holds_up_nobody_either() {
    let mut node = Node::start(&[]).unwrap();
    node.freeze().unwrap();
    let locks = locks_at(node.port());
    let start = Instant::now();
    locks.mutex("m").acquire_timeout(ms(300)).await.unwrap_err();
    assert!(start.elapsed() < ms(300) + SLACK, "{:?}", start.elapsed());
    let start = Instant::now();
    locks.close().await;
    assert!(start.elapsed() < ms(4000) + SLACK, "{:?}", start.elapsed());
    node.thaw().unwrap();
    nothing_left(&node, ms(5000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_a_risk_and_no_loss() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let locks = locks_at(proxy.port());
    let guard = locks.mutex("m").lease(ms(6000)).acquire().await.unwrap();
    proxy.replies(Flow::Hold);
    eventually("a renewal has no answer", ms(6000), || guard.state() == HoldState::AtRisk).await;
    proxy.replies(Flow::Pass);
    eventually("the next renewal has one", ms(6000), || guard.state() == HoldState::Held).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    nothing_left(&node, LONG).await;
}
