//! What a hand-off takes when 2, 16, 128 and 1 000 wait, each with a connection of its own.

use std::time::{Duration, Instant};

use pilotman_bench::contend::Worker;
use pilotman_bench::history::Summary;
use pilotman_bench::{Failure, figure, give_back, quantile};
use pilotman_core::Primitive;
use tokio::runtime::Runtime;

use crate::ours;
use crate::server::Server;
use crate::worker::{NAME, Side};

const COUNTS: [usize; 4] = [2, 16, 128, 1000];
const HAND_OFFS: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn measure() -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    for count in COUNTS {
        chain(&runtime, count)?;
    }
    Ok(())
}

/// All wait for a lock that we have; then it goes round several times.
fn chain(runtime: &Runtime, count: usize) -> Result<(), Failure> {
    let server = Server::start()?;
    let processes = if count == 2 { 2 } else { 4 };
    let rounds = (HAND_OFFS / count).max(2) + 1;
    let work = Side::PilotmanEach.work(vec![server.port()], count / processes, Duration::ZERO, PATIENCE, rounds);
    let mut workers: Vec<Worker> = (0..processes).map(|_| Worker::start(&work)).collect::<Result<_, _>>()?;
    let (locks, guard) = runtime.block_on(async {
        let locks = ours::locks(&[server.port()]).await?;
        let guard = locks.mutex(NAME).acquire().await?;
        Ok::<_, Failure>((locks, guard))
    })?;
    let before = server.requests()?;
    for worker in &mut workers {
        worker.go()?;
    }
    let asked = runtime.block_on(async {
        let start = Instant::now();
        let mut asked = 0;
        while locks.inspect(NAME, Primitive::Mutex).await?.waiters != Some(count) {
            asked += 1;
            if start.elapsed() > PATIENCE {
                return Err(format!("not all of {count} wait within {PATIENCE:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        give_back(guard).await?;
        // The last look, and the release.
        Ok::<_, Failure>(asked + 2)
    })?;
    let mut holds = Vec::new();
    for (process, worker) in workers.into_iter().enumerate() {
        holds.extend(worker.holds(process)?);
    }
    let total = holds.len();
    let requests = server.requests()? - before - asked;
    let summary = Summary::of(holds, count)?;
    // Every waiter is a process of its own as far as the library can tell.
    let gaps: Vec<f64> = summary.elsewhere.into_iter().chain(summary.here).collect();
    figure(&format!("waiters-{count}-requests"), requests as f64 / total as f64, "requests");
    figure(&format!("waiters-{count}-p50"), quantile(&gaps, 0.5), "ms");
    figure(&format!("waiters-{count}-p99"), quantile(&gaps, 0.99), "ms");
    runtime.block_on(locks.close());
    Ok(())
}
