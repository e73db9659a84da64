//! Fencing tokens strictly increase, whichever nodes grant them and whatever these forget.

use std::time::Duration;

use pilotman_core::Locks;
use pilotman_redis::Redlock;
use pilotman_testkit::servers::redis::{Replicated, Reply};

use crate::common::{LONG, among, at, ms, within};
use crate::quorum::{Quorum, of};

/// Short, since a node that forgets has no say for so long.
const LONGEST: Duration = Duration::from_millis(600);

/// One hold of each kind of lock; each token must be larger than all before of that lock.
async fn take(locks: &Locks, last: &mut [u64; 3]) {
    let (rw, mutex) = (locks.rw_lock("rw").lease(LONGEST), locks.mutex("m").lease(LONGEST));
    for (lock, nth) in [(&*mutex, 0), (rw.reader(), 1), (rw.writer(), 1)] {
        let guard = within("a lock", LONG, lock.fenced().unwrap().acquire()).await.unwrap();
        assert!(guard.token() > last[nth], "{} after {}", guard.token(), last[nth]);
        last[nth] = guard.token();
        guard.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_across_restarts_without_persistence() {
    let mut quorum = Quorum::start(3);
    let redlock = quorum.redlock().longest_lease(LONGEST);
    quorum.enter_as(redlock.clone()).await;
    let locks = of(redlock.clone());
    let mut last = [0; 3];
    for nth in 0..3 {
        take(&locks, &mut last).await;
        quorum.0[nth].restart().unwrap();
        take(&locks, &mut last).await;
        take(&of(redlock.clone()), &mut last).await;
    }
    // All at once: nothing is left of any token.
    quorum.0.iter_mut().for_each(|node| node.restart().unwrap());
    take(&locks, &mut last).await;
    take(&of(redlock), &mut last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_across_a_failover_that_loses_the_last_ones() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let quorum = Quorum::start(2);
    let ports = [set.primary.port(), set.replicas[0].port()];
    let nodes = || quorum.ports().into_iter().map(at).chain([among(&ports)]);
    let redlock = || Redlock::new(nodes()).name("test").longest_lease(LONGEST);
    let locks = of(redlock());
    locks.check().await.unwrap();
    let mut last = [0; 3];
    take(&locks, &mut last).await;
    set.replicas[0].cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    take(&locks, &mut last).await;
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    take(&locks, &mut last).await;
    take(&of(redlock()), &mut last).await;
}

/// Each time another majority, and clients of their own.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_across_quorum_rotation() {
    let quorum = Quorum::entered(5).await;
    let ways = [quorum.ways(), quorum.ways()];
    let clients = [ways[0].ready().await, ways[1].ready().await];
    let mut last = [0; 3];
    for round in 0..15 {
        let (ways, locks) = (&ways[round % 2], &clients[round % 2]);
        let away = [round % 5, (round * 2 + 1) % 5];
        for node in away {
            ways.cut(node);
        }
        take(locks, &mut last).await;
        for node in away {
            ways.0[node].accept_again().unwrap();
        }
    }
    take(&quorum.locks(), &mut last).await;
}

/// A token that only one node has given, far ahead of all others, is not undercut by those who never ask that node.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_token_of_one_node_is_not_undercut() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (all, without) = (quorum.ready().await, ways.ready().await);
    let mut last = [0; 3];
    take(&all, &mut last).await;
    let counter = "pilotman:quorum:token:mutex:{m}";
    let now: u64 = quorum.0[0].cli(&["GET", counter]).unwrap().integer().unwrap().try_into().unwrap();
    assert!(now >= last[0], "the key is another one");
    let ahead = last[0] + 3_600_000_000;
    for node in &quorum.0 {
        // The others are a bit behind: the maximum must be known to a majority before it is told.
        let token = if node.port() == quorum.0[0].port() { ahead } else { last[0] };
        assert_eq!(node.cli(&["SET", counter, &token.to_string()]).unwrap(), Reply::Text("OK".to_owned()));
    }
    for _ in 0..10 {
        let before = last;
        take(&all, &mut last).await;
        ways.cut(0);
        take(&without, &mut last).await;
        ways.0[0].accept_again().unwrap();
        assert!(last[0] > before[0] + 1);
    }
}

/// In one process the lock goes from one to the next without being given back; each has a token of its own.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_increase_within_a_process() {
    let quorum = Quorum::entered(3).await;
    let (ours, other) = (quorum.ready().await, quorum.ready().await);
    let tokens = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for nth in 0..40 {
        let mutex = if nth % 8 == 0 { other.mutex("m") } else { ours.mutex("m") };
        let tokens = tokens.clone();
        tasks.push(tokio::spawn(async move {
            let guard = mutex.fenced().unwrap().acquire().await.unwrap();
            tokens.lock().unwrap().push(guard.token());
            tokio::time::sleep(ms(1)).await;
            guard.release().await.unwrap();
        }));
    }
    for task in tasks {
        within("all have it once", LONG, task).await.unwrap();
    }
    let tokens = tokens.lock().unwrap();
    assert!(tokens.len() == 40 && tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}
