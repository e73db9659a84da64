//! An uncontended acquire and release against the bare commands, in turns: one task alone, and 64 at once.

use std::future::Future;
use std::time::Instant;

use pilotman_bench::{Failure, Sides, figure, give_back, median, micros};
use pilotman_core::{Locks, Mutex};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::{Bare, ours, server};

const ROUNDS: usize = 61;
// Short, so that most rounds are not disturbed by other work on the machine.
const PAIRS: u32 = 40;
const TASKS: usize = 64;
const PAIRS_OF_TASK: u32 = 10;

/// On so many servers; the names of the figures end with `end`.
pub(crate) fn measure(nodes: usize, end: &'static str) -> Result<(), Failure> {
    let servers = server::start(nodes)?;
    let runtime = Runtime::new()?;
    let ports = server::ports(&servers);
    // Callers are tasks of a runtime, not the thread that waits for it.
    runtime.block_on(async { tokio::spawn(alone(ports.clone(), end)).await? })?;
    runtime.block_on(async { tokio::spawn(together(ports.clone(), end)).await? })
}

async fn alone(ports: Vec<u16>, end: &str) -> Result<(), Failure> {
    let locks = ours::locks(&ports).await?;
    let mutex = locks.mutex("pair");
    let mut bare = Bare::some(&ports, &["bare".to_owned()]).await?.remove(0);
    let (mut bare_us, mut once, mut waiting) = (Vec::new(), Sides::default(), Sides::default());
    for round in 0..=ROUNDS {
        let bare = {
            let start = Instant::now();
            for _ in 0..PAIRS {
                bare.pair().await?;
            }
            micros(start, PAIRS)
        };
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
            bare_us.push(bare);
            once.add(tried, bare);
            waiting.add(acquired, bare);
        }
    }
    figure(&format!("pair{end}-bare"), median(&bare_us), "µs");
    once.report(&format!("try-pair{end}"));
    waiting.report(&format!("pair{end}"));
    locks.close().await;
    Ok(())
}

async fn try_pair(mutex: &Mutex) -> Result<(), Failure> {
    give_back(mutex.try_acquire().await?.ok_or("the lock was not free")?).await
}

async fn together(ports: Vec<u16>, end: &str) -> Result<(), Failure> {
    let locks = ours::locks(&ports).await?;
    let keys: Vec<String> = (0..TASKS).map(|task| format!("bare:{task}")).collect();
    let mut bare_locks = Bare::some(&ports, &keys).await?;
    let (mut ratios, mut bare_us, mut ours_us) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let bare;
        (bare, bare_locks) = all(bare_locks.into_iter().map(|mut bare| async move {
            for _ in 0..PAIRS_OF_TASK {
                bare.pair().await?;
            }
            Ok(bare)
        }))
        .await?;
        let (ours, _) = all((0..TASKS).map(|task| our_pairs(locks.clone(), task))).await?;
        if round > 0 {
            ratios.push(ours / bare);
            bare_us.push(bare);
            ours_us.push(ours);
        }
    }
    figure(&format!("64-tasks{end}"), median(&ratios), "×");
    figure(&format!("64-tasks{end}-bare"), median(&bare_us), "µs");
    figure(&format!("64-tasks{end}-pilotman"), median(&ours_us), "µs");
    locks.close().await;
    Ok(())
}

async fn our_pairs(locks: Locks, task: usize) -> Result<(), Failure> {
    let mutex = locks.mutex(format!("pair:{task}"));
    for _ in 0..PAIRS_OF_TASK {
        give_back(mutex.acquire().await?).await?;
    }
    Ok(())
}

/// Runs all tasks at once; the time for each pair of all of them, and what they had at their end.
async fn all<F, T>(work: impl Iterator<Item = F> + Send) -> Result<(f64, Vec<T>), Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    let start = Instant::now();
    let mut tasks: JoinSet<_> = work.collect();
    let mut left = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        left.push(ended??);
    }
    Ok((micros(start, PAIRS_OF_TASK) / left.len() as f64, left))
}
