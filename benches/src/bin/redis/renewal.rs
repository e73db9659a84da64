//! 10 000 held leases of 30 s: what it takes to keep them.

use std::thread;
use std::time::{Duration, Instant};

use pilotman_bench::{Failure, figure, give_back, processor_time, thread_time};
use pilotman_core::{Guard, HoldState, Locks};
use pilotman_testkit::servers::redis::Reply;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::ours;
use crate::server::{self, Server};

const LEASES: usize = 10_000;
const LEASE: Duration = Duration::from_secs(30);
/// Leases are renewed this often, so that a stretch of this length has one renewal of each.
const PERIOD: Duration = Duration::from_secs(10);
/// The stretch begins half a period after the acquires.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);
/// Less than this is left only where a renewal came more than a second late.
const LEAST_LEFT: Duration = Duration::from_millis(18_500);
const AT_ONCE: usize = 100;

/// On so many servers, each of which has all of them.
pub(crate) fn measure(what: &str, nodes: usize) -> Result<(), Failure> {
    let servers = server::start(nodes)?;
    command(&servers, &["CONFIG", "SET", "slowlog-max-len", "1000000"])?;
    let runtime = Runtime::new()?;
    let locks = runtime.block_on(ours::locks(&server::ports(&servers)))?;
    let start = Instant::now();
    let guards = runtime.block_on(acquire_all(&locks))?;
    figure(&format!("{what}-acquired-in"), start.elapsed().as_secs_f64() * 1e3, "ms");
    // Everything that runs now is the library.
    drop(runtime);
    thread::sleep(SETTLE.saturating_sub(start.elapsed()));

    command(&servers, &["SLOWLOG", "RESET"])?;
    command(&servers, &["CONFIG", "SET", "slowlog-log-slower-than", "0"])?;
    let begun = Instant::now();
    let (process, thread) = (processor_time(), thread_time());
    let mut late = 0;
    while begun.elapsed() < PERIOD {
        thread::sleep(LOOK.min(PERIOD.saturating_sub(begun.elapsed())));
        let left = |guard: &Guard| guard.remaining().unwrap_or(LEASE);
        late = late.max(guards.iter().filter(|guard| left(guard) < LEAST_LEFT).count());
    }
    let took = begun.elapsed();
    // Looking at the guards is ours, not the library's.
    let used = (processor_time() - process).saturating_sub(thread_time() - thread);
    command(&servers, &["CONFIG", "SET", "slowlog-log-slower-than", "-1"])?;
    let (mut connections, mut scripts) = (0, Vec::new());
    for server in &servers {
        connections = connections.max(server.connections()?);
        scripts.extend(keys_of_scripts(server)?);
    }
    let lost = guards.iter().filter(|guard| guard.state() != HoldState::Held).count();

    figure(&format!("{what}-cpu"), used.as_secs_f64() / took.as_secs_f64() * 100.0, "% of a core");
    figure(&format!("{what}-connections"), connections as f64, "connections");
    figure(&format!("{what}-keys"), scripts.iter().copied().max().ok_or("no script was run")? as f64, "keys");
    figure(&format!("{what}-scripts"), scripts.len() as f64, "scripts");
    figure(&format!("{what}-lost"), lost as f64, "leases");
    figure(&format!("{what}-late"), late as f64, "leases");
    // Each that is not there any more is an error.
    Runtime::new()?.block_on(async {
        let mut guards = guards.into_iter();
        // No more at a time than were acquired: what is measured is not how all are given back at once.
        while guards.len() > 0 {
            let mut tasks: JoinSet<_> = guards.by_ref().take(AT_ONCE).map(give_back).collect();
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
        }
        locks.close().await;
        Ok(())
    })
}

fn command(servers: &[Server], command: &[&str]) -> Result<(), Failure> {
    servers.iter().try_for_each(|server| server.command(command).map(drop).map_err(Failure::from))
}

async fn acquire_all(locks: &Locks) -> Result<Vec<Guard>, Failure> {
    let mut guards = Vec::with_capacity(LEASES);
    for first in (0..LEASES).step_by(AT_ONCE) {
        let mut tasks = JoinSet::new();
        for number in first..first + AT_ONCE {
            let mutex = locks.mutex(format!("invoice:{number}")).lease(LEASE);
            tasks.spawn(async move { mutex.acquire().await });
        }
        while let Some(ended) = tasks.join_next().await {
            guards.push(ended??);
        }
    }
    Ok(guards)
}

/// How many keys each script had that was run since the log was emptied.
fn keys_of_scripts(server: &Server) -> Result<Vec<i64>, Failure> {
    let log = server.command(&["SLOWLOG", "GET", "-1"])?;
    let mut keys = Vec::new();
    for entry in log.items() {
        let command = entry.items().get(3).map(Reply::items).ok_or("SLOWLOG is not as expected")?;
        if command.first().and_then(Reply::text).is_some_and(|name| name.starts_with("EVAL")) {
            keys.push(command.get(2).and_then(Reply::integer).ok_or("a script without a number of keys")?);
        }
    }
    Ok(keys)
}
