//! Faults, each with the history checked: no two holders believe at a time, and tokens increase.
//!
//! The hardest case is a holder with a bare majority: the third node is away for it, so that one more node that forgets is
//! enough for a rival to get the other majority.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::{Guard, Locks, Release};
use pilotman_redis::Redlock;
use pilotman_testkit::servers::redis::{Node, Reply};
use tokio::task::JoinHandle;

use crate::common::{LONG, eventually, ms, within};
use crate::history::{Believer, History};
use crate::quorum::{Quorum, Ways, of, start};

/// The first renewal comes after a second; until then a holder knows nothing of what happens to its nodes.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
pub(crate) const LONGEST: Duration = Duration::from_secs(4);

/// A holder that has the nodes 0 and 1 of three.
pub(crate) struct Bare {
    pub(crate) locks: Locks,
    pub(crate) guard: Guard,
    _ways: Ways,
}

pub(crate) async fn bare_majority(quorum: &Quorum, how: fn(Redlock) -> Redlock) -> Bare {
    let ways = quorum.ways();
    let locks = of(how(ways.redlock().longest_lease(LONGEST)));
    locks.check().await.unwrap();
    ways.cut(2);
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    let has: Vec<_> = quorum.0.iter().map(|node| node.cli(&["EXISTS", "m"]).unwrap()).collect();
    assert_eq!(has, [1, 1, 0].map(Reply::Integer));
    Bare { locks, guard, _ways: ways }
}

/// Somebody who wants it by all means: over and over again, until it is told to stop.
pub(crate) struct Rival {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Locks>,
}

