//! Reader-writer locks and semaphores.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::*;
use pilotman_core::Primitive::{Mutex, Read, Write};
use pilotman_core::backend::{Backend, Released};
use pilotman_core::{LossReason, NameRule};
use pilotman_file::{FileBackend, FileOptions};

#[test]
fn readers_share_and_writers_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |primitive| lock(directory.path(), "a", primitive);
    let (one, two, writer, other) = (lock(Read), lock(Read), lock(Write), lock(Write));
    let (first, second, third) = (one.take(), two.take(), one.take());
    assert!(writer.try_acquire().unwrap().is_none());
    one.release(&first);
    two.release(&second);
    assert!(writer.try_acquire().unwrap().is_none(), "the third reader is still there");
    assert_eq!(one.release(&first), Released::Gone(LossReason::Gone));
    assert!(writer.try_acquire().unwrap().is_none(), "a late release frees nobody else's hold");
    one.release(&third);
    let held = writer.take();
    assert!(one.try_acquire().unwrap().is_none());
    assert!(other.try_acquire().unwrap().is_none());
    writer.release(&held);
    assert!(one.is_free() && other.is_free());
}

#[test]
fn kinds_of_primitive_do_not_disturb_each_other() {
    for rule in [NameRule::DotNet, NameRule::Strict, NameRule::Exact] {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions::new(directory.path()).names(rule).record_holder(true);
        let backend = std::sync::Arc::new(FileBackend::new(options).unwrap());
        let mutex = lock_of(&backend, "a", Mutex);
        let write = lock_of(&backend, "a", Write);
        let permit = lock_of(&backend, "a", permits(1));
        let _held = (mutex.take(), write.take(), permit.take());
        for primitive in [Mutex, Write, Read, permits(1)] {
            assert!(lock_of(&backend, "a", primitive).try_acquire().unwrap().is_none());
            assert!(lock_of(&backend, "b", primitive).is_free());
        }
    }
}

#[test]
fn a_waiting_writer_keeps_new_readers_out_and_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |primitive| lock(directory.path(), "a", primitive);
    let (reader, late, writer) = (lock(Read), lock(Read), lock(Write));
    let reading = reader.take();
    let written = std::thread::spawn(move || {
        let held = writer.wait_long();
        (writer, held)
    });
    eventually("the gate closes", || late.try_acquire().unwrap().map(|held| late.release(&held)).is_none());
    assert!(lock(Write).try_acquire().unwrap().is_none());
    let waiting = std::thread::spawn(move || {
        let held = late.wait_long();
        late.release(&held);
    });
    reader.release(&reading);
    let (writer, held) = written.join().unwrap();
    assert!(reader.try_acquire().unwrap().is_none());
    writer.release(&held);
    waiting.join().unwrap();
    assert!(reader.is_free());
}

#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |primitive| lock(directory.path(), "a", primitive);
    let (reader, late, writer) = (lock(Read), lock(Read), lock(Write));
    let reading = reader.take();
    assert!(writer.wait_for(Duration::from_millis(50)).is_none());
    assert!(late.is_free());
    // The same if it is told to give up rather than dropped, and if it waits again.
    let attempt = writer.attempt(true);
    let watch = pollster::block_on(writer.backend.watch(&attempt)).unwrap();
    assert!(late.try_acquire().unwrap().is_none());
    pollster::block_on(writer.backend.abandon(&[attempt])).remove(0).unwrap();
    assert!(late.is_free());
    drop(watch);
    reader.release(&reading);
    let held = writer.wait_long();
    assert!(late.try_acquire().unwrap().is_none());
    writer.release(&held);
    assert!(late.is_free(), "who had the lock keeps the gate no longer");
}

#[test]
fn a_reader_that_waits_at_the_gate_is_woken_when_the_writer_gives_up() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |primitive| lock(directory.path(), "a", primitive);
    let (reader, late, writer) = (lock(Read), lock(Read), lock(Write));
    let _reading = reader.take();
    let attempt = writer.attempt(true);
    let watch = pollster::block_on(writer.backend.watch(&attempt)).unwrap();
    let mut waiting = Box::pin(late.wait());
    assert!(poll_once(waiting.as_mut()).is_none());
    drop(watch);
    assert!(pollster::block_on(within(LONG, waiting)).is_some());
}

