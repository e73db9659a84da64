//! Other processes: they exclude, they end, they are killed.

use std::time::{Duration, Instant};

use super::{exclusive, plain};
use crate::case::{Case, Exclusive};
use crate::context::{Ctx, SOON};
use crate::surface::{Kind, Lock, Pending, Wait};
use crate::taker::{Taker, Task};

pub(super) const CASES: &[Case] = &[
    exclusive("process", "excludes", &["cross_process"], excludes),
    exclusive("process", "waits_for_us", &["cross_process"], waits_for_us),
    exclusive("process", "exit_without_release", &["cross_process"], exit_without_release),
    exclusive("process", "kill", &["cross_process"], kill),
    plain("process", "no_update_is_lost", &["mutex", "cross_process"], no_update_is_lost),
];

/// Within which time the holds of a dead process are free again.
fn freed_within(ctx: &Ctx) -> Duration {
    let lease = ctx.capabilities.lease.map_or(Duration::ZERO, |_| ctx.lease());
    lease + ctx.capabilities.frees_dead_holder_within + SOON
}

fn excludes(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let lock = x.lock(&client, &name);
    let taker = Taker::start(ctx, lock.kind(), &name, &Task::Hold);
    taker.acquired();
    lock.must_be_taken();
    let waiter = lock.start_waiting();
    assert!(waiter.is_waiting());
    taker.release();
    waiter.hold_within(SOON).0.release();
}

fn waits_for_us(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let hold = x.lock(&client, &name).take();
    let taker = Taker::start(ctx, &x.kind(&name), &name, &Task::Hold);
    assert!(taker.is_silent_for(Duration::from_millis(300)), "the lock is held here");
    hold.release();
    taker.acquired();
    x.lock(&client, &name).must_be_taken();
    taker.release();
}

fn waiting_while_held(ctx: &Ctx, lock: &Lock) -> (Taker, Pending) {
    let taker = Taker::start(ctx, lock.kind(), lock.name(), &Task::Hold);
    taker.acquired();
    let waiter = lock.start_waiting();
    assert!(waiter.is_waiting(), "the other process holds the lock");
    (taker, waiter)
}

fn exit_without_release(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let (mut taker, waiter) = waiting_while_held(ctx, &x.lock(&client, &name));
    let start = Instant::now();
    taker.abandon();
    let (hold, at) = waiter.hold_within(freed_within(ctx));
    println!("free {:?} after the exit", at - start);
    hold.release();
    taker.ended();
}

fn kill(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    let (mut taker, waiter) = waiting_while_held(ctx, &x.lock(&client, &name));
    let start = Instant::now();
    taker.kill();
    let (hold, at) = waiter.hold_within(freed_within(ctx));
    println!("free {:?} after the kill", at - start);
    hold.release();
}

fn no_update_is_lost(ctx: &Ctx) {
    const PROCESSES: usize = 3;
    const ROUNDS: usize = 60;
    let name = ctx.mutex_name();
    let file = std::env::temp_dir().join(format!("pilotman-{name}"));
    std::fs::write(&file, "0\n").expect("a temporary file");
    let takers: Vec<_> = (0..PROCESSES)
        .map(|_| Taker::start(ctx, &Kind::Mutex, &name, &Task::Count { rounds: ROUNDS, file: &file }))
        .collect();
    // This process counts along.
    let client = ctx.client();
    for _ in 0..ROUNDS {
        let hold = client.mutex(&name).get(Wait::For(SOON * 3)).unwrap().expect("a turn");
        let text = std::fs::read_to_string(&file).expect("the file");
        let (count, tokens) = text.split_once('\n').expect("a count and tokens");
        let count: usize = count.parse().expect("a count");
        std::fs::write(&file, format!("{}\n{tokens}", count + 1)).expect("the file");
        hold.release();
    }
    for taker in takers {
        taker.ended();
    }
    let text = std::fs::read_to_string(&file).expect("the file");
    std::fs::remove_file(&file).expect("the file");
    let mut lines = text.lines();
    let count: usize = lines.next().and_then(|line| line.parse().ok()).expect("a count");
    assert_eq!(count, (PROCESSES + 1) * ROUNDS, "updates were lost: two processes held the lock at once");
    let tokens: Vec<u64> = lines.map(|line| line.parse().expect("a token")).collect();
    if ctx.capabilities.fencing != pilotman_core::Fencing::None {
        assert_eq!(tokens.len(), PROCESSES * ROUNDS);
        assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "tokens must increase strictly: {tokens:?}");
    }
}
