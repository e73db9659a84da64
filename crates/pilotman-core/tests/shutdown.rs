//! Locks that are closed, and runtimes that end before them.

mod common;

use std::time::Duration;

use common::{LONG, Scripted, eventually, on_a_thread, poll_once, within_long};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{ErrorKind, HoldState, Locks, Primitive};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_release_does_not_hang_when_the_runtime_is_gone() {
    let runtime = runtime();
    let locks = Locks::builder(Scripted::remote().0).runtime(runtime.handle().clone()).build();
    let [one, other] = ["a", "b"].map(|name| pollster::block_on(locks.mutex(name).acquire()).unwrap());
    drop(runtime);
    let released = on_a_thread(move || pollster::block_on(one.release()));
    assert_eq!(released.unwrap_err().kind(), ErrorKind::Closed);
    on_a_thread(move || drop(other));
}

#[test]
fn an_acquire_does_not_hang_when_the_runtime_is_gone() {
    let runtime = runtime();
    let locks = Locks::builder(Scripted::remote().0).runtime(runtime.handle().clone()).build();
    drop(runtime);
    let mutex = locks.mutex("a");
    on_a_thread(move || {
        // The first one must not spoil the lock for those behind it.
        for _ in 0..2 {
            assert!(pollster::block_on(mutex.try_acquire()).is_err());
        }
        assert!(pollster::block_on(mutex.acquire()).is_err());
    });
}

#[tokio::test]
async fn closing_gives_back_before_it_closes_the_backend() {
    // Often, for the two would race if nobody saw to their order.
    for round in 0..50 {
        let space = format!("closing {round}");
        let (backend, script) = Scripted::remote_shared(&space);
        let (locks, outside) = (Locks::new(backend), Locks::new(MemoryBackend::shared(&space)));
        let _theirs = outside.mutex("a").acquire().await.unwrap();
        let waiting = tokio::spawn({
            let mutex = locks.mutex("a");
            async move { mutex.acquire().await.map(drop) }
        });
        is_waited_for(&outside).await;
        within_long(locks.close()).await;
        assert_eq!(script.log(), ["abandon", "close"]);
        assert_eq!(within_long(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn the_backend_is_closed_with_the_last_hold() {
    let (backend, script) = Scripted::remote();
    let locks = Locks::new(backend);
    let guard = locks.mutex("a").acquire().await.unwrap();
    // With other options, so that it waits at the backend and not in the queue behind the guard.
    let waiting = tokio::spawn({
        let mutex = locks.mutex("a").hold_at_most(LONG);
        async move { mutex.acquire().await.map(drop) }
    });
    is_waited_for(&locks).await;
    within_long(locks.close()).await;
    assert_eq!(script.log(), ["abandon"]);
    assert_eq!(within_long(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(guard.state(), HoldState::Held);
    drop(guard);
    eventually("the backend is closed", async || script.log() == ["abandon", "release", "close"]).await;
}

#[tokio::test]
async fn closing_goes_on_when_its_future_is_dropped() {
    for again in [false, true] {
        let (backend, script) = Scripted::remote();
        let locks = Locks::new(backend);
        let guard = locks.mutex("a").acquire().await.unwrap();
        // So that the first close has something to wait for.
        script.release_takes(Duration::from_millis(300));
        drop(guard);
        let mut close = Box::pin(locks.close());
        // Whether it is over already is a matter of luck; the order is not.
        let _ = poll_once(close.as_mut());
        drop(close);
        if again {
            within_long(locks.close()).await;
        }
        eventually("the backend is closed, and after the release", async || script.log() == ["release", "close"]).await;
    }
}

#[tokio::test]
async fn closing_goes_on_when_its_future_is_dropped_while_waits_end() {
    let space = "closing and dropped";
    let (backend, script) = Scripted::remote_shared(space);
    let (locks, outside) = (Locks::new(backend), Locks::new(MemoryBackend::shared(space)));
    let _theirs = outside.mutex("a").acquire().await.unwrap();
    let mutex = locks.mutex("a");
    let mut waiting = Box::pin(mutex.acquire());
    assert!(poll_once(waiting.as_mut()).is_pending());
    is_waited_for(&outside).await;
    let mut close = Box::pin(locks.close());
    let _ = poll_once(close.as_mut());
    drop(close);
    // No hold ends here, with which the backend could be closed too.
    eventually("the backend is closed", async || script.log() == ["abandon", "close"]).await;
    assert_eq!(within_long(waiting).await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Until somebody waits at the backend for the mutex.
async fn is_waited_for(locks: &Locks) {
    eventually("somebody waits", async || {
        locks.inspect("a", Primitive::Mutex).await.unwrap().waiters.is_some_and(|waiters| waiters > 0)
    })
    .await;
}
