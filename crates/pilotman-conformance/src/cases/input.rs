//! Bad input: a clear error before anything is locked.

use std::time::Duration;

use pilotman_core::{Error, ErrorKind};

use super::plain;
use crate::case::Case;
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Lock, Wait};

pub(super) const CASES: &[Case] = &[
    plain("input", "bad_names", &["mutex"], bad_names),
    plain("input", "no_permits", &["semaphore"], no_permits),
    plain("input", "lease_out_of_bounds", &["mutex", "lease"], lease_out_of_bounds),
    plain("input", "lease_where_there_are_none", &["mutex", "no lease"], lease_where_there_are_none),
    plain("input", "hold_at_most_zero", &["mutex"], hold_at_most_zero),
    plain("input", "no_names_at_once", &["mutex"], no_names_at_once),
    plain("input", "what_is_not_claimed_is_refused", &[], what_is_not_claimed_is_refused),
];

/// All four methods fail in the same way, with nothing done.
#[track_caller]
fn refused(lock: &Lock, kind: ErrorKind) -> Error {
    let mut last = None;
    for wait in [Wait::Try, Wait::For(SOON), Wait::Timeout(SOON), Wait::Forever] {
        let error = lock.get(wait).expect_err("bad input must be refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.has_no_effect(), "{error:?} must say that nothing was done");
        assert!(!error.is_retryable(), "{error:?} must not ask for another try of the same");
        assert!(error.to_string().len() < 1000, "a message for people, not {} bytes", error.to_string().len());
        last = Some(error);
    }
    last.expect("there are four methods")
}

fn kinds(ctx: &Ctx) -> Vec<Kind> {
    let capabilities = &ctx.capabilities;
    [
        (capabilities.mutex, Kind::Mutex),
        (capabilities.mutex, Kind::All(vec!["fine".into()])),
        (capabilities.rw_lock, Kind::Reader),
        (capabilities.rw_lock, Kind::Writer),
        (capabilities.upgradeable, Kind::Upgradeable),
        (capabilities.semaphore, Kind::Permit(2)),
    ]
    .into_iter()
    .filter_map(|(claimed, kind)| claimed.then_some(kind))
    .collect()
}

fn bad_names(ctx: &Ctx) {
    let client = ctx.client();
    let huge = "x".repeat(1 << 20);
    for name in ["", "\0", "a\0b", &format!("{}\0", ctx.name()), &huge] {
        for kind in kinds(ctx) {
            refused(&client.lock(kind, name), ErrorKind::InvalidName);
        }
    }
    client.check().expect("the backend still works");
}

fn no_permits(ctx: &Ctx) {
    refused(&ctx.client().semaphore(&ctx.name(), 0), ErrorKind::Misconfigured);
}

fn lease_out_of_bounds(ctx: &Ctx) {
    let bounds = ctx.capabilities.lease.expect("claimed");
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let short = bounds.min.saturating_sub(Duration::from_nanos(1));
    if short < bounds.min {
        refused(&client.mutex(&name).lease(short), ErrorKind::Misconfigured);
        refused(&client.mutex(&name).lease(Duration::ZERO), ErrorKind::Misconfigured);
    }
    if bounds.max < Duration::MAX {
        refused(&client.mutex(&name).lease(Duration::MAX), ErrorKind::Misconfigured);
    }
    client.mutex(&name).lease(bounds.min.max(ctx.lease())).try_now().expect("within the bounds").release();
}

fn lease_where_there_are_none(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    refused(&client.mutex(&name).lease(Duration::from_secs(30)), ErrorKind::Unsupported);
}

fn hold_at_most_zero(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    refused(&client.mutex(&name).hold_at_most(Duration::ZERO), ErrorKind::Misconfigured);
    client.mutex(&name).try_now().expect("nothing was locked").release();
}

fn no_names_at_once(ctx: &Ctx) {
    let client = ctx.client();
    let error = ctx.handle().block_on(client.locks.acquire_all::<[&str; 0]>([])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.has_no_effect(), "{error:?}");
    // One bad name among good ones: none of them is locked.
    let good = ctx.mutex_name();
    let error = client.all(&[&good, ""]).get(Wait::Try).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    ctx.client().mutex(&good).try_now().expect("nothing was locked").release();
}

fn what_is_not_claimed_is_refused(ctx: &Ctx) {
    let (client, capabilities) = (ctx.client(), &ctx.capabilities);
    for kind in [Kind::Mutex, Kind::Reader, Kind::Writer, Kind::Upgradeable, Kind::Permit(2)] {
        if !capabilities.supports(kind.primitive()) {
            refused(&client.lock(kind, &ctx.name()), ErrorKind::Unsupported);
        }
    }
    if capabilities.fencing == pilotman_core::Fencing::None {
        refused(&client.mutex(&ctx.name()).fenced(), ErrorKind::Unsupported);
    }
    let name = ctx.name();
    if !capabilities.inspect {
        assert_eq!(client.inspect(&Kind::Mutex, &name).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    if !capabilities.list {
        assert_eq!(client.list().unwrap_err().kind(), ErrorKind::Unsupported);
    }
    if !capabilities.force_release {
        assert_eq!(client.force_release(&Kind::Mutex, &name).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
