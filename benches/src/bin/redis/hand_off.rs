//! One lock that 4 processes with 4 tasks each want all the time, against a bare list with one element for which 16
//! connections wait.

use std::time::Duration;

use pilotman_bench::contend::{self, Turns};
use pilotman_bench::{Failure, figure};

use crate::server;
use crate::worker::{LIST, Side};

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
    let ports = server::ports(&servers);
    let work = |side: Side, ports: &[u16]| side.work(ports.to_vec(), TASKS, hold, TURN, usize::MAX);
    let (mut list, mut ours) = (Turns::default(), Turns::default());
    for _ in 0..TURNS {
        list.take(PROCESSES, &work(Side::List, &ports[..1]), || server::requests(&servers[..1]))?;
        ours.take(PROCESSES, &work(Side::Pilotman, &ports), || server::requests(&servers))?;
    }
    contend::compare(what, &ours, &list, "list");
    figure(&format!("{what}-requests"), ours.requests_each(), "requests");
    figure(&format!("{what}-list-requests"), list.requests_each(), "requests");
    Ok(())
}
