//! The mutex: exclusion between backends and processes, and with those who lock as .NET does.

mod common;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::*;
use pilotman_core::backend::{Backend, LocalBackend, Released};
use pilotman_core::{LossReason, NameRule, Primitive};
use pilotman_file::{FileBackend, FileOptions};
use rustix::fs::FlockOperation;

const MUTEX: Primitive = Primitive::Mutex;
const FREE: Released = Released::Free { others_wait: false };
const GONE: Released = Released::Gone(LossReason::Gone);

#[test]
fn one_holder_at_a_time_and_each_release_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (lock(directory.path(), "a", MUTEX), lock(directory.path(), "a", MUTEX));
    let first = one.take();
    assert!(two.try_acquire().unwrap().is_none());
    assert!(one.try_acquire().unwrap().is_none(), "the same slot can't hold it twice either");
    assert_eq!(one.release(&first), FREE);
    let second = two.take();
    assert_eq!(one.release(&first), GONE);
    assert!(one.try_acquire().unwrap().is_none(), "a late release frees nobody else's hold");
    assert_eq!(two.release(&second), FREE);
    let third = one.take();
    assert_eq!(one.release(&first), GONE);
    assert!(two.try_acquire().unwrap().is_none());
    pollster::block_on(one.backend.abandon(std::slice::from_ref(&third.holding.attempt))).remove(0).unwrap();
    assert!(two.is_free());
}

#[test]
fn names_of_any_length_and_many_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let long = "長".repeat(10_000);
    let mut names: Vec<String> = (0..100).map(|number| format!("name {number}/…")).collect();
    names.extend([long.clone(), format!("{long}x"), "..".into(), "con".into(), "CON".into(), " ".into()]);
    for rule in [NameRule::DotNet, NameRule::Strict] {
        let make = || std::sync::Arc::new(FileBackend::new(FileOptions::new(directory.path()).names(rule)).unwrap());
        let (one, two) = (make(), make());
        let held: Vec<_> =
            names.iter().map(|name| lock_of(&one, name, MUTEX)).map(|lock| (lock.take(), lock)).collect();
        for name in &names {
            assert!(lock_of(&two, name, MUTEX).try_acquire().unwrap().is_none(), "{name:.20}");
        }
        for (hold, lock) in held {
            assert_eq!(lock.release(&hold), FREE);
        }
        for name in &names {
            assert!(lock_of(&two, name, MUTEX).is_free());
        }
    }
}

#[test]
fn a_missing_directory_is_made_and_made_again() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("a/b");
    let one = lock(&directory, "a", MUTEX);
    assert!(!directory.exists(), "nothing is made before the first attempt");
    assert!(one.is_free());
    std::fs::remove_dir_all(&directory).unwrap();
    let held = one.take();
    assert!(lock(&directory, "a", MUTEX).try_acquire().unwrap().is_none());
    assert_eq!(one.release(&held), FREE);
}

#[test]
fn a_removed_file_is_not_locked_by_who_still_has_it_open() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (lock(directory.path(), "a", MUTEX), lock(directory.path(), "a", MUTEX));
    assert!(one.is_free());
    let path = one.backend.physical_name(&one.spec.target).unwrap();
    std::fs::remove_file(&path).unwrap();
    let held = two.take();
    assert!(one.try_acquire().unwrap().is_none());
    two.release(&held);
    assert!(one.is_free());
    // A file that was moved away still has a name. That is noticed within a second.
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let held = two.take();
    assert!(one.try_acquire().unwrap().is_none());
    two.release(&held);
}

#[test]
fn a_holder_whose_file_is_replaced_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (lock(directory.path(), "a", MUTEX), lock(directory.path(), "a", MUTEX));
    let held = one.take();
    assert_eq!(one.backend.verify(&held.holding), None);
    std::fs::remove_file(one.backend.physical_name(&one.spec.target).unwrap()).unwrap();
    assert_eq!(one.backend.verify(&held.holding), Some(LossReason::Replaced));
    let other = two.take();
    assert_eq!(two.backend.verify(&other.holding), None);
    one.release(&held);
    assert!(one.try_acquire().unwrap().is_none(), "the release of a lost hold frees nobody else's");
    two.release(&other);
}

#[test]
fn exact_names_are_paths_and_their_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("job.pid");
    std::fs::write(&file, "4711\n").unwrap();
    let options = FileOptions::new(directory.path()).names(NameRule::Exact);
    let backend = std::sync::Arc::new(FileBackend::new(options).unwrap());
    let lock = lock_of(&backend, "job.pid", MUTEX);
    let held = lock.take();
    let other = std::fs::File::open(&file).unwrap();
    assert!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared).is_err());
    lock.release(&held);
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "4711\n");
    drop(other);
    assert!(lock_of(&backend, "new", MUTEX).is_free());
    assert_eq!(std::fs::metadata(directory.path().join("new")).unwrap().len(), 0);
}

