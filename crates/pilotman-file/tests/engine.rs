//! What only the engine can show: losses that are told without being asked for, and waits through it.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{LONG, permits, within};
use pilotman_core::{Guard, HoldState, Locks, LossReason, Primitive};
use pilotman_file::{FileBackend, FileOptions};
use pollster::block_on;

const KINDS: [fn() -> Primitive; 4] = [|| Primitive::Mutex, || Primitive::Read, || Primitive::Write, || permits(1)];

fn locks(directory: &Path) -> Locks {
    Locks::new(FileBackend::new(FileOptions::new(directory)).unwrap())
}

async fn acquire(locks: &Locks, primitive: Primitive) -> Guard {
    match primitive {
        Primitive::Read => locks.rw_lock("a").read().await,
        Primitive::Write => locks.rw_lock("a").write().await,
        Primitive::Permit(count) => locks.semaphore("a", count.get()).acquire().await,
        _ => locks.mutex("a").acquire().await,
    }
    .unwrap()
}

/// Events exist on Linux; elsewhere a loss is told to those who ask.
#[cfg(target_os = "linux")]
#[test]
fn a_loss_is_told_at_once_to_who_listens() {
    for kind in KINDS {
        for forced in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let locks = locks(directory.path());
            let guard = block_on(acquire(&locks, kind()));
            let mut lost = Box::pin(guard.lost());
            assert!(common::poll_once(lost.as_mut()).is_none());
            if forced {
                let broken = block_on(locks.force_release("a", kind())).unwrap();
                assert_eq!(broken.len(), 1);
            } else {
                let mut file = locks.physical_name("a", kind()).unwrap();
                if matches!(kind(), Primitive::Permit(_)) {
                    file.push_str("/0");
                }
                std::fs::rename(&file, format!("{file}.away")).unwrap();
            }
            assert_eq!(block_on(within(LONG, lost)), Some(LossReason::Replaced), "{}", kind());
            assert!(guard.ensure_held().is_err());
            // The successor is there for others.
            drop(block_on(within(LONG, acquire(&self::locks(directory.path()), kind()))).unwrap());
        }
    }
}

#[test]
fn a_guard_that_is_asked_knows_of_its_loss() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let guard = block_on(acquire(&locks, Primitive::Mutex));
    guard.ensure_held().unwrap();
    std::fs::remove_file(locks.physical_name("a", Primitive::Mutex).unwrap()).unwrap();
    assert_eq!(guard.ensure_held().unwrap_err().loss(), Some(&LossReason::Replaced));
}

#[test]
fn a_forced_release_lets_a_waiter_in() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (locks(directory.path()), locks(directory.path()));
    let _held = block_on(acquire(&one, Primitive::Mutex));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| block_on(within(LONG, acquire(&two, Primitive::Mutex))).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished());
        block_on(one.force_release("a", Primitive::Mutex)).unwrap();
        drop(waiter.join().unwrap());
    });
}

#[test]
fn a_time_out_leaves_nothing_behind() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (locks(directory.path()), locks(directory.path()));
        let blocker = match kind() {
            Primitive::Read => Primitive::Write,
            other => other,
        };
        let held = block_on(acquire(&one, blocker));
        assert!(block_on(within(Duration::from_millis(60), acquire(&two, kind()))).is_none());
        drop(held);
        drop(block_on(within(LONG, acquire(&one, blocker))).unwrap());
        drop(block_on(within(LONG, acquire(&two, kind()))).unwrap());
    }
}

#[test]
fn a_hold_that_was_broken_is_not_handed_on() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (locks(directory.path()), locks(directory.path()));
    let guard = block_on(acquire(&one, Primitive::Mutex));
    let mut waiting = Box::pin(acquire(&one, Primitive::Mutex));
    assert!(common::poll_once(waiting.as_mut()).is_none());
    block_on(other.force_release("a", Primitive::Mutex)).unwrap();
    let theirs = block_on(within(LONG, acquire(&other, Primitive::Mutex))).expect("the lock was broken");
    // To whom waits behind it in this process, the broken hold would look like any other.
    drop(guard);
    assert!(block_on(within(Duration::from_millis(300), waiting.as_mut())).is_none(), "two hold the lock");
    assert_eq!(theirs.state(), HoldState::Held);
    drop(theirs);
    assert_eq!(block_on(within(LONG, waiting)).expect("the lock is free").state(), HoldState::Held);
}
