//! Runtimes: none, two, blocked, ending.

use std::time::Duration;

use pilotman_core::HoldState;
use tokio::runtime::Builder;

use super::{exclusive, only, plain};
use crate::case::{Case, Exclusive, Forms};
use crate::context::{Ctx, SOON};
use crate::surface::settle;

pub(super) const CASES: &[Case] = &[
    exclusive("runtime", "drop_in_a_plain_thread", &[], drop_in_a_plain_thread),
    only(
        Forms::Async,
        plain("runtime", "drop_while_the_runtime_shuts_down", &["mutex"], drop_while_the_runtime_shuts_down),
    ),
    only(Forms::Async, plain("runtime", "two_runtimes_share_locks", &["mutex"], two_runtimes_share_locks)),
    only(Forms::Async, plain("runtime", "a_runtime_without_timers_or_io", &["mutex"], a_runtime_without_timers_or_io)),
    only(
        Forms::Async,
        plain("runtime", "a_blocked_runtime_is_no_obstacle", &["mutex"], a_blocked_runtime_is_no_obstacle),
    ),
    only(
        Forms::Async,
        plain("runtime", "blocking_calls_inside_a_runtime", &["mutex"], blocking_calls_inside_a_runtime),
    ),
    plain("runtime", "locks_outlive_their_handles", &["mutex"], locks_outlive_their_handles),
    plain("runtime", "drop_while_panicking", &["mutex"], drop_while_panicking),
];

fn drop_in_a_plain_thread(ctx: &Ctx, x: Exclusive) {
    let (client, other, name) = (ctx.client(), ctx.client(), x.name(ctx));
    for _ in 0..5 {
        let hold = x.lock(&client, &name).take();
        std::thread::spawn(move || drop(hold)).join().expect("dropping a guard does not panic");
        x.lock(&other, &name).take().release();
    }
}

fn drop_while_the_runtime_shuts_down(ctx: &Ctx) {
    let other = ctx.client();
    for background in [true, false] {
        let (client, held, awaited) = (ctx.client(), ctx.mutex_name(), ctx.mutex_name());
        let outside = other.mutex(&awaited).take();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let mutex = client.locks.mutex(&held);
        let (sender, taken) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let _guard = mutex.acquire().await.unwrap();
            sender.send(()).expect("the case waits for it");
            std::future::pending::<()>().await;
        });
        let waiting = client.locks.mutex(&awaited);
        runtime.spawn(async move { drop(waiting.acquire().await) });
        taken.recv_timeout(SOON).expect("the lock is free");
        std::thread::sleep(settle());
        match background {
            true => runtime.shutdown_background(),
            false => drop(runtime),
        }
        // The guard and the wait of the dropped tasks are given up.
        other.mutex(&held).take().release();
        outside.release();
        other.mutex(&awaited).take().release();
    }
}

fn two_runtimes_share_locks(ctx: &Ctx) {
    let (client, name) = (ctx.client(), ctx.mutex_name());
    let runtimes =
        [(); 2].map(|()| Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));
    let tasks: Vec<_> = (0..40)
        .map(|i| {
            let mutex = client.locks.mutex(&name);
            runtimes[i % 2].spawn(async move {
                let guard = mutex.acquire().await.unwrap();
                tokio::task::yield_now().await;
                guard.release().await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        let done = ctx.handle().block_on(async { tokio::time::timeout(SOON * 2, task).await });
        assert_eq!(done.expect("a turn for each").expect("no panic"), pilotman_core::Release::Released);
    }
    // A guard of one runtime goes to the other one, and outlives its own.
    let [one, other] = runtimes;
    let guard = one.block_on(client.locks.mutex(&name).acquire()).unwrap();
    one.shutdown_background();
    assert_eq!(guard.state(), HoldState::Held);
    other.block_on(guard.release()).unwrap();
    client.mutex(&name).take().release();
}

fn a_runtime_without_timers_or_io(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let hold = other.mutex(&name).take();
    let mutex = client.locks.mutex(&name);
    assert!(runtime.block_on(mutex.try_acquire_for(Duration::from_millis(50))).unwrap().is_none());
    let releaser = std::thread::spawn(move || {
        std::thread::sleep(settle());
        hold.release();
    });
    runtime.block_on(async { mutex.acquire_timeout(SOON).await.unwrap().release().await }).unwrap();
    releaser.join().expect("no panic");
    // And none at all.
    pollster::block_on(async { mutex.acquire_timeout(SOON).await.unwrap().release().await }).unwrap();
}

fn a_blocked_runtime_is_no_obstacle(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let guard = client.locks.mutex(&name).acquire().await.unwrap();
        let waiter = other.mutex(&name).start(crate::surface::Wait::Forever);
        drop(guard);
        // The release was put into the background; this thread, the runtime's only one, does not return to it.
        let (hold, _) = waiter.hold_within(SOON);
        hold.into_async_guard().release().await.unwrap();
    });
}

fn blocking_calls_inside_a_runtime(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let hold = other.mutex(&name).take();
    let locks = pilotman_core::blocking::Locks::from(client.locks.clone());
    let task = ctx.handle().spawn({
        let name = name.clone();
        async move {
            // Bad manners, but it must neither panic nor deadlock.
            locks.mutex(&name).acquire_timeout(SOON).unwrap().release().unwrap()
        }
    });
    std::thread::sleep(settle());
    hold.release();
    let done = ctx.handle().block_on(async { tokio::time::timeout(SOON * 2, task).await });
    assert_eq!(done.expect("it gets its turn").expect("no panic"), pilotman_core::Release::Released);
}

fn locks_outlive_their_handles(ctx: &Ctx) {
    let (other, name) = (ctx.client(), ctx.mutex_name());
    let hold = {
        let client = ctx.client();
        client.mutex(&name).take()
    };
    assert_eq!(hold.state(), HoldState::Held);
    other.mutex(&name).must_be_taken();
    let waiter = {
        let client = ctx.client();
        client.mutex(&name).start_waiting()
    };
    drop(hold);
    waiter.hold_within(SOON).0.release();
    other.mutex(&name).take().release();
}

fn drop_while_panicking(ctx: &Ctx) {
    let (client, other, name) = (ctx.client(), ctx.client(), ctx.mutex_name());
    let hold = client.mutex(&name).take();
    let unwound = std::thread::spawn(move || {
        let _hold = hold;
        // Without the message of a panic, which would look like a failure.
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(unwound.join().is_err());
    other.mutex(&name).take().release();
}
