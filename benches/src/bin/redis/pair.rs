//! An uncontended acquire and release against the bare commands, in turns: one task alone, and 64 at once.

use std::future::Future;
use std::time::Instant;

use pilotman_bench::{Failure, figure, median};
use pilotman_core::{Locks, Mutex};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bare::{self, BareLock};
use crate::ours::{self, give_back};
use crate::server::Server;

const ROUNDS: usize = 61;
// Short, so that most rounds are not disturbed by other work on the machine.
const PAIRS: u32 = 40;
const TASKS: usize = 64;
const PAIRS_OF_TASK: u32 = 10;

pub(crate) fn measure() -> Result<(), Failure> {
    let server = Server::start()?;
    let runtime = Runtime::new()?;
    // Callers are tasks of a runtime, not the thread that waits for it.
    let port = server.port();
    runtime.block_on(async { tokio::spawn(alone(port)).await? })?;
    runtime.block_on(async { tokio::spawn(together(port)).await? })
}

async fn alone(port: u16) -> Result<(), Failure> {
    let locks = ours::locks(port).await?;
    let mutex = locks.mutex("pair");
    let mut bare = BareLock::new(bare::connect(port).await?, "bare").await?;
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
    figure("pair-bare", median(&bare_us), "µs");
    once.report("try-pair");
    waiting.report("pair");
    locks.close().await;
    Ok(())
}

async fn try_pair(mutex: &Mutex) -> Result<(), Failure> {
    give_back(mutex.try_acquire().await?.ok_or("the lock was not free")?).await
}

/// Our time for a pair beside that of the bare commands, round by round.
#[derive(Default)]
struct Sides {
    ours: Vec<f64>,
    ratios: Vec<f64>,
    differences: Vec<f64>,
}

impl Sides {
    fn add(&mut self, ours: f64, bare: f64) {
        self.ours.push(ours);
        self.ratios.push(ours / bare);
        self.differences.push(ours - bare);
    }

    fn report(&self, what: &str) {
        figure(what, median(&self.ratios), "×");
        figure(&format!("{what}-over"), median(&self.differences), "µs");
        figure(&format!("{what}-pilotman"), median(&self.ours), "µs");
    }
}

async fn together(port: u16) -> Result<(), Failure> {
    let locks = ours::locks(port).await?;
    let connection = bare::connect(port).await?;
    let mut bare_locks = Vec::new();
    for task in 0..TASKS {
        bare_locks.push(BareLock::new(connection.clone(), &format!("bare:{task}")).await?);
    }
    let (mut ratios, mut bare_us, mut ours_us) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let bare = all(bare_locks.iter().cloned().map(|mut bare| async move {
            for _ in 0..PAIRS_OF_TASK {
                bare.pair().await?;
            }
            Ok(())
        }))
        .await?;
        let ours = all((0..TASKS).map(|task| our_pairs(locks.clone(), task))).await?;
        if round > 0 {
            ratios.push(ours / bare);
            bare_us.push(bare);
            ours_us.push(ours);
        }
    }
    figure("64-tasks", median(&ratios), "×");
    figure("64-tasks-bare", median(&bare_us), "µs");
    figure("64-tasks-pilotman", median(&ours_us), "µs");
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

/// Runs all tasks at once; the time for each pair of all of them.
async fn all<F>(work: impl Iterator<Item = F> + Send) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks: JoinSet<_> = work.collect();
    let count = tasks.len();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(micros(start, PAIRS_OF_TASK) / count as f64)
}

fn micros(start: Instant, pairs: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(pairs)
}
