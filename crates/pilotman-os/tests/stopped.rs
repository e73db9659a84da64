//! A process that was stopped in the middle of an operation: time-outs hold, what is owed is paid, others get on.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotman_core::blocking::Locks;
use pilotman_core::{ErrorKind, Primitive};
use pilotman_os::{OsBackend, OsOptions};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(30);
/// What takes a few milliseconds takes no longer on a busy machine. Without time-outs it would be two seconds.
const SOON: Duration = Duration::from_millis(1900);
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";
const TEST: &str = "PILOTMAN_OS_TEST_DIRECTORY";

/// Where the members and the chains are in the table, and how large each of them is.
const MEMBERS: u64 = 4096;
const MEMBER: u64 = 64;
const BUCKETS: u64 = MEMBERS + 2048 * MEMBER;
const BUCKET: u64 = 8;
const TID: u32 = 0x3fff_ffff;

fn locks(directory: &Path) -> Locks {
    let backend = OsBackend::new(OsOptions::new().directory(directory)).unwrap();
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(backend)).build())
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that uses the table and is stopped, and a chain whose latch it has.
struct Stopped {
    child: Child,
    table: File,
    /// Where the latch is.
    latch: u64,
}

impl Stopped {
    /// Stops a process in the middle of an operation on the mutex `a`: as the table shows it, since it can't be met there
    /// by chance.
    fn at(directory: &Path, locks: &Locks) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["another_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, "another")
            .env(TEST, directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the other process is there", || {
            locks.inspect("other", Primitive::Mutex).unwrap().holders.len() == 1
        });
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let status = format!("/proc/{}/status", child.id());
        eventually("it is stopped", || std::fs::read_to_string(&status).unwrap().contains("State:\tT"));

        let path = directory.join(format!("pilotman-os-1-{}", rustix::process::geteuid().as_raw()));
        let table = File::options().read(true).write(true).open(path).unwrap();
        let number = |at: u64| {
            let mut bytes = [0; 4];
            table.read_exact_at(&mut bytes, at).unwrap();
            u32::from_ne_bytes(bytes)
        };
        // A member has its thread first, and its process as the fourth number.
        let member = (0..2048).map(|index| MEMBERS + index * MEMBER).find(|at| number(at + 12) == child.id()).unwrap();
        let thread = number(member) & TID;
        assert_ne!(thread, 0);
        let physical = locks.physical_name("a", Primitive::Mutex).unwrap();
        let (_, key) = physical.rsplit_once('-').unwrap();
        let chain = u64::from_str_radix(&key[..16], 16).unwrap() % 4096;
        let stopped = Self { child, table, latch: BUCKETS + chain * BUCKET };
        stopped.write(thread);
        stopped
    }

    fn write(&self, word: u32) {
        self.table.write_all_at(&word.to_ne_bytes(), self.latch).unwrap();
    }

    /// It has finished its operation.
    fn goes_on(&mut self) {
        self.write(0);
    }

    /// As the kernel leaves it: with the bit for a dead owner.
    fn dies(&mut self) {
        self.dies_unnoticed();
        self.write(0x4000_0000);
    }

    /// The kernel has not told of this word.
    fn dies_unnoticed(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn another_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let directory = PathBuf::from(std::env::var_os(TEST).unwrap());
    let _held = locks(&directory).mutex("other").acquire().unwrap();
    std::thread::sleep(LONG * 3);
}

#[test]
fn time_outs_hold_and_other_locks_are_not_disturbed() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let mut stopped = Stopped::at(directory.path(), &locks);

    let met = Instant::now();
    let start = Instant::now();
    assert!(locks.mutex("a").try_acquire().unwrap().is_none());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let start = Instant::now();
    assert!(locks.mutex("a").try_acquire_for(Duration::from_millis(150)).unwrap().is_none());
    assert!(start.elapsed() < SOON && start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());

    // Meanwhile another lock of this process goes round and round.
    let other = locks.mutex("b");
    let waiting = locks.mutex("a");
    let start = Instant::now();
    let waiter = std::thread::spawn(move || waiting.acquire().map(drop));
    let mut longest = Duration::ZERO;
    while !waiter.is_finished() {
        assert!(start.elapsed() < LONG);
        let pair = Instant::now();
        other.acquire().unwrap().release().unwrap();
        longest = longest.max(pair.elapsed());
    }
    let error = waiter.join().unwrap().unwrap_err();
    assert!(met.elapsed() >= Duration::from_secs(2), "a busy machine is no reason: {:?}", met.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("was stopped") && error.has_no_effect() && error.advice().is_some(),
        "{error:?}"
    );
    assert!(longest < SOON, "{longest:?}");
    let looked = locks.inspect("a", Primitive::Mutex).unwrap_err();
    assert!(looked.to_string().contains("was stopped"), "{looked}");

    stopped.goes_on();
    assert!(locks.mutex("a").try_acquire_for(LONG).unwrap().is_some());
}

#[test]
fn a_waiter_gets_the_lock_when_the_stopped_process_goes_on_or_dies() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    for end in [Stopped::goes_on as fn(&mut Stopped), Stopped::dies, Stopped::dies_unnoticed] {
        let mut stopped = Stopped::at(directory.path(), &locks);
        let waiting = locks.mutex("a");
        // On a machine that is busy enough, who waits is told that it takes long.
        let waiter = std::thread::spawn(move || {
            let start = Instant::now();
            loop {
                match waiting.try_acquire_for(LONG) {
                    Err(error) if error.kind() == ErrorKind::Unavailable && start.elapsed() < LONG => {}
                    answer => return answer.unwrap().is_some(),
                }
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiter.is_finished());
        end(&mut stopped);
        assert!(waiter.join().unwrap());
    }
}

#[test]
fn what_can_not_be_given_back_is_given_back_later() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let (held, dropped) = (locks.mutex("a").acquire().unwrap(), locks.semaphore("s", 2).acquire().unwrap());
    let mut stopped = Stopped::at(directory.path(), &locks);
    let start = Instant::now();
    let error = held.release().unwrap_err();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(error.kind() == ErrorKind::Unavailable && !error.has_no_effect(), "{error:?}");
    assert!(error.to_string().contains("was stopped"), "{error}");
    drop(dropped);
    assert!(locks.semaphore("s", 2).try_acquire().unwrap().is_some(), "other chains are none of its business");
    stopped.goes_on();
    // Nobody asks for it again but the thread of this process: a look at the table is no attempt.
    eventually("it is given back", || locks.inspect("a", Primitive::Mutex).unwrap().holders.is_empty());
    assert!(locks.mutex("a").try_acquire().unwrap().is_some());
}
