//! Fencing tokens strictly increase, whatever the server forgets.

use pilotman_core::Locks;
use pilotman_testkit::servers::redis::{Node, Replicated};

use crate::common::{among, locks, locks_at};

/// One hold of each primitive; their tokens must be larger than all before.
async fn take(locks: &Locks, last: &mut u64) {
    let (rw, semaphore, mutex) = (locks.rw_lock("rw"), locks.semaphore("s", 2), locks.mutex("m"));
    for lock in [&*mutex, rw.reader(), rw.writer(), &*semaphore] {
        let guard = lock.fenced().unwrap().acquire().await.unwrap();
        assert!(guard.token() > *last, "{} after {last}", guard.token());
        *last = guard.token();
        guard.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_over_a_flush_and_a_restart_without_persistence() {
    let mut node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    let mut last = 0;
    for _ in 0..3 {
        take(&locks, &mut last).await;
        node.cli(&["FLUSHALL"]).unwrap();
        take(&locks, &mut last).await;
        node.cli(&["DEL", "pilotman:token"]).unwrap();
        take(&locks, &mut last).await;
        node.restart().unwrap();
    }
    take(&locks, &mut last).await;
    // A counter that is ahead of the clock, as after a clock that was set back.
    let ahead = last + 3_600_000_000;
    node.cli(&["SET", "pilotman:token", &ahead.to_string()]).unwrap();
    last = ahead;
    take(&locks, &mut last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_over_a_failover_that_loses_the_last_ones() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let locks = locks(among(&[set.primary.port(), set.replicas[0].port()]));
    let mut last = 0;
    take(&locks, &mut last).await;
    // From here on the replica hears of nothing.
    set.replicas[0].cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    take(&locks, &mut last).await;
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    take(&locks, &mut last).await;
}
