//! Waits, hand-offs and what is abandoned.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use pilotman_conformance::faults::{Faulty, Operation};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{ErrorKind, HoldState, Locks, LossReason, Primitive, Release, Waiting};
use tokio::task::JoinHandle;

use crate::world::*;

#[test]
fn a_dropped_acquire_is_abandoned() {
    let world = world();
    // Other options, so that the acquire asks the backend although the hold is this process's own.
    let guard = world.run(world.locks.mutex("a").acquire()).unwrap();
    // Polled once: its attempt is on the way. Not polled: there is nothing to give back.
    for polled in [true, false] {
        world.faults.clear_log();
        let mutex = world.locks.mutex("a").lease(LEASE);
        let mut acquire = Box::pin(async move { mutex.acquire().await.map(drop) });
        if polled {
            assert!(acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            world.settle();
        }
        drop(acquire);
        world.settle();
        let asked: Vec<_> = world.faults.log_of(Operation::Enqueue).into_iter().flat_map(|call| call.ids).collect();
        let abandoned: Vec<_> = world.faults.log_of(Operation::Abandon).into_iter().flat_map(|call| call.ids).collect();
        assert_eq!(asked.len(), usize::from(polled));
        assert_eq!(abandoned, asked, "the same attempt, once");
    }
    let found = world.run(world.locks.inspect("a", Primitive::Mutex)).unwrap();
    assert_eq!((found.holders.len(), found.waiters), (1, Some(0)));
    drop(guard);
    world.assert_nothing_left();
}

#[test]
fn a_grant_that_nobody_waits_for_any_longer_goes_back() {
    let world = world();
    for polls in 0..4 {
        // Dropped when the attempt was made and its answer, perhaps, is on its way.
        let mutex = world.locks.mutex("a").lease(LEASE);
        let mut acquire: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move { drop(mutex.try_acquire().await) });
        for _ in 0..polls {
            if acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            world.run(tokio::task::yield_now());
        }
        drop(acquire);
        world.assert_nothing_left();
    }
}

#[test]
fn an_abandonment_is_repeated_until_it_works() {
    let world = world();
    world.faults.drop_replies(Operation::TryAcquire);
    world.faults.fail_times(Operation::Abandon, 2, outage());
    let mutex = world.locks.mutex("a");
    let attempt = world.spawn(async move { mutex.try_acquire().await.map(drop) });
    world.advance(2 * SECOND);
    let error = world.run(attempt).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.has_no_effect()), (ErrorKind::Unavailable, false));
    assert_eq!(world.holders("a"), 1, "it was granted although nobody heard of it");
    world.advance(SECOND);
    assert_eq!(world.times(Operation::Abandon), [2000, 2050, 2150]);
    world.assert_nothing_left();
}

#[test]
fn a_time_out_does_not_wait_for_a_hung_server() {
    let world = world();
    world.faults.hang_all();
    let mutex = world.locks.mutex("a");
    let acquire = world.spawn(async move { mutex.try_acquire_for(200 * MILLI).await.map(|guard| guard.is_some()) });
    world.advance(199 * MILLI);
    assert!(!acquire.is_finished());
    world.advance(MILLI);
    assert!(acquire.is_finished(), "not a millisecond late");
    assert!(!world.run(acquire).unwrap().unwrap());
    world.faults.heal();
    world.advance(10 * SECOND);
    world.assert_nothing_left();
}

#[test]
fn a_close_does_not_wait_for_a_hung_server() {
    let world = world();
    drop(world.take("a"));
    world.faults.hang_all();
    let locks = world.locks.clone();
    let closed = world.spawn(async move { locks.close().await });
    world.advance(2 * SECOND - MILLI);
    assert!(!closed.is_finished(), "it waits for a server that may only be slow");
    world.advance(2 * SECOND + MILLI);
    assert!(closed.is_finished());
}

#[test]
fn a_close_does_not_wait_for_a_backend_that_can_not_close() {
    let world = world();
    world.faults.hang(Operation::Close);
    let locks = world.locks.clone();
    let closed = world.spawn(async move { locks.close().await });
    world.advance(2 * SECOND - MILLI);
    assert!(!closed.is_finished());
    assert_eq!(world.calls(Operation::Close), 1);
    world.advance(MILLI);
    assert!(closed.is_finished());
}

