//! Looking at locks, and breaking them.

mod common;

use std::sync::Arc;

use common::*;
use pilotman_core::backend::{Backend, Inspection};
use pilotman_core::{LossReason, NameRule, Primitive};
use pilotman_file::{FileBackend, FileOptions};

fn recording(directory: &std::path::Path) -> Arc<FileBackend> {
    let options = FileOptions::new(directory).record_holder(true).holder_command("backup.sh");
    Arc::new(FileBackend::new(options).unwrap())
}

fn inspect(lock: &Lock) -> Inspection {
    pollster::block_on(lock.backend.inspect(&lock.spec.target)).unwrap()
}

#[test]
fn who_holds_what_is_told_in_all_kinds() {
    let directory = tempfile::tempdir().unwrap();
    let backend = recording(directory.path());
    let mutex = lock_of(&backend, "a", Primitive::Mutex);
    assert!(inspect(&mutex).holders.is_empty(), "nothing is there yet");
    let (read, permit) = (lock_of(&backend, "a", Primitive::Read), lock_of(&backend, "a", permits(3)));
    let held = (mutex.take(), read.take(), read.take(), permit.take());
    let found = inspect(&mutex);
    assert_eq!(found.name.as_deref(), Some("a"));
    assert_eq!(found.physical, backend.physical_name(&mutex.spec.target).unwrap());
    let kinds: Vec<_> = found.holders.iter().map(|holder| holder.primitive.unwrap()).collect();
    assert_eq!(kinds, ["mutex", "read", "read", "permit"]);
    let pid = format!("pid {} ", std::process::id());
    assert!(found.holders.iter().all(|holder| holder.owner.starts_with(&pid)), "{found:?}");
    assert!(found.holders[0].owner.ends_with("(backup.sh)"), "{found:?}");
    assert!(found.holders[0].since.unwrap().elapsed().unwrap() < LONG);
    assert_eq!(found.holders[1].since, None);
    mutex.release(&held.0);
    read.release(&held.1);
    read.release(&held.2);
    permit.release(&held.3);
    assert!(inspect(&mutex).holders.is_empty());
}

#[test]
fn a_lock_that_is_probed_stays_free() {
    let directory = tempfile::tempdir().unwrap();
    for primitive in [Primitive::Mutex, Primitive::Write, permits(2)] {
        let lock = lock(directory.path(), "a", primitive);
        assert!(lock.is_free());
        assert!(inspect(&lock).holders.is_empty());
        assert!(lock.is_free());
    }
}

#[test]
fn tokens_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let lock = fenced(directory.path(), "a", Primitive::Mutex);
    assert_eq!(inspect(&lock).token, None);
    let held = lock.take();
    assert_eq!(inspect(&lock).token, held.token);
    lock.release(&held);
    assert_eq!(inspect(&lock).token, Some(1));
}

#[test]
fn all_locks_are_listed_under_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let backend = recording(directory.path());
    assert!(pollster::block_on(backend.list()).unwrap().is_empty());
    let names = ["nightly job", "ärger/\n\"quoted\"", "only readers", "only permits"];
    let held = lock_of(&backend, names[0], Primitive::Mutex).take();
    assert!(lock_of(&backend, names[0], Primitive::Write).is_free());
    assert!(lock_of(&backend, names[1], Primitive::Mutex).is_free());
    assert!(lock_of(&backend, names[2], Primitive::Read).is_free());
    assert!(lock_of(&backend, names[3], permits(2)).is_free());
    assert!(fenced(directory.path(), names[1], Primitive::Mutex).is_free());
    std::fs::write(directory.path().join("README"), "not a lock").unwrap();
    // Made by .NET, which notes no name.
    std::fs::write(directory.path().join("abc56LLTQOSBT6ULGHITLS4KQEIRREMO53J.lock"), "").unwrap();
    let list = pollster::block_on(backend.list()).unwrap();
    let mut found: Vec<_> = list.iter().map(|found| found.name.as_deref()).collect();
    found.sort_unstable();
    let mut expected: Vec<_> = names.iter().copied().map(Some).chain([None]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let of = |name| list.iter().find(|found| found.name.as_deref() == Some(name)).unwrap();
    assert_eq!(of(names[0]).holders.len(), 1);
    assert_eq!(of(names[1]).token, Some(1));
    drop(held);
}

#[test]
fn exact_names_are_listed_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let options = FileOptions::new(directory.path()).names(NameRule::Exact);
    let backend = Arc::new(FileBackend::new(options).unwrap());
    assert!(lock_of(&backend, "job.pid", Primitive::Mutex).is_free());
    assert!(lock_of(&backend, "job.pid", Primitive::Read).is_free());
    let list = pollster::block_on(backend.list()).unwrap();
    assert_eq!(list.iter().map(|found| found.name.as_deref().unwrap()).collect::<Vec<_>>(), ["job.pid"]);
}

#[test]
fn a_broken_lock_is_free_and_its_holder_is_told() {
    let directory = tempfile::tempdir().unwrap();
    for primitive in [Primitive::Mutex, Primitive::Read, Primitive::Write, permits(2)] {
        let (one, two) = (fenced(directory.path(), "a", primitive), fenced(directory.path(), "a", primitive));
        let force = || pollster::block_on(two.backend.force_release(&two.spec.target)).unwrap();
        assert!(one.is_free());
        assert!(force().is_empty(), "there is nobody to break");
        let held: Vec<_> = (0..primitive.limit().unwrap_or(1)).map(|_| one.take()).collect();
        let broken = force();
        assert_eq!(broken.len(), held.len());
        assert!(broken.iter().all(|holder| holder.owner.contains(&std::process::id().to_string())));
        let next = two.take();
        assert!(next.token > held.last().unwrap().token, "tokens go on");
        for hold in &held {
            assert_eq!(one.backend.verify(&hold.holding), Some(LossReason::Replaced), "{primitive}");
            one.release(hold);
        }
        assert_eq!(two.backend.verify(&next.holding), None);
        two.release(&next);
    }
}

#[test]
fn a_record_names_only_who_holds_now() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (recording(directory.path()), recording(directory.path()));
    let (one, two) = (lock_of(&one, "a", Primitive::Mutex), lock_of(&two, "a", Primitive::Mutex));
    let first = one.take();
    pollster::block_on(two.backend.force_release(&two.spec.target)).unwrap();
    let second = two.take();
    one.release(&first);
    let found = inspect(&two);
    assert!(found.holders[0].since.is_some(), "the late release left the new record alone: {found:?}");
    two.release(&second);
}
