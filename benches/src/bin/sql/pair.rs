//! An uncontended acquire and release against the two bare statements on one connection of the same driver, in turns.

use std::time::Instant;

use pilotman_bench::{Failure, Sides, figure, give_back, micros};
use pilotman_core::Mutex;
use tokio::runtime::Runtime;

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
    let (locks, _) = ours::locks(port).await?;
    let mutex = locks.mutex("pair");
    let mut bare = Bare::connect(port).await?;
    let (mut once, mut waiting) = (Sides::default(), Sides::default());
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for _ in 0..PAIRS {
            bare.try_pair("bare").await?;
        }
        let bare = micros(start, PAIRS);
        let start = Instant::now();
        for _ in 0..PAIRS {
            try_pair(&mutex).await?;
        }
        let tried = micros(start, PAIRS);
        let start = Instant::now();
        for _ in 0..PAIRS {
            give_back(mutex.acquire().await?).await?;
        }
        let acquired = micros(start, PAIRS);
        // Caches and lazy set-up are paid in the first round.
        if round > 0 {
            once.add(tried, bare);
            waiting.add(acquired, bare);
        }
    }
    once.report("try-pair");
    waiting.report("pair");
    locks.close().await;
    Ok(())
}

async fn try_pair(mutex: &Mutex) -> Result<(), Failure> {
    give_back(mutex.try_acquire().await?.ok_or("the lock was not free")?).await
}

async fn held(port: u16) -> Result<(), Failure> {
    let (locks, sessions) = ours::locks(port).await?;
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
