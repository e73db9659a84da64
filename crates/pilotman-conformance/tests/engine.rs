//! The engine's remote paths under simulated time: the memory backend behind [`Faulty`], a clock that moves when told
//! to, and a runtime that runs when told to. What happens is exact, so it is asserted exactly.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pilotman_conformance::faults::{Faults, Faulty, Operation};
use pilotman_core::backend::AttemptId;
use pilotman_core::clock::{Clock, ManualClock, Time};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{Error, ErrorKind, Guard, HoldState, Locks, LossReason, Primitive, Release, Waiting};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

struct World {
    runtime: Runtime,
    clock: Arc<ManualClock>,
    locks: Locks,
    faults: Faults,
}

const LEASE: Duration = Duration::from_secs(30);
/// 1 % of the lease and 2 ms.
const DRIFT: Duration = Duration::from_millis(302);
const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn world() -> World {
    world_of(Waiting::Queue)
}

fn world_of(waiting: Waiting) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = ManualClock::new();
    let backend = Faulty::new(MemoryBackend::new()).waiting(waiting);
    let faults = backend.faults();
    let locks = Locks::builder(backend).clock(clock.clone()).runtime(runtime.handle().clone()).build();
    World { runtime, clock, locks, faults }
}

impl World {
    /// Runs what can run without time going by.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets time go by, from alarm to alarm, and runs what each one wakes.
    fn advance(&self, by: Duration) {
        let end = self.clock.now().after(by);
        self.settle();
        while let Some(alarm) = self.clock.next_alarm().filter(|alarm| *alarm <= end) {
            self.clock.advance(alarm.since(self.clock.now()));
            self.settle();
        }
        self.clock.advance(end.since(self.clock.now()));
        self.settle();
    }

    fn advance_to(&self, since_start: Duration) {
        self.advance(Time::ZERO.after(since_start).since(self.clock.now()));
        assert_eq!(self.clock.now(), Time::ZERO.after(since_start), "time went by already");
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let task = self.runtime.spawn(future);
        self.settle();
        task
    }

    fn take(&self, name: &str) -> Guard {
        self.run(self.locks.mutex(name).lease(LEASE).acquire()).unwrap()
    }

    fn holders(&self, name: &str) -> usize {
        self.run(self.locks.inspect(name, Primitive::Mutex)).unwrap().holders.len()
    }

    fn calls(&self, operation: Operation) -> usize {
        self.faults.calls(operation)
    }

    /// When calls of an operation were made, in milliseconds.
    fn times(&self, operation: Operation) -> Vec<u64> {
        self.faults.log_of(operation).iter().map(|call| call.at.as_nanos() / 1_000_000).collect()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        self.settle();
        assert_eq!(self.run(self.locks.list()).unwrap(), []);
    }
}

fn outage() -> Error {
    Error::unavailable("refused for a test")
}

