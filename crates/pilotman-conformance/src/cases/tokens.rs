//! Fencing tokens: greater for each holder than for all before it.

use std::sync::Mutex;

use super::{exclusive, plain};
use crate::case::{Case, Exclusive};
use crate::context::Ctx;
use crate::surface::{Kind, Wait};
use crate::taker::{Taker, Task};

pub(super) const CASES: &[Case] = &[
    exclusive("tokens", "increase_over_clean_releases", &["fencing"], increase_over_clean_releases),
    plain("tokens", "increase_over_a_thousand_hand_offs", &["mutex", "fencing"], increase_over_a_thousand_hand_offs),
    plain("tokens", "increase_over_processes", &["mutex", "fencing", "cross_process"], increase_over_processes),
    plain("tokens", "increase_over_a_loss", &["mutex", "fencing", "loss", "lose"], increase_over_a_loss),
    plain("tokens", "increase_over_a_break", &["mutex", "fencing", "force_release"], increase_over_a_break),
    plain("tokens", "of_a_semaphore_are_unique", &["semaphore", "fencing"], of_a_semaphore_are_unique),
    plain("tokens", "stay_with_a_hold", &["mutex", "fencing"], stay_with_a_hold),
];

#[track_caller]
fn check_increase(tokens: &[u64]) {
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "tokens must increase strictly: {tokens:?}");
}

fn increase_over_clean_releases(ctx: &Ctx, x: Exclusive) {
    if matches!(x, Exclusive::Upgradeable | Exclusive::All) {
        // They have no fenced form; where tokens are free their guards have them too.
        if ctx.capabilities.fencing != pilotman_core::Fencing::Free {
            return ctx.skip("tokens of this primitive can't be asked for");
        }
    }
    let (clients, name) = ([ctx.client(), ctx.client()], x.name(ctx));
    let mut tokens = Vec::new();
    for round in 0..30 {
        let mut lock = x.lock(&clients[round % 2], &name);
        if !matches!(x, Exclusive::Upgradeable | Exclusive::All) {
            lock = lock.fenced();
        }
        let hold = lock.take();
        tokens.push(hold.fenced_token());
        match round % 3 {
            0 => hold.release(),
            _ => drop(hold),
        }
    }
    check_increase(&tokens);
}

fn increase_over_a_thousand_hand_offs(ctx: &Ctx) {
    let (clients, name) = ([ctx.client(), ctx.client()], ctx.mutex_name());
    let tokens = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (client, name, tokens) = (&clients[worker % 2], &name, &tokens);
            scope.spawn(move || {
                for round in 0..125 {
                    let hold = client.mutex(name).fenced().take();
                    tokens.lock().unwrap().push(hold.fenced_token());
                    match round % 2 {
                        0 => hold.release(),
                        _ => drop(hold),
                    }
                }
            });
        }
    });
    let tokens = tokens.into_inner().unwrap();
    assert_eq!(tokens.len(), 1000);
    check_increase(&tokens);
}

fn increase_over_processes(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let mut tokens = Vec::new();
    let mine = || {
        let hold = client.mutex(&name).fenced().take();
        let token = hold.fenced_token();
        hold.release();
        token
    };
    for _ in 0..2 {
        tokens.push(mine());
        let taker = Taker::start(ctx, &Kind::Mutex, &name, &Task::Hold);
        tokens.push(taker.acquired().expect("the other process has a token"));
        taker.release();
    }
    tokens.push(mine());
    check_increase(&tokens);
}

fn increase_over_a_loss(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let lock = client.mutex(&name).fenced();
    let hold = lock.take();
    let first = hold.fenced_token();
    assert!(ctx.lose(&lock, &hold));
    let second = other.mutex(&name).fenced().take();
    check_increase(&[first, second.fenced_token()]);
    drop(hold);
    second.release();
    check_increase(&[first, lock.take().fenced_token()]);
}

fn increase_over_a_break(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let mut tokens = Vec::new();
    for _ in 0..5 {
        let hold = client.mutex(&name).fenced().take();
        tokens.push(hold.fenced_token());
        assert_eq!(other.force_release(&Kind::Mutex, &name).unwrap().len(), 1);
        let next = other.mutex(&name).fenced().take();
        tokens.push(next.fenced_token());
        drop(hold);
        next.release();
    }
    check_increase(&tokens);
}

fn of_a_semaphore_are_unique(ctx: &Ctx) {
    let (clients, name) = ([ctx.client(), ctx.client()], ctx.name_of(Kind::Permit(3)));
    let mut last = 0;
    for round in 0..10 {
        let holds: Vec<_> = (0..3).map(|i| clients[(round + i) % 2].semaphore(&name, 3).fenced().take()).collect();
        let tokens: Vec<_> = holds.iter().map(|hold| hold.fenced_token()).collect();
        check_increase(&tokens);
        assert!(tokens[0] > last, "{tokens:?} come after {last}");
        last = tokens[2];
    }
}

fn stay_with_a_hold(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    for wait in [Wait::Try, Wait::For(crate::context::SOON), Wait::Timeout(crate::context::SOON), Wait::Forever] {
        let hold = client.mutex(&name).fenced().get(wait).unwrap().expect("it is free");
        let (token, held) = (hold.fenced_token(), hold.guard().held());
        assert_eq!(held.token(), Some(token));
        hold.release();
        assert_eq!(held.token(), Some(token), "a witness keeps the token of its hold");
    }
    assert!(client.mutex(&name).fenced().name() == name);
}
