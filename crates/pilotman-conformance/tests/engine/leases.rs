//! Leases and releases.

use std::time::Duration;

use pilotman_conformance::faults::Operation;
use pilotman_core::backend::AttemptId;
use pilotman_core::{ErrorKind, HoldState, LossReason, Release};

use crate::world::*;

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
