//! The end of a `Locks`.

use std::time::Instant;

use pilotman_core::{ErrorKind, HoldState};

use super::{exclusive, plain};
use crate::case::{Case, Exclusive};
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Wait};

pub(super) const CASES: &[Case] = &[
    exclusive("close", "refuses_new_acquires", &[], refuses_new_acquires),
    exclusive("close", "ends_waits", &[], ends_waits),
    plain("close", "drains_what_was_dropped", &["mutex"], drains_what_was_dropped),
    plain("close", "of_an_unused_backend", &["mutex"], of_an_unused_backend),
];

fn refuses_new_acquires(ctx: &Ctx, x: Exclusive) {
    let (client, name, held) = (ctx.client(), x.name(ctx), x.name(ctx));
    let guard = x.lock(&client, &held).take();
    client.close();
    for wait in [Wait::Try, Wait::For(SOON), Wait::Timeout(SOON), Wait::Forever] {
        let error = x.lock(&client, &name).get(wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.has_no_effect(), "{error:?}");
    }
    // Guards that are out stay valid.
    assert_eq!(guard.state(), HoldState::Held);
    x.lock(&ctx.client(), &held).must_be_taken();
    guard.release();
    x.lock(&ctx.client(), &held).take().release();
    client.close();
}

fn ends_waits(ctx: &Ctx, x: Exclusive) {
    let (client, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let outside = x.lock(&other, &name).take();
    let waiters = [x.lock(&client, &name).start_waiting(), x.lock(&client, &name).start_waiting()];
    let start = Instant::now();
    client.close();
    for waiter in waiters {
        let arrival = waiter.within(SOON).expect("closing ends a wait");
        assert_eq!(arrival.result.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert!(start.elapsed() < SOON);
    outside.release();
    x.lock(&other, &name).take().release();
}

fn drains_what_was_dropped(ctx: &Ctx) {
    let (client, other) = (ctx.client(), ctx.client());
    let names: Vec<_> = (0..50).map(|_| ctx.name_of(Kind::Mutex)).collect();
    let holds: Vec<_> = names.iter().map(|name| client.mutex(name).take()).collect();
    drop(holds);
    client.close();
    // After the close, not some time later.
    for name in &names {
        other
            .mutex(name)
            .try_now()
            .unwrap_or_else(|| panic!("close returned before {name:?} was given back"))
            .release();
    }
}

fn of_an_unused_backend(ctx: &Ctx) {
    let (client, start) = (ctx.client(), Instant::now());
    client.close();
    assert!(start.elapsed() < SOON);
    let error = client.mutex(&ctx.name()).get(Wait::Try).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    ctx.client().check().expect("another one works");
}
