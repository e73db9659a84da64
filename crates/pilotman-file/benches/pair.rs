//! An uncontended acquire and release through the backend's interface, beside the bare calls, in one run.

#[cfg(unix)]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(unix)]
fn main() {
    use std::time::{Duration, Instant};

    use pilotman_core::Primitive;
    use rustix::fs::{FlockOperation, flock};

    const PAIRS: u32 = 50_000;
    const ROUNDS: usize = 7;

    fn median(mut work: impl FnMut()) -> Duration {
        let mut rounds: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                (0..PAIRS).for_each(|_| work());
                start.elapsed() / PAIRS
            })
            .collect();
        rounds.sort();
        rounds[ROUNDS / 2]
    }

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = std::fs::File::create(directory.path().join("bare")).expect("a file");
    let bare = median(|| {
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("it is free");
        flock(&file, FlockOperation::Unlock).expect("it is held");
    });
    println!("{:<28}{:>6} ns", "bare flock pair", bare.as_nanos());
    let permits = |count: u32| Primitive::Permit(count.try_into().expect("not zero"));
    let kinds = [
        ("mutex", Primitive::Mutex),
        ("read", Primitive::Read),
        ("write", Primitive::Write),
        ("permit of 5", permits(5)),
        ("permit of 1 000 000", permits(1_000_000)),
    ];
    for (name, primitive) in kinds {
        let lock = common::lock(directory.path(), "bench", primitive);
        let pair = median(|| {
            let held = lock.take();
            lock.release(&held);
        });
        println!("{name:<28}{:>6} ns  {:.2} ×", pair.as_nanos(), pair.as_secs_f64() / bare.as_secs_f64());
    }
    let lock = common::fenced(directory.path(), "bench", Primitive::Mutex);
    let pair = median(|| {
        let held = lock.take();
        lock.release(&held);
    });
    println!("{:<28}{:>6} ns  {:.2} ×", "mutex with token", pair.as_nanos(), pair.as_secs_f64() / bare.as_secs_f64());
}

#[cfg(not(unix))]
fn main() {}
