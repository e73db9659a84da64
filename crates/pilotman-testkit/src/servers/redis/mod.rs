//! Redis and Valkey in all their arrangements, each as a URL for the tests that only use it and as a type for those that
//! break it.

mod clock;
mod cluster;
mod node;
mod replicated;
mod resp;
mod sentinels;
mod tls;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use cluster::{Cluster, SLOTS};
pub use node::Node;
pub use replicated::Replicated;
pub use resp::{Client, Reply};
pub use sentinels::{SERVICE, Sentinels};
pub use tls::{ADMIN_PASSWORD, ADMIN_SOCKET, LOCKER, LOCKER_PASSWORD, Tls};

use super::{Scratch, ServerKind, Started};
use crate::needs::{Package, Program};
use node::{READY, Setup};

/// Debian's own server.
const REDIS: Program = Program { command: "redis-server", package: Package::Debian("redis-server"), also_in: &[] };
/// The server of a later release of Debian.
const NEWEST_REDIS: Program = Program {
    command: "trixie-redis-server",
    package: Package::PrivateRoot { suite: "trixie", package: "redis-server" },
    also_in: &[],
};
const NEWEST_VALKEY: Program = Program {
    command: "trixie-valkey-server",
    package: Package::PrivateRoot { suite: "trixie", package: "valkey-server" },
    also_in: &[],
};

pub(super) const ONE: ServerKind =
    ServerKind { name: "redis", about: "Redis 7.0, one node", programs: &[REDIS], start: start_one };
pub(super) const TLS: ServerKind =
    ServerKind { name: "redis-tls", about: "Redis 7.0 with TLS and users", programs: &[REDIS], start: tls::start };
pub(super) const SENTINEL: ServerKind = ServerKind {
    name: "redis-sentinel",
    about: "Redis 7.0, a primary, a replica and three sentinels",
    programs: &[REDIS],
    start: sentinels::start,
};
pub(super) const CLUSTER: ServerKind = ServerKind {
    name: "redis-cluster",
    about: "Redis 7.0, a cluster of three primaries",
    programs: &[REDIS],
    start: cluster::start,
};
pub(super) const NEWEST: ServerKind = ServerKind {
    name: "redis-newest",
    about: "Redis 8.0, one node",
    programs: &[NEWEST_REDIS],
    start: |scratch| start_node(scratch, &NEWEST_REDIS),
};
pub(super) const VALKEY: ServerKind = ServerKind {
    name: "valkey-newest",
    about: "Valkey 8.1, one node",
    programs: &[NEWEST_VALKEY],
    start: |scratch| start_node(scratch, &NEWEST_VALKEY),
};

pub(super) const QUORUM: ServerKind = ServerKind {
    name: "redlock",
    about: "Redis 7.0, five independent nodes",
    programs: &[REDIS],
    start: |scratch| {
        let mut started = Started { urls: Vec::new(), processes: Vec::new() };
        for number in 0..5 {
            let directory = scratch.path().join(number.to_string());
            let node = Node::launch(Setup::new(scratch.program(&REDIS)?), &directory, None)?;
            started.urls.push(node.url());
            started.processes.push(node.into_process());
        }
        Ok(started)
    },
};

fn start_one(scratch: &Scratch) -> io::Result<Started> {
    start_node(scratch, &REDIS)
}

fn start_node(scratch: &Scratch, program: &Program) -> io::Result<Started> {
    let node = Node::launch(Setup::new(scratch.program(program)?), scratch.path(), None)?;
    Ok(Started { urls: vec![node.url()], processes: vec![node.into_process()] })
}

/// A directory of its own for servers that a test keeps as a typed value.
fn home() -> io::Result<Arc<TempDir>> {
    super::home("redis")
}

fn program(program: &Program) -> io::Result<PathBuf> {
    super::program(program)
}

/// Asks again until it is so, and otherwise fails with what was asked for and the last answer.
fn eventually(what: &str, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    loop {
        let found = look();
        if let Ok(true) = found {
            return Ok(());
        }
        if start.elapsed() > READY {
            let last = found.err().map_or_else(|| "it is not so".to_owned(), |error| error.to_string());
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {READY:?}: {what}: {last}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a replica has all of its primary's data and its connection.
fn is_synced(replica: &Node) -> io::Result<bool> {
    Ok(replica.info("role")? == "slave" && replica.info("master_link_status")? == "up")
}
