//! Waiters are woken: by a release, by a crash, by whatever else frees a lock.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use pilotman_core::Primitive;
use pilotman_core::backend::{Backend, Released};

const KINDS: [fn() -> Primitive; 4] = [|| Primitive::Mutex, || Primitive::Read, || Primitive::Write, || permits(2)];

/// Takes everything that a waiter for `primitive` could have.
fn block(directory: &std::path::Path, primitive: Primitive) -> Vec<(Lock, Held)> {
    let lock = match primitive {
        Primitive::Read => lock(directory, "a", Primitive::Write),
        other => lock(directory, "a", other),
    };
    let count = primitive.limit().unwrap_or(1);
    (0..count).map(|_| (lock.clone(), lock.take())).collect()
}

/// A waiter on a thread of its own, which tells when it has the lock. It waits when this returns.
fn waiter(directory: &std::path::Path, primitive: Primitive) -> mpsc::Receiver<(Instant, Lock, Held)> {
    let (sender, receiver) = mpsc::channel();
    let (waits, waiting) = mpsc::channel();
    let lock = lock(directory, "a", primitive);
    std::thread::spawn(move || {
        let told = || {
            // Only the first time is listened for.
            let _ = waits.send(());
        };
        let held = pollster::block_on(within(LONG, lock.wait_telling(told))).expect("it becomes free in time");
        // Whoever does not listen any longer has seen enough.
        let _ = sender.send((Instant::now(), lock, held));
    });
    waiting.recv_timeout(LONG).expect("the first attempt fails");
    std::thread::sleep(Duration::from_millis(5));
    receiver
}

#[test]
fn a_release_wakes_a_waiter() {
    for kind in KINDS {
        let mut delays = Vec::new();
        for _ in 0..15 {
            let directory = tempfile::tempdir().unwrap();
            let held = block(directory.path(), kind());
            let woken = waiter(directory.path(), kind());
            assert!(woken.try_recv().is_err());
            let (lock, hold) = &held[0];
            let start = Instant::now();
            let released = lock.release(hold);
            assert_eq!(released, Released::Free { others_wait: true }, "{}", kind());
            let (at, ..) = woken.recv_timeout(LONG).unwrap();
            delays.push(at.saturating_duration_since(start));
        }
        delays.sort();
        println!("{}: woken after {:?} (median), {:?} (most)", kind(), delays[7], delays[14]);
        // The timer behind the events needs 100 ms at least: the median can't come from it.
        assert!(delays[7] < Duration::from_millis(80), "{}: {delays:?}", kind());
    }
}

#[test]
fn nobody_is_seen_where_nobody_waits() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let lock = lock(directory.path(), "a", kind());
        for _ in 0..20 {
            let held = lock.take();
            assert_eq!(lock.release(&held), Released::Free { others_wait: false });
        }
    }
}

#[test]
fn a_crash_wakes_a_waiter_and_frees_the_lock() {
    const TEST: &str = "a_crash_wakes_a_waiter_and_frees_the_lock";
    if let Some(role) = role() {
        let kind = KINDS[role.parse::<usize>().unwrap()];
        let _held = block(&child_directory(), kind());
        println!("holding");
        std::thread::sleep(Duration::from_secs(600));
    }
    for (number, kind) in KINDS.into_iter().enumerate() {
        let mut delays = Vec::new();
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let mut holder = child(TEST, &number.to_string(), directory.path()).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
            assert!(lines.map_while(Result::ok).any(|line| line.ends_with("holding")));
            let woken = waiter(directory.path(), kind());
            assert!(woken.try_recv().is_err());
            let start = Instant::now();
            holder.kill().unwrap();
            let (at, ..) = woken.recv_timeout(LONG).unwrap();
            delays.push(at.saturating_duration_since(start));
            holder.wait().unwrap();
        }
        delays.sort();
        println!("{}: woken {:?} after a kill (median), {:?} (most)", kind(), delays[2], delays[4]);
        assert!(delays[2] < Duration::from_millis(250), "{}: {delays:?}", kind());
    }
}

#[test]
fn removing_the_file_wakes_a_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let held = block(directory.path(), Primitive::Mutex);
    let woken = waiter(directory.path(), Primitive::Mutex);
    assert!(woken.try_recv().is_err());
    let path = held[0].0.backend.physical_name(&held[0].0.spec.target).unwrap();
    std::fs::remove_file(path).unwrap();
    let (_, lock, hold) = woken.recv_timeout(LONG).unwrap();
    assert_eq!(lock.backend.verify(&hold.holding), None);
}

#[test]
fn waiters_do_not_wake_each_other() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let _held = block(directory.path(), kind());
        let others: Vec<_> = (0..3).map(|_| waiter(directory.path(), kind())).collect();
        std::thread::sleep(Duration::from_millis(100));
        let lock = lock(directory.path(), "a", kind());
        let attempt = lock.attempt(true);
        let mut watch = pollster::block_on(lock.backend.watch(&attempt)).unwrap();
        let start = Instant::now();
        let mut woken = 0;
        while start.elapsed() < Duration::from_secs(1) {
            assert!(lock.try_with(&attempt).unwrap().is_none());
            pollster::block_on(watch.changed());
            woken += 1;
        }
        // Once at the start, then by its timer, which takes 100 ms at least.
        assert!((2..=15).contains(&woken), "{}: woken {woken} times in a second", kind());
        drop(others);
    }
}

#[test]
fn a_dropped_wait_misses_nothing_for_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let held = block(directory.path(), Primitive::Mutex);
    let lock = lock(directory.path(), "a", Primitive::Mutex);
    let attempt = lock.attempt(true);
    let mut watch = pollster::block_on(lock.backend.watch(&attempt)).unwrap();
    assert!(lock.try_with(&attempt).unwrap().is_none());
    pollster::block_on(watch.changed());
    assert!(lock.try_with(&attempt).unwrap().is_none());
    for _ in 0..3 {
        let mut changed = watch.changed();
        assert!(poll_once(changed.as_mut()).is_none());
    }
    held[0].0.release(&held[0].1);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    pollster::block_on(within(LONG, watch.changed())).unwrap();
    println!("told {:?} after the release", start.elapsed());
    assert!(lock.try_with(&attempt).unwrap().is_some());
}

#[test]
fn a_hundred_waiters_all_get_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", Primitive::Mutex);
                let held = lock.wait_long();
                lock.release(&held);
            });
        }
    });
    println!("a hundred turns in {:?}", start.elapsed());
}
