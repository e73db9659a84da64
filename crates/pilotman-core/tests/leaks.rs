//! What is dropped, fails or panics leaves nothing behind, and nothing out of order.

mod common;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{Flag, LONG, Scripted, eventually, poll_once};
use pilotman_core::clock::{Alarm, Clock, ManualClock, Time};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{HoldState, Locks, blocking};

/// A manual clock that knows how many alarms are set.
#[derive(Debug)]
struct Counting {
    inner: Arc<ManualClock>,
    alarms: Arc<()>,
}

struct Counted(Waker, #[expect(dead_code, reason = "counted by being there")] Arc<()>);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}

impl Counting {
    fn alarms(&self) -> usize {
        Arc::strong_count(&self.alarms) - 1
    }
}

impl Clock for Counting {
    fn now(&self) -> Time {
        self.inner.now()
    }

    fn arm(&self, at: Time, waker: Waker) -> Alarm {
        self.inner.arm(at, Waker::from(Arc::new(Counted(waker, self.alarms.clone()))))
    }

    fn disarm(&self, alarm: Alarm) {
        self.inner.disarm(alarm);
    }
}

#[test]
fn alarms_do_not_pile_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Arc::new(Counting { inner: ManualClock::new(), alarms: Arc::default() });
    let locks = Locks::builder(MemoryBackend::new()).clock(clock.clone()).runtime(runtime.handle().clone()).build();
    let acquire =
        |name, lease| runtime.block_on(locks.mutex(name).lease(Duration::from_secs(lease)).acquire()).unwrap();
    // Short leases come and go beside a long one, whose alarm they overtake each time.
    let long = acquire("long", 30);
    for _ in 0..300 {
        drop(acquire("short", 3));
        for _ in 0..4 {
            clock.inner.advance(Duration::from_secs(1));
            runtime.block_on(async {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    assert_eq!(long.state(), HoldState::Held);
    assert!(clock.alarms() < 10, "{} alarms for one hold", clock.alarms());
}

#[tokio::test]
async fn a_wait_for_a_loss_that_is_dropped_leaves_no_waker() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").acquire().await.unwrap();
    for _ in 0..10 {
        let task = Arc::new(Flag::default());
        let waker = Waker::from(task.clone());
        let mut lost = Box::pin(guard.lost());
        assert!(lost.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&task), 3);
        drop((lost, waker));
        assert_eq!(Arc::strong_count(&task), 1);
    }
}

#[test]
fn nobody_watches_a_hold_that_was_released() {
    let (backend, script) = Scripted::local();
    let locks = Locks::new(backend);
    let guard = pollster::block_on(locks.mutex("a").acquire()).unwrap();
    let (early, late) = (Box::pin(guard.lost()), Box::pin(guard.lost()));
    drop(guard);
    for mut lost in [early, late] {
        assert!(poll_once(lost.as_mut()).is_pending());
    }
    assert_eq!(script.log(), ["release"]);
    // And one that is held is watched, once for all who wait.
    let guard = pollster::block_on(locks.mutex("a").acquire()).unwrap();
    for mut lost in [Box::pin(guard.lost()), Box::pin(guard.lost())] {
        assert!(poll_once(lost.as_mut()).is_pending());
    }
    assert_eq!(script.log(), ["release", "observe"]);
}

#[tokio::test]
async fn a_cancel_token_keeps_nothing_of_a_wait_that_is_over() {
    let locks = blocking::Locks::memory();
    let token = blocking::CancelToken::new();
    let guard = locks.mutex("a").acquire().unwrap();
    let waiter = std::thread::spawn({
        let mutex = locks.mutex("a").with_cancel(&token);
        move || mutex.acquire_timeout(LONG).map(drop)
    });
    let keeps_a_waker = || format!("{token:?}").contains("Waker {");
    eventually("the waiter can be cancelled", async || keeps_a_waker()).await;
    drop(guard);
    waiter.join().unwrap().unwrap();
    assert!(!keeps_a_waker(), "{token:?}");
}

#[tokio::test]
async fn an_attempt_that_panics_keeps_nobody_else_out() {
    for operation in ["try_acquire", "enqueue"] {
        let (backend, script) = Scripted::remote();
        let locks = Locks::new(backend);
        let mutex = locks.mutex("a");
        script.panic_in(operation);
        match operation {
            "try_acquire" => drop(mutex.try_acquire().await.unwrap_err()),
            _ => drop(mutex.acquire_timeout(LONG).await.unwrap_err()),
        }
        drop(mutex.acquire_timeout(LONG).await.expect(operation));
    }
}

#[tokio::test]
async fn a_release_that_panics_keeps_nobody_out_for_longer_than_the_lease() {
    let (backend, script) = Scripted::remote();
    let locks = Locks::new(backend);
    let mutex = locks.mutex("a").lease(Duration::from_secs(1));
    let guard = mutex.acquire().await.unwrap();
    script.panic_in("release");
    guard.release().await.unwrap_err();
    drop(mutex.acquire_timeout(LONG).await.unwrap());
}

#[test]
fn a_name_whose_preparation_panics_spoils_no_other() {
    let (backend, script) = Scripted::remote();
    let locks = Locks::new(backend);
    script.panic_in("prepare");
    let bad = locks.mutex("bad");
    assert!(std::thread::spawn(move || pollster::block_on(bad.acquire()).map(drop)).join().is_err());
    drop(pollster::block_on(locks.mutex("good").acquire_timeout(LONG)).unwrap());
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_is_given_back() {
    let (backend, script) = Scripted::local();
    let locks = Locks::new(backend);
    script.lose_answer();
    locks.mutex("a").try_acquire().await.unwrap_err();
    eventually("the attempt is abandoned", async || script.log() == ["abandon"]).await;
    drop(locks.mutex("a").acquire_timeout(LONG).await.unwrap());
}

#[test]
fn a_short_lease_does_not_cut_short_the_release_of_a_long_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (backend, script) = Scripted::remote_shared("short and long");
    let locks = Locks::builder(backend).runtime(runtime.handle().clone()).build();
    let lock = |name, lease| locks.mutex(name).lease(lease);
    runtime.block_on(async {
        // Longer than the whole test: what is not released stays taken.
        let long = lock("long", 3 * LONG).acquire().await.unwrap();
        let short = lock("short", Duration::from_secs(3)).acquire().await.unwrap();
        // More than one operation on the short lease may take, and less than one on the long lease.
        script.release_takes(Duration::from_millis(700));
        drop((long, short));
        let outside = Locks::new(MemoryBackend::shared("short and long")).mutex("long");
        eventually("the long one is released", async || outside.try_acquire().await.unwrap().is_some()).await;
    });
}
