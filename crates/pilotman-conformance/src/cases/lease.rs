//! Leases: kept while held, lost in time, never resurrected.

use std::time::{Duration, Instant};

use pilotman_core::{Error, HoldState, LossReason, Release};

use super::{exclusive, only, plain};
use crate::case::{Case, Exclusive, Forms};
use crate::context::{Ctx, SOON, eventually};
use crate::faults::Operation;
use crate::surface::Lock;

pub(super) const CASES: &[Case] = &[
    exclusive("lease", "is_renewed_while_held", &["lease"], is_renewed_while_held),
    plain("lease", "loss_is_told_before_others_hold", &["mutex", "lease", "loss"], loss_is_told_before_others_hold),
    plain("lease", "a_transient_failure_loses_nothing", &["mutex", "lease"], a_transient_failure_loses_nothing),
    plain(
        "lease",
        "a_renewal_never_recreates_a_hold",
        &["mutex", "lease", "loss", "lose"],
        a_renewal_never_recreates_a_hold,
    ),
    plain("lease", "a_late_renewal_does_not_resurrect", &["mutex", "lease"], a_late_renewal_does_not_resurrect),
    plain("lease", "remaining_is_within_the_lease", &["mutex", "lease"], remaining_is_within_the_lease),
    only(
        Forms::Async,
        plain(
            "lease",
            "is_renewed_while_the_callers_runtime_is_blocked",
            &["mutex", "lease"],
            is_renewed_while_the_callers_runtime_is_blocked,
        ),
    ),
];

/// With the case's lease. A list of mutexes takes no options.
fn leased(ctx: &Ctx, lock: Lock) -> Lock {
    match lock.kind() {
        crate::surface::Kind::All(_) => lock,
        _ => lock.lease(ctx.lease()),
    }
}

fn is_renewed_while_held(ctx: &Ctx, x: Exclusive) {
    if x == Exclusive::All {
        return ctx.skip("several mutexes at once take no lease of their own");
    }
    let (client, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let hold = leased(ctx, x.lock(&client, &name)).take();
    let start = Instant::now();
    while start.elapsed() < ctx.lease() * 5 / 2 {
        assert_ne!(hold.state(), HoldState::Lost, "lost after {:?}", start.elapsed());
        x.lock(&other, &name).must_be_taken();
        std::thread::sleep(ctx.lease() / 20);
    }
    hold.release();
    x.lock(&other, &name).take().release();
}

fn loss_is_told_before_others_hold(ctx: &Ctx) {
    let ((client, faults), other, name) = (ctx.faulty(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).lease(ctx.lease()).take();
    // From now on nothing gets through: no renewal, no release.
    faults.hang_all();
    let waiter = other.mutex(&name).start_waiting();
    let reason = hold.lost_within(ctx.lease() + SOON).expect("the loss is told");
    let told = Instant::now();
    assert_eq!(reason, LossReason::Expired);
    let (next, got) = waiter.hold_within(ctx.lease() + SOON);
    // Both were measured by different threads, right after the fact.
    assert!(told <= got + Duration::from_millis(20), "told {:?} after another one had the lock", told - got);
    assert_eq!(hold.guard().remaining(), Some(Duration::ZERO));
    faults.heal();
    assert_eq!(hold.try_release().unwrap(), Release::AlreadyLost(LossReason::Expired));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(next.state(), HoldState::Held, "the late release spared the next holder");
    ctx.client().mutex(&name).must_be_taken();
    next.release();
}

fn a_transient_failure_loses_nothing(ctx: &Ctx) {
    let ((client, faults), other, name) = (ctx.faulty(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).lease(ctx.lease()).take();
    faults.fail(Operation::Renew, Error::unavailable("refused for a test"));
    eventually(ctx.lease(), "a failed renewal is a risk", || match hold.state() {
        HoldState::AtRisk => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert!(hold.guard().ensure_held().is_ok(), "at risk is not lost");
    faults.heal();
    eventually(ctx.lease(), "a good renewal ends the risk", || match hold.state() {
        HoldState::Held => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!(hold.lost_within(ctx.lease()), None);
    other.mutex(&name).must_be_taken();
    hold.release();
}

fn a_renewal_never_recreates_a_hold(ctx: &Ctx) {
    let ((client, faults), other, name) = (ctx.faulty(), ctx.client(), ctx.mutex_name());
    let lock = client.mutex(&name).lease(ctx.lease());
    let hold = lock.take();
    // The message of the loss may get lost too; the renewal then finds out.
    assert!(ctx.lose(&lock, &hold));
    let next = other.mutex(&name).take();
    let before = faults.calls(Operation::Renew);
    hold.lost_within(ctx.lease() + SOON).expect("the loss is told, or a renewal finds it");
    std::thread::sleep(ctx.lease());
    assert!(faults.calls(Operation::Renew) <= before + 2, "what is lost is not renewed");
    assert_eq!(next.state(), HoldState::Held);
    drop(hold);
    next.release();
    other.mutex(&name).take().release();
}

fn a_late_renewal_does_not_resurrect(ctx: &Ctx) {
    let ((client, faults), other, name) = (ctx.faulty(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).lease(ctx.lease()).take();
    // Renewals reach the server when the hold has long been given back.
    faults.delay(Operation::Renew, ctx.lease() / 8);
    eventually(ctx.lease(), "a renewal is on its way", || match faults.calls(Operation::Renew) {
        0 => Err("none".into()),
        _ => Ok(()),
    });
    hold.release();
    let next = other.mutex(&name).take();
    next.release();
    std::thread::sleep(ctx.lease() / 2);
    other.mutex(&name).try_now().expect("the late renewal brought nothing back").release();
}

fn remaining_is_within_the_lease(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).lease(ctx.lease()).take();
    let mut last = hold.guard().remaining().expect("a lease ends");
    assert!(last <= ctx.lease() && last > ctx.lease() / 2, "{last:?} of {:?}", ctx.lease());
    let mut renewed = false;
    let start = Instant::now();
    while start.elapsed() < ctx.lease() {
        let now = hold.guard().remaining().expect("a lease ends");
        assert!(now < ctx.lease() && !now.is_zero(), "{now:?} of {:?}", ctx.lease());
        renewed |= now > last;
        last = now;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(renewed, "the lease was renewed within its own length");
    hold.release();
}

fn is_renewed_while_the_callers_runtime_is_blocked(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let guard = client.locks.mutex(&name).lease(ctx.lease()).acquire().await.unwrap();
        // Nothing on this runtime moves meanwhile.
        std::thread::sleep(ctx.lease() * 2);
        assert_eq!(guard.state(), HoldState::Held);
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    });
    other.mutex(&name).take().release();
}