#[test]
fn the_first_renewal_is_at_a_third_and_the_next_ones_too() {
    let world = world();
    let guard = world.take("a");
    world.advance_to(10 * SECOND - MILLI);
    assert_eq!(world.calls(Operation::Renew), 0);
    world.advance_to(60 * SECOND + MILLI);
    assert_eq!(world.times(Operation::Renew), [10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
    assert_eq!(guard.state(), HoldState::Held);
    assert_eq!(guard.remaining(), Some(LEASE - DRIFT - MILLI));
    assert_eq!(world.run(guard.release()).unwrap(), Release::Released);
}

#[test]
fn renewals_of_many_go_out_together() {
    let world = world();
    let guards: Vec<_> = (0..200)
        .map(|i| {
            world.advance(5 * MILLI);
            world.take(&i.to_string())
        })
        .collect();
    world.faults.clear_log();
    world.advance(LEASE);
    let log = world.faults.log_of(Operation::Renew);
    assert!(log.len() <= 4, "{} batches for 200 leases that were taken within a second", log.len());
    assert_eq!(log.iter().map(|call| call.ids.len()).max(), Some(200), "in step after the first round");
    assert!(guards.iter().all(|guard| guard.state() == HoldState::Held));
}

#[test]
fn what_was_released_or_dropped_is_not_renewed() {
    let world = world();
    let (released, dropped, kept) = (world.take("a"), world.take("b"), world.take("c"));
    world.run(released.release()).unwrap();
    drop(dropped);
    world.advance(LEASE);
    assert!(world.calls(Operation::Renew) > 0);
    assert!(world.faults.log_of(Operation::Renew).iter().all(|call| call.ids.len() == 1));
    drop(kept);
    world.settle();
    let renewals = world.calls(Operation::Renew);
    world.advance(10 * LEASE);
    assert_eq!(world.calls(Operation::Renew), renewals);
    world.assert_nothing_left();
}

#[test]
fn failed_renewals_are_a_risk_and_a_loss_at_the_deadline() {
    let world = world();
    let guard = world.take("a");
    let lost = world.spawn(guard.lost());
    world.faults.fail(Operation::Renew, outage());
    world.advance_to(10 * SECOND);
    assert_eq!(guard.state(), HoldState::AtRisk);
    assert!(guard.ensure_held().is_ok());
    let deadline = LEASE - DRIFT;
    world.advance_to(deadline - MILLI);
    assert_eq!((guard.state(), guard.remaining()), (HoldState::AtRisk, Some(MILLI)));
    assert!(world.calls(Operation::Renew) >= 13, "it goes on trying: {:?}", world.times(Operation::Renew));
    assert!(!lost.is_finished());
    world.advance_to(deadline);
    assert_eq!(guard.state(), HoldState::Lost);
    assert_eq!(world.holders("a"), 1, "for others it is still held: the loss was told first");
    assert_eq!(world.run(lost).unwrap(), LossReason::Expired);
    let renewals = world.calls(Operation::Renew);
    world.faults.heal();
    world.advance(LEASE);
    assert_eq!(world.calls(Operation::Renew), renewals, "what is lost is not renewed");
    assert_eq!(guard.state(), HoldState::Lost, "lost is final");
    assert_eq!(world.run(guard.release()).unwrap(), Release::AlreadyLost(LossReason::Expired));
}

#[test]
fn a_hung_renewal_is_given_up_and_tried_again() {
    let world = world();
    let guard = world.take("a");
    world.faults.hang(Operation::Renew);
    world.advance_to(12 * SECOND - MILLI);
    assert_eq!(guard.state(), HoldState::Held, "an operation may take 2 s");
    world.advance_to(12 * SECOND);
    assert_eq!(guard.state(), HoldState::AtRisk);
    world.advance_to(14 * SECOND);
    let tries = world.calls(Operation::Renew);
    assert!(tries >= 2, "{tries}");
    // The try that is under way is let through when it is healed.
    world.faults.heal();
    world.settle();
    assert_eq!(guard.state(), HoldState::Held);
    assert!(guard.remaining().unwrap() > 27 * SECOND, "{:?}", guard.remaining());
    world.advance(LEASE);
    assert_eq!(guard.state(), HoldState::Held);
}

#[test]
fn a_hung_renewal_of_some_holds_up_no_others() {
    let world = world();
    let first = world.take("a");
    world.advance_to(5 * SECOND);
    let second = world.take("b");
    world.faults.hang(Operation::Renew);
    world.advance_to(11 * SECOND);
    world.faults.heal_one(Operation::Renew);
    world.advance_to(15 * SECOND + MILLI);
    assert_eq!(second.remaining(), Some(LEASE - DRIFT - MILLI), "renewed when it was due");
    assert_eq!(first.state(), HoldState::Held);
}

#[test]
fn a_lease_counts_from_when_the_request_was_sent() {
    let world = world();
    world.faults.delay(Operation::TryAcquire, 1900 * MILLI);
    let mutex = world.locks.mutex("a").lease(LEASE);
    let guard = world.spawn(async move { mutex.try_acquire().await.unwrap().unwrap() });
    world.advance_to(1900 * MILLI);
    let guard = world.run(guard).unwrap();
    // The memory backend says itself from when the lease counts; a renewal leaves it to the engine.
    world.faults.delay(Operation::Renew, 1500 * MILLI);
    let renewal = 10 * SECOND + 1900 * MILLI;
    world.advance_to(renewal + 1500 * MILLI);
    assert_eq!(world.times(Operation::Renew), [renewal.as_millis() as u64]);
    assert_eq!(guard.remaining(), Some(LEASE - DRIFT - 1500 * MILLI));
}

#[test]
fn a_good_answer_after_the_deadline_does_not_resurrect() {
    let world = world();
    let guard = world.take("a");
    world.faults.fail(Operation::Renew, outage());
    world.advance_to(28 * SECOND + 200 * MILLI);
    // The next try gets through to the server in time, and its answer comes after the deadline.
    world.faults.delay(Operation::Renew, 1700 * MILLI);
    world.advance_to(LEASE - DRIFT);
    assert_eq!(guard.state(), HoldState::Lost);
    world.advance_to(31 * SECOND);
    assert_eq!(guard.state(), HoldState::Lost);
    assert_eq!(guard.remaining(), Some(Duration::ZERO));
}

#[test]
fn a_report_of_a_loss_is_told_at_once() {
    let world = world();
    for leased in [true, false] {
        let name = format!("{leased}");
        let mutex = world.locks.mutex(&name);
        let mutex = if leased { mutex.lease(LEASE) } else { mutex };
        world.faults.clear_log();
        let guard = world.run(mutex.acquire()).unwrap();
        let id = world.faults.log_of(Operation::Enqueue)[0].ids[0];
        world.faults.report_at_risk(AttemptId(id.0 ^ 1));
        assert_eq!(guard.state(), HoldState::Held, "that was about another hold");
        world.faults.report_at_risk(id);
        assert_eq!(guard.state(), HoldState::AtRisk);
        world.faults.report_lost(id, LossReason::SessionEnded);
        assert_eq!(guard.state(), HoldState::Lost);
        assert_eq!(world.run(guard.lost()), LossReason::SessionEnded);
        world.faults.report_lost(id, LossReason::Gone);
        assert_eq!(world.run(guard.release()).unwrap(), Release::AlreadyLost(LossReason::SessionEnded));
        world.faults.report_lost(id, LossReason::Gone);
    }
}

#[test]
fn a_loss_lets_waiters_of_this_process_ask_anew() {
    let world = world();
    world.faults.clear_log();
    let guard = world.take("a");
    let id = world.faults.log_of(Operation::Enqueue)[0].ids[0];
    let mutex = world.locks.mutex("a").lease(LEASE);
    let waiter = world.spawn(async move { mutex.acquire().await.unwrap() });
    world.faults.report_lost(id, LossReason::Gone);
    world.settle();
    // The server still has the old hold, so the waiter waits there.
    assert!(!waiter.is_finished());
    drop(guard);
    world.settle();
    assert!(waiter.is_finished(), "what a lost hold left at the server is cleaned up with its guard");
    assert_eq!(world.run(waiter).unwrap().state(), HoldState::Held);
}

#[test]
fn dropped_guards_are_released_together() {
    let world = world();
    let guards: Vec<_> = (0..50).map(|i| world.take(&i.to_string())).collect();
    world.faults.clear_log();
    // Nothing runs meanwhile.
    drop(guards);
    world.settle();
    let log = world.faults.log_of(Operation::Release);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].ids.len(), 50);
    world.assert_nothing_left();
}