#[test]
fn the_descriptor_carries_the_hold_but_not_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (lock(directory.path(), "a", MUTEX), lock(directory.path(), "a", MUTEX));
    let held = one.take();
    let descriptor = one.backend.descriptor(&held.holding).unwrap();
    let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    one.release(&held);
    assert!(one.backend.descriptor(&held.holding).is_none());
    // Whoever inherited the descriptor must have no part in the next hold.
    let next = one.take();
    assert_ne!(one.backend.descriptor(&next.holding).unwrap().as_raw_fd(), descriptor.as_raw_fd());
    rustix::fs::flock(&descriptor, FlockOperation::Unlock).unwrap();
    assert!(two.try_acquire().unwrap().is_none());
    one.release(&next);
}

/// Takes a lock as .NET's `FileStream` does with `FileShare.None` and `DeleteOnClose`.
struct DotNetHolder(std::fs::File, std::path::PathBuf);

impl DotNetHolder {
    fn open(path: &Path) -> Option<Self> {
        loop {
            let file =
                std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).ok()?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            let held = rustix::fs::fstat(&file).unwrap();
            match rustix::fs::stat(path) {
                Ok(there) if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino) => {
                    return Some(Self(file, path.to_owned()));
                }
                _ => {}
            }
        }
    }
}

impl Drop for DotNetHolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.1);
        rustix::fs::flock(&self.0, FlockOperation::Unlock).unwrap();
    }
}

#[test]
fn holders_of_the_dotnet_kind_and_ours_exclude_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock(directory.path(), "a", MUTEX).backend.physical_name(&target("a", MUTEX)).unwrap();
    let path = Path::new(&path);
    let inside = AtomicU32::new(0);
    let entered = [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)];
    let stop = AtomicBool::new(false);
    let enter = |kind: usize| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
        std::hint::spin_loop();
        if entered[kind].fetch_add(1, Ordering::Relaxed).is_multiple_of(7) {
            std::thread::yield_now();
        }
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(_held) = DotNetHolder::open(path) {
                        enter(0);
                    }
                }
            });
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", MUTEX);
                while !stop.load(Ordering::Relaxed) {
                    if let Some(held) = lock.try_acquire().unwrap() {
                        enter(1);
                        lock.release(&held);
                    }
                }
            });
        }
        scope.spawn(|| {
            let lock = lock(directory.path(), "a", MUTEX);
            while !stop.load(Ordering::Relaxed) {
                if let Some(held) = lock.wait_for(Duration::from_millis(50)) {
                    enter(2);
                    lock.release(&held);
                }
            }
        });
        let start = Instant::now();
        while start.elapsed() < LONG
            && (start.elapsed() < Duration::from_secs(2) || entered.iter().any(|n| n.load(Ordering::Relaxed) < 5))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("entered: {entered:?} (.NET's way, tries, waits)");
    assert!(entered.iter().all(|count| count.load(Ordering::Relaxed) >= 5), "{entered:?}");
}

#[test]
fn threads_of_many_backends_never_meet() {
    let directory = tempfile::tempdir().unwrap();
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lock = lock(directory.path(), "a", MUTEX);
                for _ in 0..100 {
                    let held = lock.wait_long();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release(&held);
                }
            });
        }
    });
}

#[test]
fn tokens_increase_over_processes_and_releases() {
    if role().is_some() {
        let lock = fenced(&child_directory(), "a", MUTEX);
        for _ in 0..50 {
            let held = lock.wait_long();
            let last = child_directory().join("last");
            let before: u64 = std::fs::read_to_string(&last).map_or(0, |text| text.parse().unwrap());
            let token = held.token.unwrap();
            assert!(token > before, "{token} after {before}");
            let minted = LocalBackend::mint(&*lock.backend, &held.holding).unwrap();
            assert!(minted > token);
            std::fs::write(&last, minted.to_string()).unwrap();
            lock.release(&held);
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let run = || child("tokens_increase_over_processes_and_releases", "worker", directory.path()).spawn().unwrap();
    let workers = [run(), run(), run()];
    workers.into_iter().for_each(succeed);
    let last: u64 = std::fs::read_to_string(directory.path().join("last")).unwrap().parse().unwrap();
    assert_eq!(last, 3 * 50 * 2);
    let lock = fenced(directory.path(), "a", MUTEX);
    let held = lock.take();
    assert_eq!(held.token, Some(last + 1));
    std::fs::remove_file(lock.backend.physical_name(&lock.spec.target).unwrap()).unwrap();
    let other = fenced(directory.path(), "a", MUTEX);
    assert_eq!(other.take().token, Some(last + 2), "a broken lock's tokens go on");
}

#[test]
fn a_spoilt_counter_refuses_the_lock_and_leaves_it_free() {
    let directory = tempfile::tempdir().unwrap();
    let (with, without) = (fenced(directory.path(), "a", MUTEX), lock(directory.path(), "a", MUTEX));
    let held = with.take();
    with.release(&held);
    let counter = format!("{}.token", with.backend.physical_name(&with.spec.target).unwrap());
    std::fs::write(&counter, "").unwrap();
    let error = with.refusal();
    assert_eq!(error.kind(), pilotman_core::ErrorKind::Misconfigured);
    assert!(error.has_no_effect() && error.to_string().contains(".token"), "{error}");
    assert!(without.is_free());
}
