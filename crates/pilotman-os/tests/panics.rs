//! Foreign code panics on the thread that keeps the locks: they are kept, and others are told as before.
#![cfg(any(target_os = "linux", windows))]

use std::path::{Path, PathBuf};
#[cfg(windows)]
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(windows)]
use std::task::Poll;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use pilotman_core::backend::{Attempt, AttemptId, Backend, Holding, LocalBackend, Outcome, Spec};
use pilotman_core::blocking::Locks;
use pilotman_core::{LockOptions, Name, Primitive, Target};
use pilotman_os::{OsBackend, OsOptions};

const LONG: Duration = Duration::from_secs(60);
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";

fn backend(directory: &Path) -> OsBackend {
    #[cfg(target_os = "linux")]
    let options = OsOptions::new().directory(directory);
    #[cfg(windows)]
    let options = {
        let _ = directory;
        OsOptions::new()
    };
    OsBackend::new(options).unwrap()
}

fn locks(directory: &Path) -> Locks {
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(backend(directory))).build())
}

/// A name that no other test has: on Windows all use the same namespace.
fn name(directory: &Path, what: &str) -> String {
    format!("{what}-{}", directory.file_name().unwrap().to_str().unwrap())
}

fn attempt(backend: &OsBackend, name: &str, number: u128, waits: bool) -> Attempt {
    let target = Target { name: Name::new(name).unwrap(), primitive: Primitive::Mutex };
    let options = LockOptions::default();
    let prepared = backend.prepare(&target, &options).unwrap();
    let id = AttemptId(u128::from(std::process::id()) << 64 | number);
    Attempt { id, spec: Arc::new(Spec { target, options, lease: None, prepared }), waits }
}

fn take(backend: &OsBackend, attempt: &Attempt) -> Option<Holding> {
    match LocalBackend::try_acquire(backend, attempt).unwrap() {
        Outcome::Granted(grant) => Some(Holding { attempt: attempt.clone(), state: grant.state }),
        Outcome::Contended { .. } => None,
    }
}

/// Panics when it is woken, on whichever thread that is.
#[derive(Default)]
struct Bomb(AtomicBool);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
        // Without a report, which takes longer than all else here.
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

impl Bomb {
    fn has_gone_off(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether another process can have a lock.
fn others_can_have(test: &str, directory: &Path, name: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, name)
        .env("PILOTMAN_OS_TEST_DIRECTORY", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    match status.code() {
        Some(7) => true,
        Some(8) => false,
        _ => panic!("{status}"),
    }
}

/// The answer of that other process.
fn answer() {
    let Ok(name) = std::env::var(ROLE) else { return };
    let directory = PathBuf::from(std::env::var_os("PILOTMAN_OS_TEST_DIRECTORY").unwrap());
    let guard = locks(&directory).mutex(name).try_acquire().unwrap();
    std::process::exit(if guard.is_some() { 7 } else { 8 });
}

#[test]
fn a_waiter_that_panics_ends_no_hold_and_no_other_wait() {
    const TEST: &str = "a_waiter_that_panics_ends_no_hold_and_no_other_wait";
    answer();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let backend = backend(directory);
    let (contended, kept) = (name(directory, "contended"), name(directory, "kept"));
    let first = take(&backend, &attempt(&backend, &contended, 1, false)).unwrap();
    let held = take(&backend, &attempt(&backend, &kept, 2, false)).unwrap();
    let second = attempt(&backend, &contended, 3, true);
    let bomb = Arc::new(Bomb::default());
    let waker = Waker::from(bomb.clone());

    #[cfg(target_os = "linux")]
    {
        let mut watch = pollster::block_on(backend.watch(&second)).unwrap();
        assert!(take(&backend, &second).is_none());
        let mut changed = watch.changed();
        assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        LocalBackend::release(&backend, &first).unwrap();
        eventually("the waiter is woken", || bomb.has_gone_off());
        // It was told before it was woken.
        let told = changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(told.is_ready());
    }
    #[cfg(windows)]
    {
        let mut granted = pin!(backend.enqueue(&second));
        assert!(granted.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        LocalBackend::release(&backend, &first).unwrap();
        eventually("the waiter is woken", || bomb.has_gone_off());
        let granted = granted.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(granted, Poll::Ready(Ok(_))));
        assert!(!others_can_have(TEST, directory, &contended));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(!others_can_have(TEST, directory, &kept), "the hold goes on");

    // And so does the thread.
    let locks = locks(directory);
    let guard = locks.mutex(name(directory, "next")).acquire().unwrap();
    let waiting = locks.mutex(name(directory, "next"));
    let waiter = std::thread::spawn(move || waiting.try_acquire_for(LONG).unwrap().is_some());
    std::thread::sleep(Duration::from_millis(50));
    guard.release().unwrap();
    assert!(waiter.join().unwrap());
    #[cfg(target_os = "linux")]
    {
        let guard = locks.mutex("broken").acquire().unwrap();
        let breaker = locks.clone();
        let breaking = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            breaker.force_release("broken", Primitive::Mutex).unwrap().len()
        });
        assert!(guard.lost_within(LONG).is_some(), "only that thread tells of it");
        assert_eq!(breaking.join().unwrap(), 1);
    }
    LocalBackend::release(&backend, &held).unwrap();
    assert!(others_can_have(TEST, directory, &kept));
}

#[cfg(target_os = "linux")]
#[test]
fn who_panics_when_told_of_a_loss_keeps_others_from_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let guards: Vec<_> = (0..12).map(|number| locks.mutex(format!("{number}")).acquire().unwrap()).collect();
    let mut losses: Vec<_> = guards.iter().map(|guard| Box::pin(guard.lost())).collect();
    let bombs: Vec<_> = (0..guards.len()).map(|_| Arc::new(Bomb::default())).collect();
    for (loss, bomb) in losses.iter_mut().zip(&bombs) {
        let waker = Waker::from(bomb.clone());
        assert!(loss.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // The table is gone, and all holds are lost at the same time.
    std::fs::remove_file(directory.path().join(format!("pilotman-os-1-{}", rustix::process::geteuid().as_raw())))
        .unwrap();
    eventually("all are told", || bombs.iter().all(|bomb| bomb.has_gone_off()));
    for loss in &mut losses {
        assert!(loss.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
