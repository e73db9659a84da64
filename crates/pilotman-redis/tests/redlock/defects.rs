//! Defects that other libraries have or had, and that could exist here; each is named after the library and its defect.
//!
//! Those that the checklist has already: rslock's failed `extend` that unlocks (`renewal::transient_oom…`) and its wait for
//! a hung node (`hung::…`); redsync's bare majority (`faults::…`); Redisson's unrenewed and endlessly renewed locks
//! (`renewal::…`); rueidislock's wait for an expiry that nobody tells (`waiting::waiter_wakes…`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, Primitive, Release};

use crate::common::{LONG, eventually, granted, ms, waiter, within};
use crate::quorum::{Quorum, SOON, queued, scripts_run};

/// A lease below a constant of the library (500 ms) panicked, or was never extended.
#[tokio::test(flavor = "multi_thread")]
async fn rslock_a_short_lease_underflows() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let mutex = locks.mutex("m").lease(ms(400));
    let start = Instant::now();
    let work = mutex.run(|held| async move {
        while start.elapsed() < ms(1200) {
            tokio::time::sleep(ms(10)).await;
            held.ensure_held().unwrap();
        }
        held.renewals()
    });
    let renewals = work.await.unwrap();
    assert!(renewals >= 3, "{renewals}");
}

/// What was granted too late to be of use was kept.
#[tokio::test(flavor = "multi_thread")]
async fn rslock_a_grant_that_comes_too_late_is_kept() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let locks = ways.ready().await;
    // The requests arrive at once; the answers are late.
    ways.0.iter().for_each(|way| way.delay(Duration::ZERO, ms(900)));
    let start = Instant::now();
    // An answer may take an eighth of this.
    let error = locks.mutex("m").lease(ms(4000)).try_acquire().await.unwrap_err();
    assert!([ErrorKind::NoQuorum, ErrorKind::Unavailable].contains(&error.kind()), "{error}");
    assert!(start.elapsed() < ms(900), "{:?}", start.elapsed());
    quorum.nothing_left(ms(1000)).await;
    assert!(start.elapsed() < ms(2500), "it was not left to the lease: {:?}", start.elapsed());
    ways.0.iter().for_each(|way| way.pass().unwrap());
    drop(within("it is free", LONG, locks.mutex("m").acquire()).await.unwrap());
}

/// A guard that was dropped did nothing, or blocked: with a runtime, without one, and in another thread.
#[test]
fn rslock_a_dropped_guard_does_nothing_or_blocks() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let quorum = runtime.block_on(Quorum::entered(3));
    let locks = quorum.locks();
    let acquire = |name: &str| runtime.block_on(locks.mutex(name).acquire()).unwrap();
    let (here, there, inside) = (acquire("here"), acquire("there"), acquire("inside"));
    let start = Instant::now();
    drop(here);
    thread::spawn(move || drop(there)).join().unwrap();
    runtime.block_on(async move { drop(inside) });
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    runtime.block_on(quorum.nothing_left(ms(2000)));
}

/// Whether a lock is free was said by the node that answered first.
#[tokio::test(flavor = "multi_thread")]
async fn rslock_is_freed_trusts_the_first_node() {
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let holders = || async { locks.inspect("m", Primitive::Mutex).await.unwrap().holders };
    quorum.0[0].cli(&["SET", "m", "somebody else", "PX", "60000"]).unwrap();
    assert_eq!(holders().await.len(), 0, "one node is no quorum");
    quorum.0[0].cli(&["DEL", "m"]).unwrap();
    let guard = locks.mutex("m").acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    for node in &quorum.0 {
        assert_eq!(holders().await.len(), 1);
        assert_eq!(holders().await[0].token, guard.token());
        node.cli(&["DEL", "m"]).unwrap();
        if node.port() == quorum.0[0].port() {
            assert_eq!(holders().await.len(), 1, "two of three have it");
        } else {
            assert_eq!(holders().await.len(), 0, "{}", node.port());
            break;
        }
    }
}

