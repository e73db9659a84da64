//! Processes are killed while they hold, wait, take and give back: nobody overlaps, nobody hangs, no permit is lost.
//!
//! A short run by default; `cargo xtask faults os` makes the long one.
#![cfg(any(target_os = "linux", windows))]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::blocking::Locks;
use pilotman_os::{OsBackend, OsOptions};

/// How long anything may take that takes a millisecond on an idle machine.
const LONG: Duration = Duration::from_secs(30);
const WORKERS: usize = 4;
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";
const DIRECTORY: &str = "PILOTMAN_OS_TEST_DIRECTORY";
const LIFE: &str = "PILOTMAN_OS_TEST_LIFE";

fn kills() -> u32 {
    // Starting a process takes long under Wine.
    let few = if cfg!(windows) { 25 } else { 120 };
    std::env::var("PILOTMAN_FAULTS_KILLS").map_or(few, |count| count.parse().expect("a number of kills"))
}

fn locks(directory: &Path) -> Locks {
    #[cfg(target_os = "linux")]
    let options = OsOptions::new().directory(directory);
    #[cfg(windows)]
    let options = {
        let _ = directory;
        OsOptions::new()
    };
    let backend = OsBackend::new(options).unwrap();
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(backend)).build())
}

/// A name that no other test has: on Windows all use the same namespace.
fn name(directory: &Path) -> String {
    format!("kill-{}", directory.file_name().unwrap().to_str().unwrap())
}

/// What the processes of a test share beside the locks: numbers in a file.
struct Board(File);

/// Per worker: what it is inside as, if it is, and in which life; which of its lives was ended last; and its turns.
const INSIDE: usize = 0;
const DOOMED: usize = WORKERS;
const TURNS: usize = 2 * WORKERS;
/// Who was inside last, and how often two were seen there.
const LAST: usize = 3 * WORKERS;
const SEEN_TWICE: usize = 3 * WORKERS + 1;

impl Board {
    fn open(directory: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(directory.join("board"));
        let board = Self(file.unwrap());
        board.0.set_len(1024).unwrap();
        board
    }

    fn get(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        #[cfg(unix)]
        std::os::unix::fs::FileExt::read_exact_at(&self.0, &mut bytes, at as u64 * 8).unwrap();
        #[cfg(windows)]
        assert_eq!(std::os::windows::fs::FileExt::seek_read(&self.0, &mut bytes, at as u64 * 8).unwrap(), 8);
        u64::from_le_bytes(bytes)
    }

    fn set(&self, at: usize, value: u64) {
        let bytes = value.to_le_bytes();
        #[cfg(unix)]
        std::os::unix::fs::FileExt::write_all_at(&self.0, &bytes, at as u64 * 8).unwrap();
        #[cfg(windows)]
        assert_eq!(std::os::windows::fs::FileExt::seek_write(&self.0, &bytes, at as u64 * 8).unwrap(), 8);
    }

    /// What the workers are inside as, killed ones aside: as they were all at one moment. Nothing if that can't be told.
    fn inside(&self) -> Vec<u64> {
        // The turns first: who left and came again between the two looks has one more.
        let look = || {
            [TURNS, INSIDE, DOOMED].map(|kind| (0..WORKERS).map(|worker| self.get(kind + worker)).collect::<Vec<_>>())
        };
        let (first, second) = (look(), look());
        if first != second {
            return Vec::new();
        }
        let [_, inside, doomed] = first;
        let living = inside.into_iter().zip(doomed).filter(|(inside, doomed)| *inside != 0 && *inside >> 2 > *doomed);
        living.map(|(inside, _)| inside & 3).collect()
    }

    /// Whether those who are inside may be there together.
    fn is_sound(&self, limit: usize) -> bool {
        let inside = self.inside();
        inside.len() <= if inside.contains(&ALONE) { 1 } else { limit }
    }

    /// Whether a worker was to be killed in this life, or is dead.
    fn is_doomed(&self, number: usize, life: u64) -> bool {
        number < WORKERS && self.get(DOOMED + number) >= life
    }

    /// Windows may let a process run for a moment when its locks have passed on: what that sees or writes then is not
    /// counted. On Linux it is: there a lock passes on when nobody is left to do anything.
    fn seen_twice(&self, concerned: &[(usize, u64)]) {
        if !(cfg!(windows) && concerned.iter().any(|(number, life)| self.is_doomed(*number, *life))) {
            self.set(SEEN_TWICE, self.get(SEEN_TWICE) + 1);
        }
    }
}

