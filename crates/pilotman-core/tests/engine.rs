//! The engine on the memory backend, as a user sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotman_core::clock::{Clock, ManualClock};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{ErrorKind, HoldState, Locks, LossReason, Primitive, Release};

#[tokio::test]
async fn one_holder_at_a_time() {
    let locks = Locks::memory();
    let mutex = locks.mutex("a");
    let guard = mutex.acquire().await.unwrap();
    assert!(mutex.try_acquire().await.unwrap().is_none());
    assert!(locks.mutex("b").try_acquire().await.unwrap().is_some());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert!(mutex.try_acquire().await.unwrap().is_some());
    assert!(locks.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_are_served_and_never_together() {
    let locks = Locks::memory();
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..1000 {
        let (mutex, inside) = (locks.mutex("a"), inside.clone());
        tasks.push(tokio::spawn(async move {
            let guard = mutex.acquire().await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(guard);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(locks.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_time_out_returns_and_leaves_nothing() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").acquire().await.unwrap();
    let error = locks.mutex("a").acquire_timeout(Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("'a'"), "{error}");
    drop(guard);
    assert!(locks.mutex("a").try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn two_users_of_a_shared_space_exclude_each_other() {
    let one = Locks::new(MemoryBackend::shared("x"));
    let other = Locks::new(MemoryBackend::shared("x"));
    let guard = one.mutex("a").acquire().await.unwrap();
    assert!(other.mutex("a").try_acquire().await.unwrap().is_none());
    let waiting = tokio::spawn({
        let mutex = other.mutex("a");
        async move { mutex.acquire().await.unwrap().token() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let first = guard.token();
    drop(guard);
    assert!(waiting.await.unwrap() > first);
}

#[test]
fn a_lease_is_told_lost_before_it_ends_for_others() {
    // The renewals run on a runtime that nobody drives, so they never happen; the loss must be told all the same.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = ManualClock::new();
    let locks = Locks::builder(MemoryBackend::new()).clock(clock.clone()).runtime(runtime.handle().clone()).build();
    let guard = pollster::block_on(locks.mutex("a").lease(Duration::from_secs(10)).acquire()).unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let waiter = std::thread::spawn({
        let (lost, told) = (guard.lost(), told.clone());
        move || {
            assert_eq!(pollster::block_on(lost), LossReason::Expired);
            told.store(1, Ordering::SeqCst);
        }
    });
    clock.advance(Duration::from_millis(9_800));
    assert_eq!(guard.state(), HoldState::Held);
    assert_eq!(guard.remaining(), Some(Duration::from_millis(98)));
    clock.advance(Duration::from_millis(99));
    waiter.join().unwrap();
    assert_eq!(guard.state(), HoldState::Lost);
    // For others it is still taken: the loss was told first.
    assert_eq!(pollster::block_on(locks.inspect("a", Primitive::Mutex)).unwrap().holders.len(), 1);
    assert_eq!(guard.ensure_held().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(pollster::block_on(guard.release()).unwrap(), Release::AlreadyLost(LossReason::Expired));
}

#[test]
fn leases_are_renewed_while_the_callers_runtime_is_blocked() {
    let locks = Locks::memory();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mutex = locks.mutex("a").lease(Duration::from_millis(300));
        let guard = mutex.acquire().await.unwrap();
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(guard.state(), HoldState::Held);
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    });
}

#[tokio::test]
async fn held_for_as_long_as_allowed() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").hold_at_most(Duration::from_millis(50)).acquire().await.unwrap();
    assert_eq!(guard.lost().await, LossReason::HoldLimit);
    assert!(locks.mutex("a").acquire_timeout(Duration::from_secs(5)).await.is_ok());
    assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::HoldLimit));
}

#[tokio::test]
async fn work_is_cancelled_when_the_lock_is_broken() {
    let locks = Locks::memory();
    let (breaker, mutex) = (locks.clone(), locks.mutex("a"));
    let work = mutex.run(async |held| {
        assert_eq!(held.state(), HoldState::Held);
        assert_eq!(breaker.force_release("a", Primitive::Mutex).await.unwrap().len(), 1);
        std::future::pending::<()>().await;
    });
    let error = tokio::time::timeout(Duration::from_secs(10), work).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.loss()), (ErrorKind::Lost, Some(&LossReason::Gone)));
}

#[tokio::test]
async fn an_upgrade_waits_for_readers() {
    let locks = Locks::memory();
    let lock = locks.rw_lock("a");
    let reader = lock.read().await.unwrap();
    let mut guard = lock.upgradeable_read().await.unwrap();
    assert!(!guard.try_upgrade().await.unwrap());
    assert!(!guard.try_upgrade_for(Duration::from_millis(30)).await.unwrap());
    assert!(lock.try_read().await.unwrap().is_some(), "an upgrade that was given up keeps nobody out");
    let upgrade = async { guard.upgrade().await };
    let release = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(lock.try_read().await.unwrap().is_none(), "an upgrade that waits keeps readers out");
        drop(reader);
    };
    tokio::join!(upgrade, release).0.unwrap();
    assert!(guard.is_upgraded());
    assert!(lock.try_read().await.unwrap().is_none());
    drop(guard);
    assert!(lock.try_write().await.unwrap().is_some());
}

#[tokio::test]
async fn several_at_once_or_none() {
    let locks = Locks::memory();
    let both = locks.acquire_all(["b", "a", "b"]).await.unwrap();
    assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b"]);
    drop(both);
    let other = locks.mutex("b").acquire().await.unwrap();
    assert!(locks.try_acquire_all_for(["a", "b"], Duration::from_millis(20)).await.unwrap().is_none());
    assert!(locks.mutex("a").try_acquire().await.unwrap().is_some());
    drop(other);
    assert_eq!(locks.acquire_all(Vec::<&str>::new()).await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(locks.acquire_all(["a", ""]).await.unwrap_err().kind(), ErrorKind::InvalidName);
}

#[tokio::test]
async fn closing_ends_waits_and_keeps_guards() {
    let locks = Locks::memory();
    let guard = locks.mutex("a").acquire().await.unwrap();
    let waiting = tokio::spawn({
        let mutex = locks.mutex("a");
        async move { mutex.acquire().await.map(drop) }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    locks.close().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(locks.mutex("b").try_acquire().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

#[test]
fn a_future_that_is_dropped_anywhere_leaves_nothing() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let locks = Locks::memory();
    for held in [false, true] {
        let guard = held.then(|| pollster::block_on(locks.mutex("a").acquire()).unwrap());
        for polls in 0..3 {
            let mutex = locks.mutex("a");
            let mut acquire = Box::pin(mutex.acquire());
            for _ in 0..polls {
                if acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
            }
        }
        drop(guard);
        assert!(pollster::block_on(locks.mutex("a").acquire_timeout(Duration::from_secs(5))).is_ok());
    }
    assert!(pollster::block_on(locks.list()).unwrap().is_empty());
}

#[test]
fn an_unused_clock_has_no_alarms() {
    let clock = ManualClock::new();
    let locks = Locks::builder(MemoryBackend::new()).clock(clock.clone()).build();
    drop(pollster::block_on(locks.mutex("a").acquire()).unwrap());
    assert_eq!(clock.next_alarm(), None);
    assert_eq!(clock.now().as_nanos(), 0);
}

#[test]
fn futures_can_be_sent() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let locks = Locks::memory();
    let mutex = locks.mutex("a");
    drop(send(mutex.acquire()));
    drop(send(locks.acquire_all(["a"])));
    drop(send(mutex.run(async |_| ())));
    drop(send(locks.close()));
}