impl Rival {
    /// One that knew the nodes before, or a new one for each attempt.
    pub(crate) fn start(who: &'static str, history: &History, locks: impl Fn() -> Locks + Send + 'static) -> Self {
        let (stop, history) = (Arc::new(AtomicBool::new(false)), history.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            loop {
                let locks = locks();
                let mutex = locks.mutex("m").lease(LEASE);
                // By a try and by waiting in turn; either may fail for want of a quorum.
                let mut got = mutex.try_acquire().await.unwrap_or(None);
                if got.is_none() {
                    got = mutex.acquire_timeout(ms(100)).await.ok();
                }
                if let Some(guard) = got {
                    let believer = history.acquired(who, &guard);
                    believer.for_a(ms(30)).await;
                    drop(guard);
                }
                if stopped.load(Ordering::Relaxed) {
                    return locks;
                }
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(within("the rival stops", LONG, self.task).await.unwrap());
    }
}

/// Who tries for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// One that knew the nodes before, and others that have just come.
    Both,
    /// Only those that have just come, and have seen nothing happen.
    New,
}

/// Rivals try for the lock while a holder believes. `breaks` breaks node 1 under it.
async fn rivals_against_a_bare_majority(
    mut quorum: Quorum,
    how: fn(Redlock) -> Redlock,
    who: Who,
    breaks: impl FnOnce(&mut Node),
) -> History {
    let redlock = how(quorum.redlock().longest_lease(LONGEST));
    quorum.enter_as(redlock.clone()).await;
    let known = of(redlock.clone());
    known.check().await.unwrap();
    // It has seen each node's clock.
    known.mutex("warm").try_acquire().await.unwrap();
    let history = History::default();
    let bare = bare_majority(&quorum, how).await;
    let holder = history.acquired("the holder", &bare.guard);
    let believing = tokio::spawn(async move {
        let believed = Instant::now();
        holder.for_a(LONG).await;
        believed.elapsed()
    });
    breaks(&mut quorum.0[1]);
    let mut rivals = vec![Rival::start("a new one", &history, move || of(redlock.clone()))];
    if who == Who::Both {
        rivals.push(Rival::start("who knew the nodes", &history, move || known.clone()));
    }
    let believed = within("the holder is told of its loss", LEASE * 2, believing).await.unwrap();
    println!("the holder believed for {believed:?}");
    eventually("somebody else has it then", LONGEST + LEASE + ms(4000), || history.len() > 1).await;
    for rival in rivals {
        rival.stop().await;
    }
    drop(bare.guard);
    drop(bare.locks);
    history
}

fn as_it_is(redlock: Redlock) -> Redlock {
    redlock
}

async fn a_restart_lets_no_rival_in(who: Who) {
    rivals_against_a_bare_majority(Quorum::start(3), as_it_is, who, |node| node.restart().unwrap()).await.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarted_empty_under_a_bare_majority_lets_no_rival_in() {
    a_restart_lets_no_rival_in(Who::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarted_empty_under_a_bare_majority_lets_no_newcomer_in() {
    a_restart_lets_no_rival_in(Who::New).await;
}

/// That it is the quarantine which keeps them out.
#[tokio::test(flavor = "multi_thread")]
async fn without_quarantine_the_history_is_wrong() {
    let off = |redlock: Redlock| redlock.quarantine(false);
    let restart = |node: &mut Node| node.restart().unwrap();
    let history = rivals_against_a_bare_majority(Quorum::start(3), off, Who::Both, restart).await;
    assert!(history.violation().is_some_and(|wrong| wrong.contains("both held it")));
}

async fn a_flush_lets_no_rival_in(who: Who) {
    let flush = |node: &mut Node| assert_eq!(node.cli(&["FLUSHALL"]).unwrap(), Reply::Text("OK".to_owned()));
    rivals_against_a_bare_majority(Quorum::start(3), as_it_is, who, flush).await.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_flushed_under_a_bare_majority_lets_no_rival_in() {
    a_flush_lets_no_rival_in(Who::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_flushed_under_a_bare_majority_lets_no_newcomer_in() {
    a_flush_lets_no_rival_in(Who::New).await;
}

async fn a_step_lets_no_rival_in(who: Who) {
    let step = |node: &mut Node| {
        node.step_clock(120).unwrap();
        assert_eq!(node.cli(&["EXISTS", "m"]).unwrap(), Reply::Integer(0), "its time is over there");
    };
    let quorum = Quorum(start(3, |_| Node::start_with_clock(&[]).unwrap()));
    rivals_against_a_bare_majority(quorum, as_it_is, who, step).await.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_stepped_forward_under_a_bare_majority_lets_no_rival_in() {
    a_step_lets_no_rival_in(Who::Both).await;
}

/// Nobody has seen the clock before and after, but it shows another time than the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_stepped_forward_under_a_bare_majority_lets_no_newcomer_in() {
    a_step_lets_no_rival_in(Who::New).await;
}

/// A lease lasts longer there then; nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_stepped_back_under_a_holder_costs_nobody_anything() {
    let quorum = Quorum::with_clocks(3).await;
    let ways = quorum.ways();
    let (locks, other) = (ways.ready().await, quorum.ready().await);
    let history = History::default();
    let guard = locks.mutex("m").lease(ms(1500)).acquire().await.unwrap();
    let believer = history.acquired("the holder", &guard);
    quorum.held_on("m", 3).await;
    quorum.0[1].step_clock(-120).unwrap();
    assert!(believer.for_a(ms(3000)).await, "one clock takes no lock away");
    assert!(guard.renewals() >= 2);
    ways.die();
    let next = within("its lease ends", ms(1500) + ms(1500), other.mutex("m").acquire()).await.unwrap();
    assert!(!believer.believes());
    history.acquired("the next one", &next).believes();
    history.check();
}

/// A hundred rounds of four clients, from the twentieth on with one node hung.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_hung_during_a_hundred_contended_rounds() {
    for count in [3, 5] {
        let mut quorum = Quorum::entered(count).await;
        let history = History::default();
        let mut clients = Vec::new();
        for nth in 0..4 {
            let (locks, history) = (quorum.ready().await, history.clone());
            clients.push(tokio::spawn(async move {
                for round in 0..25 {
                    let mutex = locks.mutex("m").lease(LEASE);
                    // By tries as well, which stand in nobody's way.
                    if round % 5 == nth {
                        drop(mutex.try_acquire().await.unwrap());
                    }
                    let guard = mutex.acquire().await.unwrap();
                    let believer = history.acquired(&format!("client {nth}"), &guard);
                    assert!(believer.for_a(ms(3)).await, "no lease ends");
                    assert_eq!(guard.release().await.unwrap(), Release::Released);
                }
            }));
        }
        let start = Instant::now();
        eventually("it is under way", LONG, || history.len() >= 20).await;
        quorum.0[1].freeze().unwrap();
        for client in clients {
            within("all have their turns", LONG, client).await.unwrap();
        }
        println!("{count} nodes: a hundred rounds in {:?}", start.elapsed());
        assert_eq!(history.len(), 100);
        history.check();
        quorum.0[1].thaw().unwrap();
        quorum.nothing_left(ms(10_000)).await;
    }
}

fn all_asked(holds: &[(Guard, History, Believer)]) -> usize {
    holds.iter().filter(|(_, _, believer)| believer.believes()).count()
}

/// Two of five nodes are killed under a hundred locks while somebody else tries for them: kept, or told lost before anybody
/// else has them.
async fn two_of_five_lost(renewed_before: bool) -> usize {
    const LOCKS: usize = 100;
    const LEASE: Duration = Duration::from_millis(2400);
    let mut quorum = Quorum::entered(5).await;
    let (locks, rival) = (quorum.ready().await, quorum.ready().await);
    let mut holds: Vec<(Guard, History, Believer)> = Vec::new();
    for nth in 0..LOCKS {
        let guard = locks.mutex(format!("m{nth}")).lease(LEASE).acquire().await.unwrap();
        let history = History::default();
        let believer = history.acquired("the holder", &guard);
        holds.push((guard, history, believer));
    }
    if renewed_before {
        eventually("all are renewed", LONG, || holds.iter().all(|(guard, ..)| guard.renewals() >= 1)).await;
    }
    let histories: Vec<_> = holds.iter().map(|(_, history, _)| history.clone()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let rival = tokio::spawn(async move {
        let mut kept = Vec::new();
        let mut tries = 0;
        while !stopped.load(Ordering::Relaxed) {
            for (nth, history) in histories.iter().enumerate() {
                // It may fail for want of a quorum.
                if let Ok(Some(guard)) = rival.mutex(format!("m{nth}")).lease(LEASE).try_acquire().await {
                    history.acquired("the rival", &guard).believes();
                    kept.push(guard);
                }
                tries += 1;
            }
            tokio::task::yield_now().await;
        }
        (kept.len(), tries)
    });
    for nth in [0, 1] {
        quorum.0[nth].kill().unwrap();
    }
    let start = Instant::now();
    while start.elapsed() < LEASE * 2 {
        all_asked(&holds);
        tokio::time::sleep(ms(2)).await;
    }
    // They come back empty.
    for nth in [0, 1] {
        quorum.0[nth].restart().unwrap();
    }
    let start = Instant::now();
    while start.elapsed() < LEASE {
        all_asked(&holds);
        tokio::time::sleep(ms(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (taken, tries) = within("the rival ends", LONG, rival).await.unwrap();
    let still = all_asked(&holds);
    println!("{still} of {LOCKS} kept, {taken} taken by a rival in {tries} tries");
    assert!(tries > LOCKS);
    holds.iter().for_each(|(_, history, _)| history.check());
    still
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_lost_under_a_hundred_holds_that_were_renewed_keeps_them() {
    // What the rival tried for at that moment may not have been whole; such a hold is told lost.
    let kept = two_of_five_lost(true).await;
    assert!(kept >= 95, "{kept}");
}

/// All five nodes have granted each of them long since, though the acquire had not waited for the last two.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_lost_under_a_hundred_new_holds_keeps_them() {
    let kept = two_of_five_lost(false).await;
    assert!(kept >= 90, "{kept}");
}