#[test]
fn writers_get_their_turn_among_many_readers() {
    let directory = tempfile::tempdir().unwrap();
    let (readers, writers) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", Write);
                for _ in 0..50 {
                    let held = lock.wait_long();
                    assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "two writers");
                    assert_eq!(readers.load(Ordering::SeqCst), 0, "a writer beside readers");
                    writers.fetch_sub(1, Ordering::SeqCst);
                    lock.release(&held);
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", Read);
                for _ in 0..100 {
                    let held = lock.wait_long();
                    readers.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(writers.load(Ordering::SeqCst), 0, "a reader beside a writer");
                    readers.fetch_sub(1, Ordering::SeqCst);
                    lock.release(&held);
                }
            });
        }
    });
}

#[test]
fn a_semaphore_has_exactly_its_permits() {
    let directory = tempfile::tempdir().unwrap();
    for count in [1, 2, 3, 7, 64, 65, 100] {
        let name = format!("of {count}");
        let locks: Vec<_> = (0..3).map(|_| lock(directory.path(), &name, permits(count))).collect();
        let turns = locks.iter().cycle();
        let held: Vec<_> = turns.clone().take(count as usize).map(|lock| (lock, lock.take())).collect();
        for lock in &locks {
            assert!(lock.try_acquire().unwrap().is_none(), "{count}");
        }
        for (lock, hold) in &held {
            lock.release(hold);
            assert_eq!(lock.release(hold), Released::Gone(LossReason::Gone));
            let other = locks[0].take();
            assert!(locks[1].try_acquire().unwrap().is_none());
            locks[0].release(&other);
            // Takes the place of the one that went.
            std::mem::forget(locks[2].take());
        }
    }
}

#[test]
fn a_dropped_permit_is_free_again() {
    let directory = tempfile::tempdir().unwrap();
    let lock = lock(directory.path(), "a", permits(1));
    drop(lock.take());
    assert!(lock.is_free());
}

#[test]
fn a_huge_semaphore_serves_some_hundred_holders() {
    let directory = tempfile::tempdir().unwrap();
    for count in [i32::MAX as u32, u32::MAX] {
        let lock = lock(directory.path(), &format!("of {count}"), permits(count));
        let held: Vec<_> = (0..300).map(|_| lock.take()).collect();
        let path = lock.backend.physical_name(&lock.spec.target).unwrap();
        assert!(std::fs::read_dir(path).unwrap().count() < 3000, "few files for few holders");
        held.iter().for_each(|hold| assert!(matches!(lock.release(hold), Released::Free { .. })));
    }
}

#[test]
fn semaphores_of_different_size_share_their_first_permits() {
    let directory = tempfile::tempdir().unwrap();
    let (small, large) = (lock(directory.path(), "a", permits(2)), lock(directory.path(), "a", permits(3)));
    let _all: Vec<_> = (0..3).map(|_| large.take()).collect();
    assert!(small.try_acquire().unwrap().is_none());
}

#[test]
fn never_more_holders_than_permits() {
    let directory = tempfile::tempdir().unwrap();
    let inside = AtomicU32::new(0);
    let most = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", permits(3));
                for _ in 0..60 {
                    let held = lock.wait_long();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_micros(200));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release(&held);
                }
            });
        }
    });
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} at once");
}

#[test]
fn tokens_of_holders_side_by_side_differ() {
    let directory = tempfile::tempdir().unwrap();
    for primitive in [Read, permits(40)] {
        let tokens: Vec<u64> = std::thread::scope(|scope| {
            let take = || {
                let lock = fenced(directory.path(), "a", primitive);
                (0..10).map(|_| lock.take()).map(|held| held.token.unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 40);
        assert_eq!(tokens.iter().max(), Some(&40));
    }
}

#[test]
fn a_hold_on_a_replaced_file_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    for primitive in [Read, Write, permits(1)] {
        let (one, two) = (lock(directory.path(), "a", primitive), lock(directory.path(), "a", primitive));
        let held = one.take();
        assert_eq!(one.backend.verify(&held.holding), None);
        let path = one.backend.physical_name(&one.spec.target).unwrap();
        let file = if matches!(primitive, Read | Write) { path } else { format!("{path}/0") };
        std::fs::remove_file(file).unwrap();
        assert_eq!(one.backend.verify(&held.holding), Some(LossReason::Replaced));
        let other = two.take();
        one.release(&held);
        assert_eq!(one.backend.verify(&held.holding), None, "what was released can't be lost");
        assert!(primitive == Read || one.try_acquire().unwrap().is_none());
        two.release(&other);
        assert!(one.is_free());
    }
}
