//! Giving back: once, late, after the loss.

use std::time::{Duration, Instant};

use pilotman_core::{HoldState, LossReason, Release};
use pilotman_testkit::proxy::Flow;

use crate::common::{LONG, ms, within};
use crate::quorum::{Quorum, SOON, scripts_run};

const LEASE: Duration = Duration::from_millis(900);

/// The nodes are told twice, as the first answer was lost: that takes nothing from who has it then.
#[tokio::test(flavor = "multi_thread")]
async fn double_release_is_harmless() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (ours, others) = (ways.ready().await, quorum.ready().await);
    for _ in 0..5 {
        let guard = ours.mutex("m").acquire().await.unwrap();
        quorum.held_on("m", 3).await;
        let lost: Vec<_> = ways.0.iter().map(pilotman_testkit::proxy::Proxy::lost_replies).collect();
        for way in &ways.0 {
            way.lose_reply("EVALSHA", 0);
        }
        let released = tokio::spawn(guard.release());
        let next = within("it is given back", LONG, others.mutex("m").acquire()).await.unwrap();
        for (way, lost) in ways.0.iter().zip(lost) {
            assert!(way.wait_lost_replies(lost + 1, LONG));
        }
        assert_eq!(within("an answer", LONG, released).await.unwrap().unwrap(), Release::Released);
        next.ensure_held().unwrap();
        quorum.held_on("m", 3).await;
        assert_eq!(next.release().await.unwrap(), Release::Released);
        quorum.nothing_left(ms(2000)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn release_of_an_expired_lock_is_told_and_no_retry_storm() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (ours, others) = (ways.ready().await, quorum.ready().await);
    let guard = ours.mutex("m").lease(LEASE).acquire().await.unwrap();
    for way in &ways.0 {
        way.requests(Flow::Hold);
    }
    let next = within("the lease ends", LEASE * 3, others.mutex("m").acquire()).await.unwrap();
    assert_eq!(guard.state(), HoldState::Lost);
    for way in &ways.0 {
        way.pass().unwrap();
    }
    quorum.held_on("m", 3).await;
    let before: Vec<_> = quorum.0.iter().map(scripts_run).collect();
    let start = Instant::now();
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    tokio::time::sleep(ms(1000)).await;
    for (node, before) in quorum.0.iter().zip(before) {
        let run = scripts_run(node) - before;
        assert!(run <= 6, "{run} scripts after a release");
    }
    next.ensure_held().unwrap();
    assert_eq!(quorum.holding("m"), 3, "a late release takes nothing from its successor");
}

/// Nobody else has it, but its keys are gone: the release is what finds out.
#[tokio::test(flavor = "multi_thread")]
async fn release_of_a_lock_that_is_gone_is_told() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &quorum.0[1..] {
        node.cli(&["DEL", "m"]).unwrap();
    }
    let start = Instant::now();
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    quorum.nothing_left(ms(1000)).await;
}

/// With one vote of three gone it was still held.
#[tokio::test(flavor = "multi_thread")]
async fn release_with_one_vote_gone_is_a_release() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    for nth in 0..3 {
        let guard = locks.mutex("m").acquire().await.unwrap();
        quorum.held_on("m", 3).await;
        quorum.0[nth].cli(&["DEL", "m"]).unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        quorum.nothing_left(ms(1000)).await;
    }
}