#[test]
fn one_waiter_of_a_process_stands_in_the_remote_queue() {
    let world = world();
    let guard = world.take("a");
    world.faults.clear_log();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let mutex = world.locks.mutex("a").lease(LEASE);
            world.spawn(async move { mutex.acquire().await.map(drop) })
        })
        .collect();
    assert_eq!(
        world.calls(Operation::Enqueue) + world.calls(Operation::TryAcquire),
        0,
        "a hold of ours is out already"
    );
    drop(guard);
    world.settle();
    assert!(waiters.iter().all(JoinHandle::is_finished));
    world.assert_nothing_left();
}

#[test]
fn sixteen_hand_offs_then_the_server_decides() {
    let world = world();
    let guard = world.take("a");
    world.faults.clear_log();
    let served = Arc::new(AtomicUsize::new(0));
    for place in 0..40 {
        let (mutex, served) = (world.locks.mutex("a").lease(LEASE), served.clone());
        world.spawn(async move {
            let guard = mutex.acquire().await.unwrap();
            assert_eq!(served.fetch_add(1, Ordering::SeqCst), place, "first in, first out");
            guard.release().await.unwrap()
        });
    }
    drop(guard);
    world.advance(SECOND);
    assert_eq!(served.load(Ordering::SeqCst), 40);
    // Nobody waited when the first holder came, so there is one hand-off; then a holder by grant and 16 hand-offs, twice;
    // then one and the 4 that are left.
    assert_eq!(world.calls(Operation::Enqueue), 3);
    assert_eq!(world.calls(Operation::Release), 4);
    assert_eq!(world.calls(Operation::Mint), 37, "a fresh token for each hand-off");
    world.assert_nothing_left();
}

#[test]
fn a_hand_off_without_a_token_is_refused_and_the_next_one_served() {
    let world = world();
    let guard = world.take("a");
    world.faults.fail_times(Operation::Mint, 1, outage());
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let mutex = world.locks.mutex("a").lease(LEASE);
            world.spawn(async move { mutex.acquire().await.map(|guard| guard.token()) })
        })
        .collect();
    let token = guard.token().unwrap();
    drop(guard);
    world.advance(SECOND);
    let mut answers = waiters.into_iter().map(|waiter| {
        assert!(waiter.is_finished(), "a waiter starves");
        world.run(waiter).unwrap()
    });
    assert_eq!(answers.next().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(answers.next().unwrap().unwrap().unwrap() > token);
    world.assert_nothing_left();
}

#[test]
fn what_is_at_risk_is_not_handed_on() {
    let world = world();
    let guard = world.take("a");
    world.faults.fail(Operation::Renew, outage());
    world.advance_to(11 * SECOND);
    assert_eq!(guard.state(), HoldState::AtRisk);
    let mutex = world.locks.mutex("a").lease(LEASE);
    let waiter = world.spawn(async move { mutex.acquire().await.unwrap() });
    world.faults.clear_log();
    drop(guard);
    world.settle();
    let next = world.run(waiter).unwrap();
    assert_eq!((world.calls(Operation::Release), world.calls(Operation::Enqueue)), (1, 1));
    assert_eq!(next.state(), HoldState::Held);
}

#[test]
fn polling_backs_off_and_keeps_to_the_longest_pause() {
    for (retry, least, most) in [(None, 20, 400), (Some(50 * MILLI), 190, 1000)] {
        let world = world_of(Waiting::Poll);
        let guard = world.run(world.locks.mutex("a").acquire()).unwrap();
        let mutex = world.locks.mutex("a");
        // Other options, so that it asks the backend although the hold is this process's own.
        let mutex = mutex.retry(retry.unwrap_or(500 * MILLI));
        world.faults.clear_log();
        let waiter = world.spawn(async move { mutex.acquire().await.map(drop) });
        world.advance(10 * SECOND);
        let times = world.times(Operation::TryAcquire);
        assert!((least..=most).contains(&times.len()), "{} attempts in 10 s", times.len());
        let longest = retry.unwrap_or(500 * MILLI).as_millis() as u64;
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= longest + 1), "{times:?}");
        drop(guard);
        world.advance(500 * MILLI);
        assert!(waiter.is_finished());
        world.assert_nothing_left();
    }
}

