//! What an acquire takes while one node hangs, beside what it takes while all answer.

use std::time::{Duration, Instant};

use pilotman_bench::{Failure, figure, give_back, milliseconds, quantile};
use pilotman_core::Mutex;
use tokio::runtime::Runtime;

use crate::ours;
use crate::server::{self, Server};

/// Both are measured in turns.
const TURNS: usize = 3;
const PAIRS: usize = 250;
/// Between pairs, so that a hang is longer than the library waits for an answer.
const PAUSE: Duration = Duration::from_millis(10);
/// After a hang the node is connected again, and gets what it missed.
const RECOVERY: Duration = Duration::from_secs(1);

pub(crate) fn measure(nodes: usize, end: &str) -> Result<(), Failure> {
    let mut servers = server::start(nodes)?;
    let runtime = Runtime::new()?;
    let locks = runtime.block_on(ours::locks(&server::ports(&servers)))?;
    let (mut all_up, mut one_hung) = (Sides::default(), Sides::default());
    // Caches and lazy set-up are paid before.
    acquires(&runtime, locks.mutex("hung"), &mut Sides::default())?;
    for turn in 0..TURNS {
        acquires(&runtime, locks.mutex("hung"), &mut all_up)?;
        // Each time another one.
        let at = turn % nodes;
        hang(&mut servers, at, true)?;
        acquires(&runtime, locks.mutex("hung"), &mut one_hung)?;
        hang(&mut servers, at, false)?;
        std::thread::sleep(RECOVERY);
    }
    for (what, up, hung) in
        [("", &all_up.acquires, &one_hung.acquires), ("-release", &all_up.releases, &one_hung.releases)]
    {
        let added = |share| quantile(hung, share) - quantile(up, share);
        figure(&format!("hung{end}{what}-added"), added(0.5), "ms");
        figure(&format!("hung{end}{what}-added-p99"), added(0.99), "ms");
        figure(&format!("hung{end}{what}-p50"), quantile(hung, 0.5), "ms");
        figure(&format!("hung{end}{what}-longest"), quantile(hung, 1.0), "ms");
        figure(&format!("hung{end}{what}-all-up-longest"), quantile(up, 1.0), "ms");
    }
    runtime.block_on(locks.close());
    Ok(())
}

fn hang(servers: &mut [Server], at: usize, frozen: bool) -> Result<(), Failure> {
    Ok(servers.get_mut(at).ok_or("there is no such server")?.freeze(frozen)?)
}

/// In milliseconds.
#[derive(Default)]
struct Sides {
    acquires: Vec<f64>,
    releases: Vec<f64>,
}

fn acquires(runtime: &Runtime, mutex: Mutex, into: &mut Sides) -> Result<(), Failure> {
    let measured = runtime.block_on(async {
        // Callers are tasks of the runtime, not the thread that waits for it.
        tokio::spawn(async move {
            let mut sides = Sides::default();
            for _ in 0..PAIRS {
                let start = Instant::now();
                let guard = mutex.acquire().await?;
                sides.acquires.push(milliseconds(start.elapsed()));
                let start = Instant::now();
                give_back(guard).await?;
                sides.releases.push(milliseconds(start.elapsed()));
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, Failure>(sides)
        })
        .await?
    })?;
    into.acquires.extend(measured.acquires);
    into.releases.extend(measured.releases);
    Ok(())
}