#[test]
fn a_failed_release_is_repeated_behind_its_answer() {
    let world = world();
    let guard = world.take("a");
    world.faults.fail_times(Operation::Release, 3, outage());
    let released = world.spawn(guard.release());
    assert!(released.is_finished(), "the answer does not wait for the repetitions");
    assert_eq!(world.run(released).unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.holders("a"), 1);
    world.advance(SECOND);
    assert_eq!(world.times(Operation::Release), [0, 50, 150, 350], "with longer and longer pauses");
    world.assert_nothing_left();
}

#[test]
fn a_hung_release_is_answered_within_the_limit_of_an_operation() {
    let world = world();
    let guard = world.take("a");
    world.faults.hang(Operation::Release);
    let released = world.spawn(guard.release());
    world.advance(2 * SECOND - MILLI);
    assert!(!released.is_finished());
    world.advance(MILLI);
    assert_eq!(world.run(released).unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    world.faults.heal();
    world.advance(3 * SECOND);
    world.assert_nothing_left();
}

#[test]
fn a_release_is_given_up_when_the_lease_has_ended_anyway() {
    let world = world();
    drop(world.take("a"));
    world.faults.fail(Operation::Release, outage());
    world.advance(10 * LEASE);
    let last = *world.times(Operation::Release).last().unwrap();
    assert!(last <= 2 * LEASE.as_millis() as u64, "still trying after {last} ms");
    world.assert_nothing_left();
}

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
    // The first holder and 16 hand-offs, then twice a holder by grant and 16 hand-offs at most.
    assert_eq!(world.calls(Operation::Enqueue), 2);
    assert_eq!(world.calls(Operation::Release), 3);
    assert_eq!(world.calls(Operation::Mint), 38, "a fresh token for each hand-off");
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
