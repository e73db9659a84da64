//! An uncontended acquire and release against the two bare statements on one connection of the same driver, in turns.

use std::time::Instant;

use pilotman_bench::{Failure, Sides, figure, give_back, micros};
use pilotman_core::Mutex;
use tokio::runtime::{Handle, Runtime};

use crate::bare::Bare;
use crate::ours;

const ROUNDS: usize = 61;
// Short, so that most rounds are not disturbed by other work on the machine.
const PAIRS: u32 = 40;
/// So many locks are held at once.
const HELD: usize = 1000;

pub(crate) fn measure(port: u16) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    // Callers are tasks of a runtime, not the thread that waits for it.
    runtime.block_on(async { tokio::spawn(alone(port)).await? })?;
    runtime.block_on(async { tokio::spawn(held(port)).await? })
}

async fn alone(port: u16) -> Result<(), Failure> {
    let (locks, _) = ours::locks(port, None).await?;
    let (locks_here, _) = ours::locks(port, Some(Handle::current())).await?;
    let (mutex, here) = (locks.mutex("pair"), locks_here.mutex("pair"));
    let mut bare = Bare::connect(port).await?;
    let (mut once, mut waiting, mut on_runtime) = (Sides::default(), Sides::default(), Sides::default());
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for _ in 0..PAIRS {
            bare.try_pair("bare").await?;
        }
        let bare = micros(start, PAIRS);
        let start = Instant::now();
        for _ in 0..PAIRS {
            give_back(mutex.try_acquire().await?.ok_or("the lock was not free")?).await?;
        }
        let tried = micros(start, PAIRS);
        let acquired = pairs(&mutex).await?;
        let acquired_here = pairs(&here).await?;
        // Caches and lazy set-up are paid in the first round.
        if round > 0 {
            once.add(tried, bare);
            waiting.add(acquired, bare);
            on_runtime.add(acquired_here, bare);
        }
    }
    once.report("try-pair");
    waiting.report("pair");
    on_runtime.report("runtime-pair");
    locks.close().await;
    locks_here.close().await;
    Ok(())
}

/// What an acquire and a release take, in microseconds.
async fn pairs(mutex: &Mutex) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..PAIRS {
        give_back(mutex.acquire().await?).await?;
    }
    Ok(micros(start, PAIRS))
}

async fn held(port: u16) -> Result<(), Failure> {
    let (locks, sessions) = ours::locks(port, None).await?;
    let mut guards = Vec::with_capacity(HELD);
    for nth in 0..HELD {
        guards.push(locks.mutex(format!("held:{nth}")).acquire().await?);
    }
    figure("held-connections", sessions() as f64, "connections");
    for guard in guards {
        give_back(guard).await?;
    }
    locks.close().await;
    Ok(())
}
