//! A primary and a replica under three sentinels.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Node, Reply, Setup, eventually, is_synced};
use crate::process::Process;
use crate::servers::{Scratch, Started};

/// The name that the sentinels know the primary by.
pub const SERVICE: &str = "mymaster";
const SENTINELS: usize = 3;

/// A primary and a replica, watched by three sentinels that take half a second of silence for a failure.
#[derive(Debug)]
pub struct Sentinels {
    /// The two data servers. Which one is the primary changes: see [`Self::primary`].
    pub nodes: Vec<Node>,
    /// The sentinels.
    pub sentinels: Vec<Node>,
    _home: Option<Arc<TempDir>>,
}

impl Sentinels {
    /// Starts them, with these further arguments for the data servers, and waits until they all know each other.
    ///
    /// # Errors
    ///
    /// When Redis is not installed or they don't come up.
    pub fn start(extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let setup = Setup::new(super::program(&super::REDIS)?);
        launch(setup, extra, home.path(), Some(home.clone()))
    }

    /// `redis-sentinel://h:p,h:p,h:p/SERVICE`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The port of the primary as the first sentinel that answers sees it.
    ///
    /// # Errors
    ///
    /// When none answers.
    pub fn primary_port(&self) -> io::Result<u16> {
        let mut last = io::Error::other("there are no sentinels");
        for sentinel in &self.sentinels {
            match primary_of(sentinel) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The primary as the sentinels see it.
    ///
    /// # Errors
    ///
    /// When no sentinel answers.
    pub fn primary(&mut self) -> io::Result<&mut Node> {
        let port = self.primary_port()?;
        self.nodes.iter_mut().find(|node| node.port() == port).ok_or_else(|| unknown(port))
    }

    /// The data server that is not the primary.
    ///
    /// # Errors
    ///
    /// When no sentinel answers.
    pub fn replica(&mut self) -> io::Result<&mut Node> {
        let port = self.primary_port()?;
        self.nodes.iter_mut().find(|node| node.port() != port).ok_or_else(|| unknown(port))
    }

    /// Has the sentinels make the replica the primary while both run, and waits until all agree. They leave the old
    /// primary as it is for another ten seconds: it goes on to take writes, which are lost then. To wait for the end of
    /// that too: [`Self::wait_ready`].
    ///
    /// # Errors
    ///
    /// When they don't within 30 seconds.
    pub fn failover(&mut self) -> io::Result<()> {
        let old = self.primary_port()?;
        // It is refused while the sentinels still are at the last one, or haven't heard of the replica.
        eventually("a failover begins", || self.sentinels[0].cli(&["SENTINEL", "FAILOVER", SERVICE]).map(|_| true))?;
        self.wait_failed_over(old)
    }

    /// Waits until all sentinels name another primary than this one, and it takes writes. For after its death.
    ///
    /// # Errors
    ///
    /// When they don't within 30 seconds.
    pub fn wait_failed_over(&self, old: u16) -> io::Result<()> {
        eventually("every sentinel names the new primary", || {
            for sentinel in &self.sentinels {
                if primary_of(sentinel)? == old {
                    return Ok(false);
                }
            }
            let new = self.primary_port()?;
            let node = self.nodes.iter().find(|node| node.port() == new).ok_or_else(|| unknown(new))?;
            Ok(node.info("role")? == "master")
        })
    }

    /// Waits until the sentinels know each other and the replica, and the replica is in step.
    ///
    /// # Errors
    ///
    /// When that takes more than 30 seconds.
    pub fn wait_ready(&mut self) -> io::Result<()> {
        for sentinel in &self.sentinels {
            eventually("the sentinels know each other and the replica", || agrees(sentinel))?;
        }
        let replica = self.replica()?;
        eventually("the replica is in step", || is_synced(replica))
    }
}

fn agrees(sentinel: &Node) -> io::Result<bool> {
    let mut client = sentinel.connect()?;
    client.call(&["SENTINEL", "CKQUORUM", SERVICE])?;
    let known = client.call(&["SENTINEL", "MASTER", SERVICE])?;
    let others = known.field("num-other-sentinels").and_then(Reply::integer);
    let replicas = client.call(&["SENTINEL", "REPLICAS", SERVICE])?;
    let online = |replica: &Reply| replica.field("master-link-status").and_then(Reply::text) == Some("ok");
    Ok(others == Some(SENTINELS as i64 - 1) && replicas.items().iter().any(online))
}

fn primary_of(sentinel: &Node) -> io::Result<u16> {
    let address = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE])?;
    let port = address.items().get(1).and_then(Reply::integer).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| io::Error::other(format!("the sentinel does not know {SERVICE}: {address}")))
}

fn unknown(port: u16) -> io::Error {
    io::Error::other(format!("the sentinels name port {port}, where no server of ours is"))
}

pub(super) fn start(scratch: &Scratch) -> io::Result<Started> {
    let all = launch(Setup::new(scratch.program(&super::REDIS)?), &[], scratch.path(), None)?;
    let urls = vec![all.url()];
    let processes: Vec<Process> = all.sentinels.into_iter().chain(all.nodes).map(Node::into_process).collect();
    Ok(Started { processes, urls })
}

fn launch(setup: Setup, extra: &[&str], directory: &Path, home: Option<Arc<TempDir>>) -> io::Result<Sentinels> {
    let data = setup.clone().args(extra.iter().copied());
    let primary = Node::launch(data.clone(), &directory.join("node-0"), None)?;
    let port = primary.port().to_string();
    let replica = Node::launch(data.args(["--replicaof", "127.0.0.1", &port]), &directory.join("node-1"), None)?;
    let sentinels = (0..SENTINELS)
        .map(|i| {
            let directory = directory.join(format!("sentinel-{i}"));
            fs::create_dir_all(&directory)?;
            let configuration = directory.join("sentinel.conf");
            let quorum = SENTINELS / 2 + 1;
            let text = format!(
                "sentinel monitor {SERVICE} 127.0.0.1 {port} {quorum}\n\
                 sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
            );
            fs::write(&configuration, text)?;
            Node::launch(Setup { sentinel: Some(configuration), ..setup.clone() }, &directory, None)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut all = Sentinels { nodes: vec![primary, replica], sentinels, _home: home };
    all.wait_ready()?;
    Ok(all)
}
