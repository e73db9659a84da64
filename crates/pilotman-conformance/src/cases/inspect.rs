//! Looking at locks, and breaking them.

use std::time::Duration;

use pilotman_core::{HoldState, Release};

use super::{exclusive, plain};
use crate::case::{Case, Exclusive};
use crate::context::{Ctx, SOON, eventually};
use crate::surface::{Client, Kind};

pub(super) const CASES: &[Case] = &[
    exclusive("inspect", "shows_the_holder", &["inspect"], shows_the_holder),
    plain("inspect", "shows_readers", &["rw_lock", "inspect"], shows_readers),
    plain("inspect", "a_free_name_has_no_holder", &["mutex", "inspect"], a_free_name_has_no_holder),
    plain("inspect", "list_has_what_is_held", &["mutex", "list"], list_has_what_is_held),
    exclusive("inspect", "force_release_breaks_a_hold", &["force_release"], force_release_breaks_a_hold),
    plain(
        "inspect",
        "force_release_tells_the_holder",
        &["mutex", "force_release", "loss"],
        force_release_tells_the_holder,
    ),
    plain("inspect", "force_release_lets_a_waiter_in", &["mutex", "force_release"], force_release_lets_a_waiter_in),
    plain("inspect", "force_release_of_a_free_name", &["mutex", "force_release"], force_release_of_a_free_name),
];

/// How many holders the backend knows.
fn holders(client: &Client, kind: &Kind, name: &str) -> usize {
    client.inspect(kind, name).unwrap_or_else(|error| panic!("inspect: {error}")).holders.len()
}

#[track_caller]
fn becomes(client: &Client, kind: &Kind, name: &str, count: usize) {
    eventually(SOON, "as many holders as there are", || match holders(client, kind, name) {
        found if found == count => Ok(()),
        found => Err(format!("{found} instead of {count}")),
    });
}

fn shows_the_holder(ctx: &Ctx, x: Exclusive) {
    let (client, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let kind = match x.kind(&name) {
        Kind::All(_) => Kind::Mutex,
        kind => kind,
    };
    let others = if x == Exclusive::Semaphore5 { 4 } else { 0 };
    becomes(&other, &kind, &name, others);
    let hold = x.lock(&client, &name).take();
    for looking in [&client, &other] {
        becomes(looking, &kind, &name, others + 1);
    }
    let found = other.inspect(&kind, &name).unwrap();
    assert!(!found.physical.is_empty());
    assert_eq!(found.physical, other.locks.physical_name(&name, kind.primitive()).unwrap());
    assert!(found.holders.iter().all(|holder| !holder.owner.is_empty()), "{found:?}");
    if let Some(token) = hold.token() {
        let tokens: Vec<_> = found.holders.iter().filter_map(|holder| holder.token).collect();
        assert!(tokens.is_empty() || tokens.contains(&token), "{found:?} does not have the token {token}");
    }
    hold.release();
    becomes(&other, &kind, &name, others);
}

fn shows_readers(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Writer));
    let first = client.reader(&name).take();
    let second = other.reader(&name).take();
    // A backend may be able to tell that there are readers but not how many.
    eventually(SOON, "the readers are seen", || match holders(&client, &Kind::Reader, &name) {
        1 | 2 => Ok(()),
        found => Err(format!("{found}")),
    });
    first.release();
    becomes(&client, &Kind::Reader, &name, 1);
    second.release();
    becomes(&client, &Kind::Reader, &name, 0);
}

fn a_free_name_has_no_holder(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    assert_eq!(holders(&client, &Kind::Mutex, &name), 0, "nobody has ever used it");
    client.mutex(&name).take().release();
    becomes(&client, &Kind::Mutex, &name, 0);
}

fn list_has_what_is_held(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let physical = client.locks.physical_name(&name, Kind::Mutex.primitive()).unwrap();
    let held = |client: &Client| {
        let listed = client.list().unwrap_or_else(|error| panic!("list: {error}"));
        listed.into_iter().filter(|found| found.physical == physical).map(|found| found.holders.len()).sum::<usize>()
    };
    let hold = client.mutex(&name).take();
    eventually(SOON, "what is held is listed", || match held(&other) {
        1 => Ok(()),
        found => Err(format!("{found} holders")),
    });
    hold.release();
    eventually(SOON, "what was released is no longer listed as held", || match held(&other) {
        0 => Ok(()),
        found => Err(format!("{found} holders")),
    });
}

fn force_release_breaks_a_hold(ctx: &Ctx, x: Exclusive) {
    if x == Exclusive::Semaphore5 {
        return ctx.skip("breaking a semaphore breaks all its permits");
    }
    let (client, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let hold = x.lock(&client, &name).take();
    let kind = match x.kind(&name) {
        Kind::All(_) => Kind::Mutex,
        kind => kind,
    };
    let broken = other.force_release(&kind, &name).unwrap();
    assert_eq!(broken.len(), 1, "{broken:?}");
    if x == Exclusive::All {
        other.mutex(&name).take().release();
    } else {
        let next = x.lock(&other, &name).take();
        // The broken holder's release is nothing to the next one.
        drop(hold);
        std::thread::sleep(Duration::from_millis(50));
        x.lock(&ctx.client(), &name).must_be_taken();
        next.release();
    }
}

fn force_release_tells_the_holder(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).take();
    assert_eq!(hold.lost_within(Duration::from_millis(20)), None);
    assert_eq!(other.force_release(&Kind::Mutex, &name).unwrap().len(), 1);
    let reason = hold.lost_within(SOON).expect("a broken holder is told");
    assert_eq!(hold.state(), HoldState::Lost);
    assert_eq!(hold.try_release().unwrap(), Release::AlreadyLost(reason));
}

fn force_release_lets_a_waiter_in(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).take();
    let waiter = other.mutex(&name).start_waiting();
    assert!(waiter.is_waiting());
    ctx.client().force_release(&Kind::Mutex, &name).unwrap();
    let (next, _) = waiter.hold_within(SOON);
    drop(hold);
    next.release();
}

fn force_release_of_a_free_name(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    assert_eq!(client.force_release(&Kind::Mutex, &name).unwrap(), []);
    client.mutex(&name).take().release();
    assert_eq!(client.force_release(&Kind::Mutex, &name).unwrap(), []);
}
