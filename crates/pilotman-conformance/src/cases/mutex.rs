//! What every exclusive lock does. Runs on each primitive that can serve as a mutex.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::blocking::CancelToken;
use pilotman_core::{ErrorKind, HoldState};

use super::{exclusive, only};
use crate::case::{Case, Exclusive, Forms};
use crate::context::{Ctx, SOON};
use crate::surface::{Client, Wait};

pub(super) const CASES: &[Case] = &[
    exclusive("mutex", "basic", &[], basic),
    exclusive("mutex", "four_ways_to_acquire", &[], four_ways_to_acquire),
    exclusive("mutex", "excludes_other_clients", &[], excludes_other_clients),
    exclusive("mutex", "drop_releases", &[], drop_releases),
    exclusive("mutex", "a_waiter_gets_it", &[], a_waiter_gets_it),
    exclusive("mutex", "an_old_witness_is_harmless", &[], an_old_witness_is_harmless),
    exclusive("mutex", "timeouts", &[], timeouts),
    exclusive("mutex", "milliseconds_count", &[], milliseconds_count),
    exclusive("mutex", "cancelled_wait", &[], cancelled_wait),
    only(Forms::Blocking, exclusive("mutex", "cancelled_before_the_call", &[], cancelled_before_the_call)),
    only(Forms::Async, exclusive("mutex", "dropped_before_the_first_poll", &[], dropped_before_the_first_poll)),
    exclusive("mutex", "parallelism", &[], parallelism),
];

fn basic(ctx: &Ctx, x: Exclusive) {
    let (client, name, other) = (ctx.client(), x.name(ctx), x.name(ctx));
    let lock = x.lock(&client, &name);
    let hold = lock.take();
    assert_eq!(hold.state(), HoldState::Held);
    hold.guard().ensure_held().expect("held");
    lock.must_be_taken();
    x.lock(&client, &name).must_be_taken();
    x.lock(&client, &other).try_now().expect("another name is another lock").release();
    hold.release();
    lock.try_now().expect("free after the release").release();
}

fn four_ways_to_acquire(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    for wait in [Wait::Try, Wait::For(SOON), Wait::Timeout(SOON), Wait::Forever, Wait::For(Duration::MAX)] {
        let hold = x.lock(&client, &name).get(wait).unwrap().unwrap_or_else(|| panic!("{wait:?} on a free lock"));
        x.lock(&client, &name).must_be_taken();
        hold.release();
    }
}

