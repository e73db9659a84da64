//! Several mutexes at once.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, Release};

use super::{only, plain};
use crate::case::{Case, Forms};
use crate::context::{Ctx, SOON};
use crate::surface::Wait;

pub(super) const CASES: &[Case] = &[
    plain("all", "sorted_and_without_duplicates", &["mutex"], sorted_and_without_duplicates),
    plain("all", "all_or_nothing", &["mutex"], all_or_nothing),
    plain("all", "one_deadline_for_all", &["mutex"], one_deadline_for_all),
    plain("all", "opposite_orders_do_not_deadlock", &["mutex"], opposite_orders_do_not_deadlock),
    plain("all", "loss_of_one_is_told", &["mutex", "loss", "lose"], loss_of_one_is_told),
    only(
        Forms::Async,
        plain("all", "a_dropped_wait_gives_back_what_it_had", &["mutex"], a_dropped_wait_gives_back_what_it_had),
    ),
];

fn sorted_and_without_duplicates(ctx: &Ctx) {
    let (client, base) = (ctx.client(), ctx.name());
    let name = |suffix: &str| format!("{base}{suffix}");
    let given = [name("b"), name("é"), name("B"), name("a"), name("b")];
    let mut sorted = vec![name("B"), name("a"), name("b"), name("é")];
    sorted.sort_unstable();
    let all = ctx.handle().block_on(client.locks.acquire_all(&given)).unwrap();
    assert_eq!(all.names().collect::<Vec<_>>(), sorted, "by the bytes of the names");
    assert_eq!(all.state(), HoldState::Held);
    sorted.iter().for_each(|name| client.mutex(name).must_be_taken());
    assert_eq!(ctx.handle().block_on(all.release()).unwrap(), Release::Released);
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    let lock = client.all(&given);
    ctx.watch(lock.kind().clone(), lock.name());
    let hold = lock.take();
    assert!(ctx.client().all(&given).try_now().is_none());
    hold.release();
}

fn all_or_nothing(ctx: &Ctx) {
    let (one, other) = (ctx.client(), ctx.client());
    let (a, b, c) = (ctx.mutex_name(), ctx.mutex_name(), ctx.mutex_name());
    let taken = other.mutex(&c).take();
    for wait in [Wait::Try, Wait::For(Duration::from_millis(50))] {
        assert!(one.all(&[&a, &b, &c]).get(wait).unwrap().is_none());
        other.mutex(&a).take().release();
        other.mutex(&b).take().release();
    }
    taken.release();
    one.all(&[&a, &b, &c]).take().release();
}

fn one_deadline_for_all(ctx: &Ctx) {
    let (one, other) = (ctx.client(), ctx.client());
    let (a, b) = (ctx.mutex_name(), ctx.mutex_name());
    let (first, second) = (other.mutex(&a).take(), other.mutex(&b).take());
    let limit = Duration::from_millis(400);
    std::thread::scope(|scope| {
        let start = Instant::now();
        let waiter = scope.spawn(|| one.all(&[&a, &b]).get(Wait::For(limit)).unwrap().is_none());
        std::thread::sleep(Duration::from_millis(250));
        first.release();
        assert!(waiter.join().unwrap(), "the second one is held");
        let taken = start.elapsed();
        assert!(taken >= limit && taken < limit + Duration::from_millis(300), "a limit of {limit:?} took {taken:?}");
    });
    second.release();
    other.mutex(&a).take().release();
}

fn opposite_orders_do_not_deadlock(ctx: &Ctx) {
    let (one, other) = (ctx.client(), ctx.client());
    let (a, b, c) = (ctx.mutex_name(), ctx.mutex_name(), ctx.mutex_name());
    std::thread::scope(|scope| {
        for (client, names) in [(&one, [&a, &b, &c]), (&other, [&c, &b, &a]), (&one, [&b, &c, &a])] {
            let names = names.map(String::as_str);
            scope.spawn(move || {
                for _ in 0..20 {
                    client.all(&names).take().release();
                }
            });
        }
    });
}

fn loss_of_one_is_told(ctx: &Ctx) {
    let client = ctx.client();
    let (a, b) = (ctx.mutex_name(), ctx.mutex_name());
    let lock = client.all(&[&a, &b]);
    let hold = lock.take();
    assert_eq!(hold.lost_within(Duration::from_millis(50)), None);
    assert!(ctx.lose(&lock, &hold));
    hold.lost_within(SOON).expect("the loss of one is a loss");
    assert_eq!(hold.state(), HoldState::Lost);
    assert!(matches!(hold.try_release().unwrap(), Release::AlreadyLost(_)));
    assert_eq!(
        ctx.handle().block_on(client.locks.acquire_all::<[&str; 0]>([])).unwrap_err().kind(),
        ErrorKind::Misconfigured,
        "no names"
    );
}

fn a_dropped_wait_gives_back_what_it_had(ctx: &Ctx) {
    let (one, other) = (ctx.client(), ctx.client());
    let (a, b) = (ctx.mutex_name(), ctx.mutex_name());
    let taken = other.mutex(&b).take();
    let waiter = one.all(&[&a, &b]).start_waiting();
    other.mutex(&a).becomes_taken();
    waiter.cancel();
    other.mutex(&a).take().release();
    taken.release();
}
