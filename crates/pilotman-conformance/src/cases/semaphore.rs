//! Semaphores.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::plain;
use crate::case::Case;
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Wait};

pub(super) const CASES: &[Case] = &[
    plain("semaphore", "tells_its_permits", &["semaphore"], tells_its_permits),
    plain("semaphore", "concurrency", &["semaphore"], concurrency),
    plain("semaphore", "drain", &["semaphore"], drain),
    plain("semaphore", "many_permits_and_a_long_name", &["semaphore"], many_permits_and_a_long_name),
    plain("semaphore", "parallelism", &["semaphore"], parallelism),
    plain("semaphore", "each_release_lets_one_in", &["semaphore"], each_release_lets_one_in),
];

fn tells_its_permits(ctx: &Ctx) {
    let client = ctx.client();
    for permits in [1, 5, u32::MAX] {
        assert_eq!(client.locks.semaphore(ctx.name(), permits).permits(), permits);
    }
}

fn concurrency(ctx: &Ctx) {
    let (clients, name) = ([ctx.client(), ctx.client()], ctx.name_of(Kind::Permit(3)));
    let (inside, seen) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let (client, name, inside, seen) = (&clients[thread % 2], &name, &inside, &seen);
            scope.spawn(move || {
                for _ in 0..25 {
                    let hold = client.semaphore(name, 3).take();
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.lock().unwrap().insert(now);
                    std::thread::sleep(Duration::from_micros(500));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    hold.release();
                }
            });
        }
    });
    assert_eq!(inside.load(Ordering::SeqCst), 0);
    assert_eq!(seen.into_inner().unwrap(), BTreeSet::from([1, 2, 3]), "one, two and three at once, never more");
}

fn drain(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Permit(4)));
    let mut permits: Vec<_> = [&one, &other, &one, &other].map(|client| client.semaphore(&name, 4).take()).into();
    one.semaphore(&name, 4).must_be_taken();
    other.semaphore(&name, 4).must_be_taken();
    for client in [&one, &other] {
        permits.pop().unwrap().release();
        let again = client.semaphore(&name, 4).take();
        one.semaphore(&name, 4).must_be_taken();
        other.semaphore(&name, 4).must_be_taken();
        permits.insert(0, again);
    }
}

fn many_permits_and_a_long_name(ctx: &Ctx) {
    let (one, other) = (ctx.client(), ctx.client());
    let name = format!("{}-{}", ctx.name(), "n".repeat(1000));
    for count in [i32::MAX as u32, u32::MAX] {
        ctx.watch(Kind::Permit(count), &name);
        let permits: Vec<_> =
            (0..100).map(|i| if i % 2 == 0 { &one } else { &other }.semaphore(&name, count).take()).collect();
        permits.into_iter().for_each(|permit| permit.release());
    }
}

fn parallelism(ctx: &Ctx) {
    let clients: Vec<_> = (0..20).map(|_| ctx.client()).collect();
    let name = ctx.name_of(Kind::Permit(10));
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let waiters: Vec<_> =
            (0..100).map(|i| clients[i % clients.len()].semaphore(&name, 10).start(Wait::Forever)).collect();
        for waiter in waiters {
            let (inside, most) = (&inside, &most);
            scope.spawn(move || {
                let (hold, _) = waiter.hold_within(Duration::from_secs(60));
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                // The first ones stay until all ten are there, however long it takes the tenth.
                let since = Instant::now();
                while most.load(Ordering::SeqCst) < 10 && since.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(Duration::from_millis(5));
                inside.fetch_sub(1, Ordering::SeqCst);
                hold.release();
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 10, "ten at once, never more");
    assert!(start.elapsed() < Duration::from_secs(30), "100 holders took {:?}", start.elapsed());
}

fn each_release_lets_one_in(ctx: &Ctx) {
    let (one, other, name) = (ctx.client(), ctx.client(), ctx.name_of(Kind::Permit(2)));
    let first = one.semaphore(&name, 2).take();
    let second = other.semaphore(&name, 2).take();
    let waiters = [one.semaphore(&name, 2).start_waiting(), other.semaphore(&name, 2).start_waiting()];
    assert!(waiters.iter().all(|waiter| waiter.is_waiting()));
    first.release();
    let deadline = Instant::now() + SOON;
    let (winner, loser) = loop {
        let [one, other] = &waiters;
        if let Some(arrival) = one.within(Duration::from_millis(20)) {
            break (arrival, other);
        }
        if let Some(arrival) = other.within(Duration::from_millis(20)) {
            break (arrival, one);
        }
        assert!(Instant::now() < deadline, "a permit was released and nobody got it");
    };
    let winner = winner.result.unwrap().expect("no limit was given");
    assert!(loser.within(Duration::from_millis(100)).is_none(), "only one permit was released");
    second.release();
    loser.hold_within(SOON).0.release();
    winner.release();
}