/// What a worker can be inside as.
const ALONE: u64 = 1;
const AMONG_OTHERS: u64 = 2;

struct Worker {
    child: Child,
    number: usize,
    life: u64,
}

impl Worker {
    fn start(test: &str, directory: &Path, number: usize) -> Self {
        static LIVES: AtomicU64 = AtomicU64::new(1);
        let life = LIVES.fetch_add(1, Ordering::Relaxed);
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, number.to_string())
            .env(LIFE, life.to_string())
            .env(DIRECTORY, directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, number, life }
    }

    fn kill(&mut self, board: &Board) {
        board.set(DOOMED + self.number, self.life);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn role() -> Option<(usize, PathBuf)> {
    let number = std::env::var(ROLE).ok()?.parse().unwrap();
    Some((number, std::env::var_os(DIRECTORY).unwrap().into()))
}

/// Which of all processes of its test a worker is.
fn life() -> u64 {
    std::env::var(LIFE).unwrap().parse().unwrap()
}

/// Not random enough for anything else.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(now.as_nanos() as u64 | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a worker does while it is inside: says so again and again, so that one that lives too long is noticed by the
/// next, and looks who else is there. `limit`: how many may be inside if none of them has to be alone.
fn be_inside(board: &Board, number: usize, role: u64, limit: usize, dice: &mut Dice) {
    let life = life();
    let me = life << 8 | number as u64;
    board.set(INSIDE + number, life << 2 | role);
    if role == ALONE {
        board.set(LAST, me);
    }
    let mut last = board.get(LAST);
    for _ in 0..dice.roll(60) {
        // Nobody else writes there while somebody is alone inside, or while there are others.
        let found = board.get(LAST);
        if found != last {
            board.seen_twice(&[(number, life), ((found & 0xff) as usize, found >> 8)]);
            last = found;
        }
        if role == ALONE {
            board.set(LAST, me);
            last = me;
        }
        if dice.roll(4) == 0 && !board.is_sound(limit) {
            board.seen_twice(&[(number, life)]);
        }
    }
    board.set(INSIDE + number, 0);
    board.set(TURNS + number, board.get(TURNS + number) + 1);
}

/// Kills workers at random until enough have been killed, and looks after each whether the others get on.
fn kill_at_random(test: &str, directory: &Path) {
    let board = Board::open(directory);
    let mut dice = Dice::new();
    let mut workers: Vec<_> = (0..WORKERS).map(|number| Worker::start(test, directory, number)).collect();
    let turns = || (0..WORKERS).map(|worker| board.get(TURNS + worker)).sum::<u64>();
    let mut longest = Duration::ZERO;
    for round in 0..kills() {
        std::thread::sleep(Duration::from_micros(1000 + dice.roll(4000)));
        let victim = dice.roll(WORKERS as u64) as usize;
        workers[victim].kill(&board);
        let (before, start) = (turns(), Instant::now());
        while turns() < before + 2 {
            assert!(start.elapsed() < LONG, "nobody gets on after kill {round}");
            std::thread::sleep(Duration::from_micros(200));
        }
        longest = longest.max(start.elapsed());
        assert_eq!(board.get(SEEN_TWICE), 0, "too many were inside, noticed after kill {round}");
        workers[victim] = Worker::start(test, directory, victim);
    }
    for worker in &mut workers {
        worker.kill(&board);
    }
    println!("{test}: {} kills, {} turns, two turns after a kill within {longest:?}", kills(), turns());
}

#[test]
fn a_mutex() {
    if let Some((number, directory)) = role() {
        let (board, mut dice) = (Board::open(&directory), Dice::new());
        let mutex = locks(&directory).mutex(name(&directory));
        loop {
            let guard = mutex.acquire().unwrap();
            be_inside(&board, number, ALONE, 1, &mut dice);
            guard.release().unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    kill_at_random("a_mutex", directory.path());
    assert!(locks(directory.path()).mutex(name(directory.path())).try_acquire_for(LONG).unwrap().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_writer_lock() {
    if let Some((number, directory)) = role() {
        let (board, mut dice) = (Board::open(&directory), Dice::new());
        let lock = locks(&directory).rw_lock(name(&directory));
        loop {
            if dice.roll(3) == 0 {
                let guard = lock.write().unwrap();
                be_inside(&board, number, ALONE, WORKERS, &mut dice);
                guard.release().unwrap();
            } else {
                let guard = lock.read().unwrap();
                be_inside(&board, number, AMONG_OTHERS, WORKERS, &mut dice);
                guard.release().unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    kill_at_random("a_reader_writer_lock", directory.path());
    assert!(locks(directory.path()).rw_lock(name(directory.path())).try_write_for(LONG).unwrap().is_some());
}

#[test]
fn a_semaphore() {
    const PERMITS: u32 = 2;
    if let Some((number, directory)) = role() {
        let (board, mut dice) = (Board::open(&directory), Dice::new());
        let semaphore = locks(&directory).semaphore(name(&directory), PERMITS);
        loop {
            let guard = semaphore.acquire().unwrap();
            be_inside(&board, number, AMONG_OTHERS, PERMITS as usize, &mut dice);
            guard.release().unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    kill_at_random("a_semaphore", directory.path());
    let locks = locks(directory.path());
    let semaphore = locks.semaphore(name(directory.path()), PERMITS);
    let all: Vec<_> =
        (0..PERMITS).map(|_| semaphore.try_acquire_for(LONG).unwrap().expect("no permit is lost")).collect();
    assert!(semaphore.try_acquire().unwrap().is_none(), "no permit is made");
    drop(all);
    locks.close();
}

/// The file locks that are measured beside have this weakness; this backend must not.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_that_lives_on_keeps_nothing() {
    if let Some((_, directory)) = role() {
        let guard = locks(&directory).mutex(name(&directory)).acquire().unwrap();
        // SAFETY: the child makes nothing but system calls.
        #[allow(unsafe_code)]
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::thread::sleep(LONG * 4);
            // SAFETY: ends the child at once, without what the parent would do at its end.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(0)
            }
        }
        std::fs::write(directory.join("writing"), child.to_string()).unwrap();
        std::fs::rename(directory.join("writing"), directory.join("child")).unwrap();
        std::thread::sleep(LONG * 2);
        drop(guard);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Worker::start("a_forked_child_that_lives_on_keeps_nothing", directory.path(), 0);
    let start = Instant::now();
    let child = loop {
        let child = std::fs::read_to_string(directory.path().join("child")).unwrap_or_default();
        if !child.is_empty() {
            break child;
        }
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(5));
    };
    let locks = locks(directory.path());
    assert!(locks.mutex(name(directory.path())).try_acquire().unwrap().is_none());
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    let guard = locks.mutex(name(directory.path())).try_acquire_for(LONG).unwrap();
    assert!(guard.is_some());
    assert!(Path::new(&format!("/proc/{child}")).exists(), "the child lives on");
    let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}

/// The kernel tells of the death of one thread while others are still at work in it.
#[cfg(target_os = "linux")]
#[test]
fn the_lock_passes_on_when_all_threads_have_stopped() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 15;
    if let Some((_, directory)) = role() {
        let guard = locks(&directory).mutex(name(&directory)).acquire().unwrap();
        // Each thread counts in a place of its own, for as long as it can.
        std::thread::scope(|scope| {
            for place in 0..THREADS {
                let board = Board::open(&directory);
                scope.spawn(move || {
                    for count in 1.. {
                        board.set(place, count);
                    }
                });
            }
        });
        drop(guard);
    }
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let mutex = locks.mutex(name(directory.path()));
    let board = Board::open(directory.path());
    let counts = || (0..THREADS).map(|place| board.get(place)).collect::<Vec<_>>();
    for round in 0..ROUNDS {
        (0..THREADS).for_each(|place| board.set(place, 0));
        let mut holder = Worker::start("the_lock_passes_on_when_all_threads_have_stopped", directory.path(), 0);
        let start = Instant::now();
        while counts().contains(&0) {
            assert!(start.elapsed() < LONG, "the threads don't count");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Attempts in a tight loop: a wait takes longer than what is looked for here.
        let pid = rustix::process::Pid::from_raw(holder.child.id().try_into().unwrap()).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        let guard = loop {
            assert!(start.elapsed() < LONG, "it does not come free");
            if let Some(guard) = mutex.try_acquire().unwrap() {
                break guard;
            }
        };
        let seen = counts();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(counts(), seen, "somebody still counted when the lock had passed on, in round {round}");
        guard.release().unwrap();
        killer.join().unwrap();
        holder.child.wait().unwrap();
    }
}
