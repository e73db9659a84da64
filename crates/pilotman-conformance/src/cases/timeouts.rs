//! Time-outs when the server fails: hangs, refuses, answers late or not at all.

use std::time::{Duration, Instant};

use pilotman_core::{Error, ErrorKind, Release, Waiting};

use super::plain;
use crate::case::Case;
use crate::context::{Ctx, SOON, eventually};
use crate::faults::{Faults, Operation};
use crate::surface::Wait;

pub(super) const CASES: &[Case] = &[
    plain("timeouts", "zero_is_one_attempt", &["mutex"], zero_is_one_attempt),
    plain("timeouts", "a_hung_server_does_not_hang_an_acquire", &["mutex"], a_hung_server_does_not_hang_an_acquire),
    plain("timeouts", "a_hung_server_does_not_hang_one_attempt", &["mutex"], a_hung_server_does_not_hang_one_attempt),
    plain("timeouts", "a_hung_server_does_not_hang_a_release", &["mutex"], a_hung_server_does_not_hang_a_release),
    plain("timeouts", "a_hung_server_does_not_hang_a_close", &["mutex"], a_hung_server_does_not_hang_a_close),
    plain("timeouts", "a_refusal_is_an_error", &["mutex"], a_refusal_is_an_error),
    plain("timeouts", "a_lost_answer_leaves_nothing", &["mutex"], a_lost_answer_leaves_nothing),
    plain("timeouts", "a_failed_release_is_repeated", &["mutex"], a_failed_release_is_repeated),
];

/// How many times the backend was asked for a lock.
fn asked(faults: &Faults) -> usize {
    faults.calls(Operation::TryAcquire) + faults.calls(Operation::Enqueue)
}

fn zero_is_one_attempt(ctx: &Ctx) {
    let ((client, faults), other, name) = (ctx.faulty(), ctx.client(), ctx.mutex_name());
    for held in [true, false] {
        let hold = held.then(|| other.mutex(&name).take());
        for wait in [Wait::Try, Wait::For(Duration::ZERO), Wait::Timeout(Duration::ZERO)] {
            faults.clear_log();
            match client.mutex(&name).get(wait) {
                Ok(None) => assert!(held && !matches!(wait, Wait::Timeout(_))),
                Ok(Some(got)) => {
                    assert!(!held, "two holders");
                    got.release();
                }
                Err(error) => {
                    assert!(held && matches!(wait, Wait::Timeout(_)), "{error}");
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                }
            }
            assert_eq!(asked(&faults), 1, "{wait:?} asks once: {:?}", faults.log());
            assert_eq!(faults.calls(Operation::Watch), 0, "{wait:?} waits for nothing");
        }
        // Not just dropped: that gives it back in the background.
        if let Some(hold) = hold {
            hold.release();
        }
    }
}

/// The design says 50 ms; a busy machine gets more.
const SLACK: Duration = Duration::from_millis(300);

fn a_hung_server_does_not_hang_an_acquire(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    for operation in [Operation::TryAcquire, Operation::Enqueue, Operation::Watch] {
        faults.hang(operation);
    }
    for millis in [20, 200] {
        let (limit, start) = (Duration::from_millis(millis), Instant::now());
        let got = client.mutex(&name).get(Wait::For(limit));
        let taken = start.elapsed();
        assert!(!matches!(got, Ok(Some(_))), "nobody answered");
        println!("a time-out of {limit:?} on a hung server took {taken:?}");
        assert!(taken < limit + SLACK, "a time-out of {limit:?} on a hung server took {taken:?}");
    }
    faults.heal();
    client.mutex(&name).take().release();
}

fn a_hung_server_does_not_hang_one_attempt(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    faults.hang(Operation::TryAcquire);
    let start = Instant::now();
    let error = client.mutex(&name).get(Wait::Try).expect_err("nobody answered");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(4), "one attempt took {:?}", start.elapsed());
    faults.heal();
    client.mutex(&name).take().release();
}

fn a_hung_server_does_not_hang_a_release(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    let hold = client.mutex(&name).take();
    faults.hang(Operation::Release);
    let start = Instant::now();
    let error = hold.try_release().expect_err("nobody answered");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "the release took {:?}", start.elapsed());
    faults.heal();
    // Giving back goes on behind it.
    ctx.client().mutex(&name).take().release();
}

fn a_hung_server_does_not_hang_a_close(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    let hold = client.mutex(&name).take();
    faults.hang_all();
    drop(hold);
    let start = Instant::now();
    client.close();
    let taken = start.elapsed();
    assert!(taken < Duration::from_secs(5), "closing took {taken:?}, it may take 4 s");
    faults.heal();
}

fn a_refusal_is_an_error(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    let refusal = || Error::unavailable("refused for a test").no_effect(true);
    for operation in [Operation::TryAcquire, Operation::Enqueue] {
        faults.fail(operation, refusal());
    }
    for wait in [Wait::Try, Wait::For(SOON), Wait::Timeout(SOON), Wait::Forever] {
        let start = Instant::now();
        let error = client.mutex(&name).get(wait).expect_err("it was refused");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.lock(), Some(name.as_str()), "the error names the lock");
        assert!(error.backend().is_some(), "the error names the backend");
        assert!(start.elapsed() < Duration::from_secs(4), "a refusal is told at once, not after {:?}", start.elapsed());
    }
    faults.heal();
    client.mutex(&name).take().release();
}

fn a_lost_answer_leaves_nothing(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    faults.drop_replies(Operation::TryAcquire);
    let error = client.mutex(&name).get(Wait::Try).expect_err("nobody answered");
    assert!(!error.has_no_effect(), "{error:?}: the lock may have been granted");
    // What was granted is given back although nobody heard of it.
    ctx.client().mutex(&name).take().release();
    if ctx.capabilities.waiting == Waiting::Queue {
        faults.drop_replies(Operation::Enqueue);
        assert!(!matches!(client.mutex(&name).get(Wait::For(Duration::from_millis(100))), Ok(Some(_))));
        ctx.client().mutex(&name).take().release();
    }
    assert!(faults.calls(Operation::Abandon) > 0);
    faults.heal();
}

fn a_failed_release_is_repeated(ctx: &Ctx) {
    let ((client, faults), name) = (ctx.faulty(), ctx.mutex_name());
    for dropped in [true, false] {
        let hold = client.mutex(&name).take();
        faults.clear_log();
        faults.fail_times(Operation::Release, 2, Error::unavailable("refused for a test"));
        if dropped {
            drop(hold);
        } else {
            match hold.try_release() {
                Ok(Release::Released) => {}
                Ok(lost) => panic!("{lost:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        eventually(SOON, "three calls, the last of which works", || match faults.calls(Operation::Release) {
            3 => Ok(()),
            calls => Err(format!("{calls}")),
        });
        ctx.client().mutex(&name).take().release();
    }
}
