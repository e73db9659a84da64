//! An uncontended acquire and release through the backend's interface, beside the bare calls, in one run.

#[cfg(unix)]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(unix)]
fn main() {
    use std::time::{Duration, Instant};

    use common::Lock;
    use pilotman_core::Primitive;
    use rustix::fs::{FlockOperation, flock, fstat};

    const PAIRS: u32 = 200;
    const ROUNDS: usize = 500;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = std::fs::File::create(directory.path().join("bare")).expect("a file");
    let permits = |count: u32| Primitive::Permit(count.try_into().expect("not zero"));
    let pair = |lock: Lock| move || drop(lock.release(&lock.take()));
    let lock = |primitive| pair(common::lock(directory.path(), "bench", primitive));
    let lock_file = || flock(&file, FlockOperation::NonBlockingLockExclusive).expect("it is free");
    let unlock_file = || flock(&file, FlockOperation::Unlock).expect("it is held");
    type Case<'a> = (&'static str, Box<dyn FnMut() + 'a>);
    let mut cases: Vec<Case<'_>> = vec![
        ("bare flock pair", Box::new(|| (lock_file(), unlock_file()).0)),
        (
            "the same with an fstat",
            Box::new(|| {
                lock_file();
                std::hint::black_box(fstat(&file).expect("it is open"));
                unlock_file();
            }),
        ),
        ("mutex", Box::new(lock(Primitive::Mutex))),
        ("read", Box::new(lock(Primitive::Read))),
        ("write", Box::new(lock(Primitive::Write))),
        ("permit of 5", Box::new(lock(permits(5)))),
        ("permit of 1 000 000", Box::new(lock(permits(1_000_000)))),
        ("mutex with token", Box::new(pair(common::fenced(directory.path(), "bench", Primitive::Mutex)))),
    ];
    // The best of many short rounds, taken in turns: whatever else the machine does hits all cases alike.
    let mut best = vec![Duration::MAX; cases.len()];
    for _ in 0..ROUNDS {
        for (number, (_, work)) in cases.iter_mut().enumerate() {
            let start = Instant::now();
            (0..PAIRS).for_each(|_| work());
            best[number] = best[number].min(start.elapsed() / PAIRS);
        }
    }
    for ((name, _), time) in cases.iter().zip(&best) {
        println!("{name:<28}{:>6} ns  {:.2} ×", time.as_nanos(), time.as_secs_f64() / best[0].as_secs_f64());
    }
}

#[cfg(not(unix))]
fn main() {}