#[test]
fn a_watch_wakes_and_nothing_polls_meanwhile() {
    let world = world_of(Waiting::Watch);
    let guard = world.run(world.locks.mutex("a").acquire()).unwrap();
    let mutex = world.locks.mutex("a").retry(SECOND);
    world.faults.clear_log();
    let waiter = world.spawn(async move { mutex.acquire().await.map(drop) });
    assert_eq!(world.calls(Operation::Watch), 1);
    drop(guard);
    world.settle();
    assert!(waiter.is_finished(), "woken at once, at the same moment of the simulated time");
    world.assert_nothing_left();
}

#[test]
fn an_error_in_the_wait_is_told_to_all_who_wait() {
    let world = world();
    let guard = world.run(world.locks.mutex("a").acquire()).unwrap();
    // Other options, so that these wait at the backend.
    world.faults.fail(Operation::Enqueue, outage());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let mutex = world.locks.mutex("a").retry(SECOND);
            world.spawn(async move { mutex.acquire().await.map(drop) })
        })
        .collect();
    for waiter in waiters {
        let error = world.run(waiter).unwrap().unwrap_err();
        assert_eq!((error.kind(), error.lock(), error.backend()), (ErrorKind::Unavailable, Some("a"), Some("memory")));
    }
    world.faults.heal();
    drop(guard);
    world.assert_nothing_left();
}

#[test]
fn hold_at_most_counts_for_each_holder_anew() {
    let world = world();
    let mutex = world.locks.mutex("a").hold_at_most(SECOND);
    let first = world.run(mutex.acquire()).unwrap();
    world.advance(900 * MILLI);
    let waiter = world.spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await.unwrap() }
    });
    drop(first);
    world.settle();
    let second = world.run(waiter).unwrap();
    world.advance(900 * MILLI);
    assert_eq!(second.state(), HoldState::Held, "its own second has not passed");
    world.advance(100 * MILLI);
    assert_eq!(second.state(), HoldState::Lost);
    assert_eq!(world.run(second.release()).unwrap(), Release::AlreadyLost(LossReason::HoldLimit));
    world.assert_nothing_left();
}

#[test]
fn an_upgrade_that_is_dropped_is_withdrawn() {
    let world = world();
    let lock = world.locks.rw_lock("a");
    let reader = world.run(lock.read()).unwrap();
    let mut guard = world.run(lock.upgradeable_read()).unwrap();
    {
        let mut upgrade = Box::pin(guard.upgrade());
        assert!(matches!(upgrade.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        world.settle();
        assert!(world.run(lock.try_read()).unwrap().is_none(), "an upgrade that waits keeps readers out");
    }
    world.settle();
    assert!(world.run(lock.try_read()).unwrap().is_some(), "one that was dropped doesn't");
    assert!(!guard.is_upgraded());
    drop((reader, guard));
    world.assert_nothing_left();
}

#[test]
fn without_holds_and_waiters_nothing_happens() {
    let world = world();
    drop(world.take("a"));
    let waiting = world.locks.mutex("a");
    world.run(async { drop(waiting.try_acquire_for(SECOND).await) });
    world.settle();
    world.faults.clear_log();
    world.advance(LEASE);
    assert_eq!(world.clock.next_alarm(), None, "no timer is left");
    world.advance(3600 * SECOND);
    assert_eq!(world.faults.log(), []);
}

#[test]
fn an_attempt_right_after_an_acquire_is_made() {
    // Real threads: the driver that has just delivered the first hold may not have ended yet.
    let locks = Locks::new(Faulty::new(MemoryBackend::new()));
    let lock = locks.rw_lock("a");
    let mutex = locks.mutex("b");
    for round in 0..3000 {
        let first = pollster::block_on(lock.read()).unwrap();
        let second = pollster::block_on(lock.try_read()).unwrap();
        assert!(second.is_some(), "round {round}: a reader was refused beside a reader");
        pollster::block_on(first.release()).unwrap();
        let held = pollster::block_on(mutex.acquire()).unwrap();
        pollster::block_on(held.release()).unwrap();
        assert!(pollster::block_on(mutex.try_acquire()).unwrap().is_some(), "round {round}: a free mutex was refused");
    }
}
