//! Loss: told once, told in time, harmless to others.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, LossReason, Release};

use super::{exclusive, only, plain};
use crate::case::{Case, Exclusive, Forms};
use crate::context::{Ctx, SOON};

pub(super) const CASES: &[Case] = &[
    exclusive("loss", "is_told", &["loss", "lose"], is_told),
    exclusive("loss", "before_anybody_listened_is_told", &["loss", "lose"], before_anybody_listened_is_told),
    exclusive("loss", "is_not_told_after_a_release", &[], is_not_told_after_a_release),
    plain("loss", "release_while_watched", &["mutex"], release_while_watched),
    plain(
        "loss",
        "a_late_release_spares_the_next_holder",
        &["mutex", "loss", "lose"],
        a_late_release_spares_the_next_holder,
    ),
    only(Forms::Async, plain("loss", "ends_the_work", &["mutex", "loss", "lose"], ends_the_work)),
    only(Forms::Blocking, plain("loss", "is_told_after_the_work", &["mutex", "loss", "lose"], is_told_after_the_work)),
    plain("loss", "work_without_loss_returns", &["mutex"], work_without_loss_returns),
    plain("loss", "hold_at_most", &["mutex"], hold_at_most),
];

fn is_told(ctx: &Ctx, x: Exclusive) {
    let (client, other, name) = (ctx.brief_client(), ctx.client(), x.name(ctx));
    let lock = x.lock(&client, &name);
    let hold = lock.take();
    assert_eq!(hold.lost_within(Duration::from_millis(50)), None, "nothing was lost yet");
    if !ctx.lose(&lock, &hold) {
        return;
    }
    let start = Instant::now();
    let reason = hold.lost_within(SOON).expect("the loss is told");
    println!("told after {:?}: {reason}", start.elapsed());
    assert_ne!(reason, LossReason::HoldLimit);
    assert_eq!(hold.state(), HoldState::Lost);
    let error = hold.guard().ensure_held().unwrap_err();
    assert_eq!((error.kind(), error.loss()), (ErrorKind::Lost, Some(&reason)));
    assert_eq!(
        hold.lost_within(Duration::from_millis(200)),
        Some(reason.clone()),
        "lost is final, and told to whoever asks"
    );
    assert_eq!(hold.try_release().unwrap(), Release::AlreadyLost(reason));
    x.lock(&other, &name).take().release();
}

fn before_anybody_listened_is_told(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.brief_client(), x.name(ctx));
    let lock = x.lock(&client, &name);
    let hold = lock.take();
    if !ctx.lose(&lock, &hold) {
        return;
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(hold.lost_within(SOON).is_some(), "a loss before the first question is told too");
    assert!(matches!(hold.try_release().unwrap(), Release::AlreadyLost(_)));
}

fn is_not_told_after_a_release(ctx: &Ctx, x: Exclusive) {
    let (client, name) = (ctx.client(), x.name(ctx));
    for watched in [true, false] {
        let hold = x.lock(&client, &name).take();
        if watched {
            assert_eq!(hold.lost_within(Duration::from_millis(20)), None);
        }
        let lost = hold.guard().lost();
        hold.release();
        let told = ctx.handle().block_on(async { tokio::time::timeout(Duration::from_millis(150), lost).await });
        assert!(told.is_err(), "a release is no loss: {told:?}");
    }
}

fn release_while_watched(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    for _ in 0..20 {
        let hold = client.mutex(&name).take();
        let watcher = ctx.handle().spawn(hold.guard().lost());
        std::thread::sleep(Duration::from_millis(2));
        hold.release();
        assert!(!watcher.is_finished(), "a release is no loss");
        watcher.abort();
    }
}

fn a_late_release_spares_the_next_holder(ctx: &Ctx) {
    let (client, other, name) = (ctx.brief_client(), ctx.client(), ctx.mutex_name());
    for dropped in [true, false] {
        let lock = client.mutex(&name);
        let late = lock.take();
        assert!(ctx.lose(&lock, &late));
        late.lost_within(SOON).expect("the loss is told");
        let next = other.mutex(&name).take();
        if dropped {
            drop(late);
        } else {
            assert!(matches!(late.try_release().unwrap(), Release::AlreadyLost(_)));
        }
        // Whatever the late release does in the background, the lock stays with its holder.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(next.state(), HoldState::Held);
        ctx.client().mutex(&name).must_be_taken();
        next.release();
    }
}

fn ends_the_work(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let lock = client.mutex(&name);
    let (sender, held) = std::sync::mpsc::channel();
    let mutex = client.locks.mutex(&name);
    let work = ctx.handle().spawn(async move {
        mutex
            .run(|held| async move {
                held.ensure_held().expect("held");
                sender.send(()).expect("the case waits for it");
                std::future::pending::<()>().await;
            })
            .await
    });
    held.recv_timeout(SOON).expect("the work begins");
    // The guard is inside, so only means that need none can be used: whatever the backend's author gave, or a break.
    let broken = ctx.client();
    if ctx.capabilities.force_release {
        assert_eq!(broken.force_release(lock.kind(), &name).unwrap().len(), 1);
    } else {
        work.abort();
        return ctx.skip("the lock can't be broken from outside while the work has the guard");
    }
    let ended = ctx.handle().block_on(async { tokio::time::timeout(SOON, work).await });
    let error = ended.expect("the work is cancelled in time").expect("no panic").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert!(error.loss().is_some(), "{error:?}");
}

fn is_told_after_the_work(ctx: &Ctx) {
    if !ctx.capabilities.force_release {
        return ctx.skip("the lock can't be broken from outside while the work has the guard");
    }
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let mutex = pilotman_core::blocking::Locks::from(client.locks.clone()).mutex(&name);
    let error = mutex
        .run(|held| {
            held.ensure_held().expect("held");
            assert_eq!(ctx.client().force_release(&crate::surface::Kind::Mutex, &name).unwrap().len(), 1);
            let start = Instant::now();
            while held.ensure_held().is_ok() && start.elapsed() < SOON {
                std::thread::sleep(Duration::from_millis(2));
            }
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

fn work_without_loss_returns(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let async_mutex = client.locks.mutex(&name);
    let blocking = pilotman_core::blocking::Locks::from(client.locks.clone()).mutex(&name);
    let done = match ctx.form {
        crate::surface::Form::Async => ctx.handle().block_on(async_mutex.run(|held| async move { held.name().len() })),
        crate::surface::Form::Blocking => blocking.run(|held| held.name().len()),
    };
    assert_eq!(done.unwrap(), name.len());
    client.mutex(&name).take().release();
}

fn hold_at_most(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let limit = Duration::from_millis(300);
    let start = Instant::now();
    let hold = client.mutex(&name).hold_at_most(limit).take();
    let waiter = other.mutex(&name).start_waiting();
    assert_eq!(hold.lost_within(SOON), Some(LossReason::HoldLimit));
    let told = start.elapsed();
    assert!(told >= limit && told < limit + Duration::from_secs(1), "a limit of {limit:?} ended after {told:?}");
    assert_eq!(hold.state(), HoldState::Lost);
    let (next, _) = waiter.hold_within(SOON);
    assert_eq!(hold.try_release().unwrap(), Release::AlreadyLost(LossReason::HoldLimit));
    assert_eq!(next.state(), HoldState::Held, "the next holder is spared");
    other.mutex(&name).must_be_taken();
    next.release();
    // A release in time takes the limit with it.
    client.mutex(&name).hold_at_most(limit).take().release();
    let hold = client.mutex(&name).take();
    assert_eq!(hold.lost_within(limit * 2), None);
    hold.release();
}