/// The work under a lock stood still while the lock was being extended.
#[tokio::test(flavor = "multi_thread")]
async fn rslock_work_stands_still_during_an_extension() {
    const LEASE: Duration = Duration::from_millis(1500);
    let mut quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let ticks = Arc::new(AtomicU64::new(0));
    let (ticking, mutex) = (ticks.clone(), locks.mutex("m").lease(LEASE));
    let work = tokio::spawn(async move {
        mutex
            .run(|_| async move {
                loop {
                    tokio::time::sleep(ms(5)).await;
                    ticking.fetch_add(1, Ordering::Relaxed);
                }
            })
            .await
    });
    eventually("it works", LONG, || ticks.load(Ordering::Relaxed) > 5).await;
    quorum.0.iter_mut().for_each(|node| node.freeze().unwrap());
    let frozen = Instant::now();
    let mut last = ticks.load(Ordering::Relaxed);
    // A renewal is under way from a third of the lease on.
    while frozen.elapsed() < LEASE * 2 / 3 {
        tokio::time::sleep(ms(150)).await;
        let now = ticks.load(Ordering::Relaxed);
        assert!(now > last, "it stands still after {:?}", frozen.elapsed());
        last = now;
    }
    let ended: pilotman_core::Result<()> = within("it is cancelled with the lease", LEASE * 2, work).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Lost);
    quorum.0.iter_mut().for_each(|node| node.thaw().unwrap());
}

/// With an even number of nodes a tie was no result, and the attempt never ended.
#[tokio::test(flavor = "multi_thread")]
async fn node_redlock_a_tie_never_settles() {
    let quorum = Quorum::entered(2).await;
    let locks = [quorum.ready().await, quorum.ready().await];
    for nth in 0..20 {
        let tries = locks.each_ref().map(|locks| {
            let mutex = locks.mutex(format!("m{nth}"));
            tokio::spawn(async move { mutex.try_acquire().await })
        });
        let mut won = 0;
        for one in tries {
            let guard = within("a tie is resolved", ms(3000), one).await.unwrap().unwrap();
            won += usize::from(guard.is_some_and(|guard| guard.ensure_held().is_ok()));
        }
        // Who wins may have given it back before the other one asked.
        assert!(won >= 1, "nobody has won round {nth}");
    }
}

/// The time of a lock began when the caller first tried, or when the last answer came. It begins with the question.
#[tokio::test(flavor = "multi_thread")]
async fn node_redlock_the_lease_begins_at_the_wrong_time() {
    const LEASE: Duration = Duration::from_secs(6);
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let (slow, holder) = (ways.ready().await, quorum.ready().await);
    ways.0.iter().for_each(|way| way.delay(ms(150), ms(150)));
    let guard = within("an answer", LONG, slow.mutex("m").lease(LEASE).acquire()).await.unwrap();
    let left = guard.remaining().unwrap();
    assert!(left <= LEASE - ms(300) - LEASE / 100, "{left:?} after answers that took 300 ms");
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    ways.0.iter().for_each(|way| way.delay(Duration::ZERO, Duration::ZERO));
    // Who has waited for long has the whole lease, or what is given to waiters at first.
    let guard = within("it is free", LONG, holder.mutex("m").lease(LEASE).acquire()).await.unwrap();
    let next = waiter(&slow.mutex("m").lease(LEASE));
    tokio::time::sleep(LEASE * 2 / 3).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let next = granted("it is handed on", ms(2000), next).await;
    let left = next.remaining().unwrap();
    assert!(left > ms(1000) && left <= LEASE, "{left:?}");
}

