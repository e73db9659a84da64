//! One lock that 4 processes with 4 tasks each want all the time, against a bare list with one element for which 16
//! connections wait.

use std::time::Duration;

use pilotman_bench::history::Summary;
use pilotman_bench::{Failure, figure, quantile};

use crate::server::{self, Server};
use crate::worker::{LIST, Side, Work, Worker};

const PROCESSES: usize = 4;
const TASKS: usize = 4;
/// Both sides run in turns.
const TURNS: usize = 3;
const TURN: Duration = Duration::from_millis(600);

/// On so many servers, each of which is asked for every hand-off; the list is on one of them.
pub(crate) fn measure(what: &str, nodes: usize) -> Result<(), Failure> {
    variant(what, nodes, Duration::ZERO)?;
    variant(&format!("{what}-1ms"), nodes, Duration::from_millis(1))
}

fn variant(what: &str, nodes: usize, hold: Duration) -> Result<(), Failure> {
    let servers = server::start(nodes)?;
    servers[0].command(&["RPUSH", LIST, "token"])?;
    let (mut list, mut ours) = (Turns::default(), Turns::default());
    for _ in 0..TURNS {
        list.take(&servers[..1], Side::List, hold)?;
        ours.take(&servers, Side::Pilotman, hold)?;
    }
    let p50 = |turns: &Turns| quantile(&turns.all.elsewhere, 0.5);
    figure(&format!("{what}-p50"), p50(&ours) / p50(&list), "×");
    figure(&format!("{what}-p99"), quantile(&ours.all.elsewhere, 0.99), "ms");
    figure(&format!("{what}-requests"), ours.requests_each(), "requests");
    figure(&format!("{what}-longest-wait"), ours.unfairness(), "× mean");
    for (turns, side) in [(&ours, "pilotman"), (&list, "list")] {
        figure(&format!("{what}-{side}-elsewhere-p50"), p50(turns), "ms");
        figure(&format!("{what}-{side}-wait-mean"), turns.all.mean_wait(), "ms");
        figure(&format!("{what}-{side}-wait-p99"), quantile(&turns.all.waits, 0.99), "ms");
        figure(&format!("{what}-{side}-each"), turns.millis_each(), "ms");
        if !turns.all.here.is_empty() {
            figure(&format!("{what}-{side}-here-p50"), quantile(&turns.all.here, 0.5), "ms");
        }
        let elsewhere = turns.all.elsewhere.len() as f64 / (turns.all.elsewhere.len() + turns.all.here.len()) as f64;
        figure(&format!("{what}-{side}-elsewhere"), elsewhere * 100.0, "%");
    }
    figure(&format!("{what}-list-p99"), quantile(&list.all.elsewhere, 0.99), "ms");
    figure(&format!("{what}-list-requests"), list.requests_each(), "requests");
    figure(&format!("{what}-list-longest-wait"), list.unfairness(), "× mean");
    Ok(())
}

/// What all turns of a side come to.
#[derive(Default)]
struct Turns {
    all: Summary,
    /// Of all servers together, divided by their number.
    requests: f64,
    holds: usize,
    unfairness: Vec<f64>,
}

impl Turns {
    fn take(&mut self, servers: &[Server], side: Side, hold: Duration) -> Result<(), Failure> {
        let ports = server::ports(servers);
        let work = Work { side, ports, tasks: TASKS, hold, time: TURN, rounds: usize::MAX };
        let mut workers: Vec<Worker> = (0..PROCESSES).map(|_| Worker::start(&work)).collect::<Result<_, _>>()?;
        let before = server::requests(servers)?;
        for worker in &mut workers {
            worker.go()?;
        }
        let mut holds = Vec::new();
        for (process, worker) in workers.into_iter().enumerate() {
            holds.extend(worker.holds(process)?);
        }
        self.requests += (server::requests(servers)? - before) as f64 / servers.len() as f64;
        self.holds += holds.len();
        let summary = Summary::of(holds, PROCESSES * TASKS)?;
        self.unfairness.push(summary.longest_wait() / summary.mean_wait());
        self.all.append(summary);
        Ok(())
    }

    fn requests_each(&self) -> f64 {
        self.requests / self.holds as f64
    }

    fn millis_each(&self) -> f64 {
        TURNS as f64 * TURN.as_secs_f64() * 1e3 / self.holds as f64
    }

    /// The longest wait by the mean wait: of the turns the one in the middle, for the longest of all waits is the
    /// machine's doing.
    fn unfairness(&self) -> f64 {
        quantile(&self.unfairness, 0.5)
    }
}
