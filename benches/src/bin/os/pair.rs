//! An uncontended acquire and release, and bare `semop` calls with undo, in turns.

use std::time::Instant;

use pilotman::blocking::{Locks, Mutex};
use pilotman_bench::{Failure, figure, give_back_blocking, median};

use crate::semop::Semaphore;

const ROUNDS: usize = 2001;
// A round is much shorter than a slice of the scheduler: most rounds are not interrupted, however busy the machine is.
const PAIRS: u32 = 50;

/// Measures; the figure is the median over the rounds, each with both sides one after the other.
pub(crate) fn measure(url: &str) -> Result<(), Failure> {
    let semaphore = Semaphore::new()?;
    let locks = Locks::connect(url)?;
    let mutex = locks.mutex("pair");
    // Caches and lazy set-up are paid before.
    bare(&semaphore)?;
    ours(&mutex)?;

    let (mut ratios, mut ours_ns, mut bare_ns) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Who is first changes, so that a drift of the machine's speed meets both.
        let (bare, ours) = if round % 2 == 0 {
            let bare = bare(&semaphore)?;
            (bare, ours(&mutex)?)
        } else {
            let ours = ours(&mutex)?;
            (bare(&semaphore)?, ours)
        };
        ratios.push(ours / bare);
        ours_ns.push(ours);
        bare_ns.push(bare);
    }
    figure("pair", median(&ratios), "×");
    figure("pair-pilotman", median(&ours_ns), "ns");
    figure("pair-semop", median(&bare_ns), "ns");
    Ok(())
}

fn bare(semaphore: &Semaphore) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..PAIRS {
        semaphore.add(-1)?;
        semaphore.add(1)?;
    }
    Ok(each(start))
}

fn ours(mutex: &Mutex) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..PAIRS {
        give_back_blocking(mutex.acquire()?)?;
    }
    Ok(each(start))
}

fn each(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / f64::from(PAIRS)
}