/// The release of a lock that had expired tried for seconds, and said what all other failures said.
#[tokio::test(flavor = "multi_thread")]
async fn node_redlock_release_of_an_expired_lock_tries_for_seconds() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let locks = ways.ready().await;
    let guard = locks.mutex("m").lease(ms(500)).acquire().await.unwrap();
    ways.die();
    within("the lease ends", LONG, guard.lost()).await;
    let start = Instant::now();
    let released = guard.release().await.unwrap();
    assert!(matches!(released, Release::AlreadyLost(_)), "{released:?}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// Unlock and extend had no time-out of their own.
#[tokio::test(flavor = "multi_thread")]
async fn redsync_a_release_waits_for_ever() {
    let mut quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let guard = locks.mutex("m").lease(ms(6000)).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    quorum.0[1..].iter_mut().for_each(|node| node.freeze().unwrap());
    let start = Instant::now();
    let error = guard.release().await.unwrap_err();
    assert!(start.elapsed() < ms(2000) + SOON, "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::NoQuorum, "{error}");
    let start = Instant::now();
    locks.close().await;
    assert!(start.elapsed() < ms(6000), "a close took {:?}", start.elapsed());
    quorum.0[1..].iter_mut().for_each(|node| node.thaw().unwrap());
    quorum.nothing_left(ms(9000)).await;
}

/// All waiters of a process shared few subscriptions, and ran out of them; others missed their wake-ups.
#[tokio::test(flavor = "multi_thread")]
async fn redisson_waiters_run_out_of_subscriptions() {
    const NAMES: usize = 300;
    let quorum = Quorum::entered(3).await;
    let (holder, other) = (quorum.ready().await, quorum.ready().await);
    let mut guards = Vec::new();
    for nth in 0..NAMES {
        guards.push(holder.mutex(format!("m{nth}")).acquire().await.unwrap());
    }
    let waits: Vec<_> = (0..NAMES).map(|nth| waiter(&other.mutex(format!("m{nth}")))).collect();
    for nth in 0..NAMES {
        queued(&quorum.0[2], &format!("m{nth}"), 1).await;
    }
    let connections = quorum.0[0].cli(&["CLIENT", "LIST"]).unwrap().to_string();
    let ours = connections.lines().filter(|line| line.contains("name=pilotman")).count();
    assert_eq!(ours, 2, "one for each process");
    let start = Instant::now();
    drop(guards);
    for wait in waits {
        let guard = granted("each waiter is woken", ms(5000), wait).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    println!("{NAMES} hand-offs in {:?}", start.elapsed());
    quorum.nothing_left(ms(3000)).await;
}

/// Many locks at once overflowed the stack when they were renewed.
#[tokio::test(flavor = "multi_thread")]
async fn redisson_many_locks_overflow_the_stack() {
    const LEASE: Duration = Duration::from_millis(1500);
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let mut guards = Vec::new();
    // Taken by and by: it is about renewing so many at once.
    for hundred in 0..20 {
        let tasks: Vec<_> = (0..100)
            .map(|nth| {
                let mutex = locks.mutex(format!("m{hundred}-{nth}")).lease(LEASE * 10);
                tokio::spawn(async move { mutex.acquire().await.unwrap() })
            })
            .collect();
        for task in tasks {
            guards.push(task.await.unwrap());
        }
    }
    let renewed = || {
        for guard in &guards {
            assert!(guard.state() != HoldState::Lost, "{:?}, after {} renewals", guard.ensure_held(), guard.renewals());
        }
        guards.iter().all(|guard| guard.renewals() >= 1)
    };
    eventually("all are renewed", LONG, renewed).await;
    drop(guards);
    quorum.nothing_left(LONG).await;
}

/// Waiters slept up to 800 ms before they noticed a release, and asked all the time meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn medallion_waiters_poll() {
    let quorum = Quorum::entered(3).await;
    let (holder, other) = (quorum.ready().await, quorum.ready().await);
    let mut total = Duration::ZERO;
    for _ in 0..10 {
        let guard = holder.mutex("m").acquire().await.unwrap();
        let next = waiter(&other.mutex("m"));
        for node in &quorum.0 {
            queued(node, "m", 1).await;
        }
        let start = Instant::now();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        let next = granted("it is handed on", ms(2000), next).await;
        total += start.elapsed();
        assert_eq!(next.release().await.unwrap(), Release::Released);
    }
    println!("a hand-off takes {:?}", total / 10);
    assert!(total / 10 < ms(150), "{total:?} for ten");
    let guard = holder.mutex("m").acquire().await.unwrap();
    let next = waiter(&other.mutex("m"));
    queued(&quorum.0[0], "m", 1).await;
    tokio::time::sleep(ms(300)).await;
    let before = scripts_run(&quorum.0[0]);
    tokio::time::sleep(ms(2000)).await;
    let asked = scripts_run(&quorum.0[0]) - before;
    assert!(asked <= 6, "asked {asked} times in two seconds");
    drop(guard);
    drop(granted("it is handed on", ms(2000), next).await);
}

/// The success of a renewal that was still under way from the last round counted for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn medallion_an_old_renewal_counts_for_a_new_one() {
    const LEASE: Duration = Duration::from_secs(3);
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let locks = ways.ready().await;
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    eventually("renewed", LONG, || guard.renewals() >= 1).await;
    // The answers of the next rounds are held up until the lease is nearly over.
    ways.0.iter().for_each(|way| way.replies(pilotman_testkit::proxy::Flow::Hold));
    let held_up = Instant::now();
    let before = guard.remaining().unwrap();
    eventually("nearly over", LEASE, || guard.remaining().unwrap() < ms(600)).await;
    assert!(held_up.elapsed() >= before - ms(900), "it was extended without an answer");
    // What comes late is of questions that were sent long ago; the keys are gone meanwhile.
    for node in &quorum.0 {
        node.cli(&["DEL", "m"]).unwrap();
    }
    ways.0.iter().for_each(|way| way.replies(pilotman_testkit::proxy::Flow::Pass));
    let start = Instant::now();
    while guard.state() != HoldState::Lost {
        assert!(start.elapsed() < LEASE, "answers of before the loss kept it alive");
        tokio::time::sleep(ms(2)).await;
    }
}
