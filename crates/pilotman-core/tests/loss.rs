//! Losses: who is told, when, and what becomes of those who wait behind a lost hold.

mod common;

use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{Flag, LONG, eventually, on_a_thread, poll_once, within_long};
use pilotman_core::clock::{Clock, ManualClock, SystemClock};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{ErrorKind, Held, HoldState, Locks, LossReason, Primitive};

#[tokio::test]
async fn a_loss_is_told_even_if_the_guard_is_dropped_first() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").lease(Duration::from_secs(10)).acquire().await.unwrap();
    let (held, mut lost) = (guard.held(), Box::pin(guard.lost()));
    assert!(poll_once(lost.as_mut()).is_pending());
    locks.force_release("a", Primitive::Mutex).await.unwrap();
    // Work that runs under the lock does this when somebody else noticed the loss before it.
    drop(guard);
    assert_eq!(held.state(), HoldState::Lost);
    assert_eq!(poll_once(lost.as_mut()), Poll::Ready(LossReason::Gone));
}

#[tokio::test]
async fn a_holder_learns_that_another_user_broke_its_lock() {
    let one = Locks::new(MemoryBackend::shared("broken by another"));
    let other = Locks::new(MemoryBackend::shared("broken by another"));
    let guard = one.mutex("a").acquire().await.unwrap();
    other.force_release("a", Primitive::Mutex).await.unwrap();
    let theirs = other.mutex("a").try_acquire().await.unwrap().expect("the lock was broken");
    assert_eq!(guard.state(), HoldState::Lost);
    assert_eq!(theirs.state(), HoldState::Held);
}

#[tokio::test]
async fn those_who_wait_do_not_get_the_loss_of_the_holder() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a");
    let guard = mutex.acquire().await.unwrap();
    let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(mutex.acquire())).collect();
    for wait in &mut waiting {
        assert!(poll_once(wait.as_mut()).is_pending());
    }
    locks.force_release("a", Primitive::Mutex).await.unwrap();
    drop(guard);
    for wait in waiting {
        let next = within_long(wait).await.unwrap();
        assert_eq!(next.state(), HoldState::Held);
    }
}

#[tokio::test]
async fn an_upgraded_hold_is_not_handed_on_as_a_read() {
    let locks = Locks::memory();
    let lock = locks.rw_lock("a");
    let mut guard = lock.upgradeable_read().await.unwrap();
    guard.upgrade().await.unwrap();
    let mut waiting = Box::pin(lock.upgradeable_read());
    assert!(poll_once(waiting.as_mut()).is_pending());
    drop(guard);
    let next = within_long(waiting).await.unwrap();
    assert!(!next.is_upgraded());
    // Still a write at the backend, it would keep them out.
    assert!(lock.try_read_for(LONG).await.unwrap().is_some(), "readers may come in");
}

#[tokio::test]
async fn several_locks_are_held_together_or_not_at_all() {
    let locks = Locks::new(MemoryBackend::new().default_lease(Duration::from_secs(60)));
    let last = locks.mutex("b").acquire().await.unwrap();
    let mut all = Box::pin(locks.acquire_all(["a", "b"]));
    assert!(poll_once(all.as_mut()).is_pending());
    // The first of them is lost during the wait for the second.
    assert_eq!(locks.force_release("a", Primitive::Mutex).await.unwrap().len(), 1);
    drop(last);
    assert_eq!(within_long(all).await.unwrap_err().kind(), ErrorKind::Lost);
    assert!(locks.list().await.unwrap().is_empty(), "the others are given back");
}

#[tokio::test]
async fn nothing_remains_of_a_lost_lease() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").lease(Duration::from_secs(60)).acquire().await.unwrap();
    locks.force_release("a", Primitive::Mutex).await.unwrap();
    assert_eq!(guard.state(), HoldState::Lost);
    assert_eq!(guard.remaining(), Some(Duration::ZERO));
}

#[tokio::test]
async fn what_remains_ends_with_the_time_that_one_may_hold() {
    let locks = Locks::memory();
    let limit = Duration::from_secs(60);
    let guard = locks.mutex("a").hold_at_most(limit).acquire().await.unwrap();
    let remaining = guard.remaining().expect("the hold ends some day");
    assert!(remaining <= limit && remaining > Duration::ZERO, "{remaining:?}");
}

#[tokio::test]
async fn the_longest_lease_is_not_over_at_once() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").lease(Duration::MAX).acquire().await.unwrap();
    assert_eq!(guard.state(), HoldState::Held);
}

/// A task that panics when it is woken.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("this waker always panics");
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_loss_from_being_told() {
    // The renewals run on a runtime that nobody drives, so both leases end, and at the same moment.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = ManualClock::new();
    let locks = Locks::builder(MemoryBackend::new()).clock(clock.clone()).runtime(runtime.handle().clone()).build();
    let acquire = |name| pollster::block_on(locks.mutex(name).lease(Duration::from_secs(10)).acquire()).unwrap();
    let guards = [acquire("a"), acquire("b"), acquire("c")];
    let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    let wakers = [flags[0].clone().into(), Waker::from(Arc::new(Bomb)), flags[1].clone().into()];
    let mut lost = guards.each_ref().map(|guard| Box::pin(guard.lost()));
    for (lost, waker) in lost.iter_mut().zip(&wakers) {
        assert!(lost.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    clock.advance(Duration::from_secs(10));
    assert!(flags.iter().all(|flag| flag.is_set()), "{flags:?}");
}

/// Keeps the thread that rings alarms busy, so that those which come due meanwhile ring together.
struct Gate {
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        // A test that has ended closes both channels, which opens the gate.
        let _ = self.reached.send(());
        let _ = self.open.lock().unwrap().recv();
    }
}

#[tokio::test]
async fn an_alarm_that_panics_keeps_no_other_from_ringing() {
    let clock = SystemClock::new();
    let ((reached, is_reached), (open, is_open)) = (channel(), channel());
    clock.arm(clock.now(), Waker::from(Arc::new(Gate { reached, open: Mutex::new(is_open) })));
    is_reached.recv_timeout(LONG).unwrap();
    let (same, later) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let now = clock.now();
    clock.arm(now, Waker::from(Arc::new(Bomb)));
    clock.arm(now, same.clone().into());
    drop(open);
    eventually("the alarm behind the panic rings", async || same.is_set()).await;
    clock.arm(clock.now(), later.clone().into());
    eventually("the clock goes on", async || later.is_set()).await;
}

/// A task that asks for the state of the lock when it is dropped.
struct LooksWhenDropped(Held);

impl Wake for LooksWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for LooksWhenDropped {
    fn drop(&mut self) {
        self.0.state();
    }
}

#[test]
fn a_waker_may_look_at_the_lock_when_it_is_dropped() {
    for guard_first in [false, true] {
        on_a_thread(move || {
            let locks = Locks::memory();
            let guard = pollster::block_on(locks.mutex("a").acquire()).unwrap();
            let waker = Waker::from(Arc::new(LooksWhenDropped(guard.held())));
            let mut lost = Box::pin(guard.lost());
            assert!(lost.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // The last one is the lock's own, dropped where it takes it out.
            drop(waker);
            if guard_first {
                drop(guard);
                drop(lost);
            } else {
                drop(lost);
                drop(guard);
            }
        });
    }
}