fn excludes_other_clients(ctx: &Ctx, x: Exclusive) {
    let (one, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let hold = x.lock(&one, &name).take();
    x.lock(&other, &name).must_be_taken();
    hold.release();
    let hold = x.lock(&other, &name).take();
    x.lock(&one, &name).must_be_taken();
    hold.release();
}

fn drop_releases(ctx: &Ctx, x: Exclusive) {
    let (one, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    for _ in 0..10 {
        drop(x.lock(&one, &name).take());
        drop(x.lock(&other, &name).take());
    }
}

fn a_waiter_gets_it(ctx: &Ctx, x: Exclusive) {
    let (one, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    for client in [&one, &other] {
        let hold = x.lock(&one, &name).take();
        let waiter = x.lock(client, &name).start_waiting();
        assert!(waiter.is_waiting(), "the lock is held");
        hold.release();
        waiter.hold_within(SOON).0.release();
    }
}

fn an_old_witness_is_harmless(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let lock = x.lock(&client, &name);
    let hold = lock.take();
    let old = hold.guard().held();
    let lost = hold.guard().lost();
    assert_eq!(old.state(), HoldState::Held);
    hold.release();
    assert_eq!(old.state(), HoldState::Released);
    let newer = lock.take();
    assert_eq!(old.state(), HoldState::Released, "the witness is of the hold, not of the name");
    assert_eq!(old.ensure_held().unwrap_err().kind(), ErrorKind::Lost);
    drop((old.clone(), old, lost));
    assert_eq!(newer.state(), HoldState::Held);
    lock.must_be_taken();
    newer.release();
}

fn timeouts(ctx: &Ctx, x: Exclusive) {
    let (one, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let hold = x.lock(&one, &name).take();
    let limit = Duration::from_millis(200);
    for client in [&one, &other] {
        let lock = x.lock(client, &name);
        let start = Instant::now();
        assert!(lock.get(Wait::For(limit)).unwrap().is_none(), "it is held");
        check_accuracy(limit, start.elapsed());
        let start = Instant::now();
        let error = lock.get(Wait::Timeout(limit)).unwrap_err();
        check_accuracy(limit, start.elapsed());
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.has_no_effect(), "{error}");
    }
    assert_eq!(hold.state(), HoldState::Held);
    hold.release();
    x.lock(&other, &name).take().release();
}

#[track_caller]
fn check_accuracy(limit: Duration, taken: Duration) {
    assert!(taken >= limit, "a time-out of {limit:?} was over after {taken:?}");
    assert!(taken < limit + Duration::from_millis(500), "a time-out of {limit:?} took {taken:?}");
}

fn milliseconds_count(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let hold = x.lock(&client, &name).take();
    for millis in [1, 30, 70] {
        let (limit, start) = (Duration::from_millis(millis), Instant::now());
        assert!(x.lock(&client, &name).get(Wait::For(limit)).unwrap().is_none());
        check_accuracy(limit, start.elapsed());
    }
    hold.release();
}

fn cancelled_wait(ctx: &Ctx, x: Exclusive) {
    let (one, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    let hold = x.lock(&one, &name).take();
    for client in [&one, &other] {
        let (waiter, start) = (x.lock(client, &name).start_waiting(), Instant::now());
        if let Some(arrival) = waiter.cancel() {
            // Only a blocking call has an answer; a dropped future has none.
            let error = arrival.result.expect_err("it was cancelled while others held the lock");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            assert!(error.has_no_effect(), "{error}");
        }
        assert!(start.elapsed() < SOON);
    }
    assert_eq!(hold.state(), HoldState::Held, "a cancelled wait is nothing to the holder");
    hold.release();
    x.lock(&other, &name).take().release();
}

fn cancelled_before_the_call(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let cancel = CancelToken::new();
    cancel.cancel();
    for wait in [Wait::Forever, Wait::Timeout(SOON), Wait::For(SOON)] {
        let error = x.lock(&client, &name).with_cancel(&cancel).get(wait).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    }
    x.lock(&client, &name).try_now().expect("nothing was acquired").release();
}

fn dropped_before_the_first_poll(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    // A future that is never polled does nothing.
    match x {
        Exclusive::Mutex => drop(client.locks.mutex(&name).acquire()),
        Exclusive::Writer => drop(client.locks.rw_lock(&name).write()),
        Exclusive::Upgradeable => drop(client.locks.rw_lock(&name).upgradeable_read()),
        Exclusive::Semaphore1 => drop(client.locks.semaphore(&name, 1).acquire()),
        Exclusive::Semaphore5 => drop(client.locks.semaphore(&name, 5).acquire()),
        Exclusive::All => drop(client.locks.acquire_all([&name])),
    }
    x.lock(&ctx.client(), &name).try_now().expect("nothing was acquired").release();
}

fn parallelism(ctx: &Ctx, x: Exclusive) {
    // Many clients, so that it is the backend that decides and not the queue of one process.
    let clients: Vec<Client> = (0..20).map(|_| ctx.client()).collect();
    let name = x.name(ctx);
    let (inside, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    std::thread::scope(|scope| {
        // Each waiter has a lock object of its own; the holds are worked with on a few threads.
        let waiters: Vec<_> =
            (0..100).map(|i| x.lock(&clients[i % clients.len()], &name).start(Wait::Forever)).collect();
        for waiter in waiters {
            let (inside, done) = (inside.clone(), done.clone());
            scope.spawn(move || {
                let (hold, _) = waiter.hold_within(Duration::from_secs(60));
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
                std::thread::sleep(Duration::from_micros(300));
                inside.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
                hold.release();
            });
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 100);
    assert!(start.elapsed() < Duration::from_secs(30), "100 holders took {:?}", start.elapsed());
}
