//! A cluster whose slots and members a test can change.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Node, Reply, Setup, eventually};
use crate::process::Process;
use crate::servers::{Scratch, Started};

/// The slots of a cluster.
pub const SLOTS: u16 = 16_384;
const PRIMARIES: u16 = 3;
/// When a failover that was asked for has come to nothing.
const FAILOVER_GIVES_UP: Duration = Duration::from_secs(6);

/// A cluster: first three primaries with a third of the slots each, without replicas.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order in which they were started.
    pub nodes: Vec<Node>,
    setup: Setup,
    directory: PathBuf,
    _home: Option<Arc<TempDir>>,
}

impl Cluster {
    /// Starts one, with these further arguments for each node, and waits until every node finds it complete.
    ///
    /// # Errors
    ///
    /// When Redis is not installed or it doesn't come up.
    pub fn start(extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let setup = Setup::new(super::program(&super::REDIS)?).args(extra.iter().copied());
        launch(setup, home.path(), Some(home.clone()))
    }

    /// `redis-cluster://h:p,h:p,h:p`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// Adds a node that has no slots yet, and waits until all know it. Returns its place in `nodes`.
    ///
    /// # Errors
    ///
    /// When it doesn't come up or isn't taken in.
    pub fn add(&mut self) -> io::Result<usize> {
        let directory = self.directory.join(format!("node-{}", self.nodes.len()));
        let node = Node::launch(self.setup.clone(), &directory, None)?;
        meet(&node, &self.nodes[0])?;
        self.nodes.push(node);
        self.wait_ok()?;
        Ok(self.nodes.len() - 1)
    }

    /// Adds a replica of this node, and waits until it is in step. Returns its place in `nodes`.
    ///
    /// # Errors
    ///
    /// When it doesn't come up or isn't taken in.
    pub fn add_replica(&mut self, of: usize) -> io::Result<usize> {
        let (added, primary) = (self.add()?, self.id(of)?);
        eventually("the node becomes a replica", || {
            self.nodes[added].cli(&["CLUSTER", "REPLICATE", &primary]).map(|_| true)
        })?;
        eventually("the replica is in step", || super::is_synced(&self.nodes[added]))?;
        Ok(added)
    }

    /// Has a replica take over from its primary while both run, and waits until it has.
    ///
    /// # Errors
    ///
    /// When it doesn't within 30 seconds.
    pub fn failover(&self, replica: usize) -> io::Result<()> {
        let mut asked: Option<Instant> = None;
        eventually("the replica is the primary", || {
            if self.nodes[replica].info("role")? == "master" {
                return Ok(true);
            }
            // Refused until the node has heard that it is a replica; and on a busy machine the others may not vote in
            // the five seconds after which it gives up.
            if asked.is_none_or(|asked| asked.elapsed() > FAILOVER_GIVES_UP) {
                self.nodes[replica].cli(&["CLUSTER", "FAILOVER"])?;
                asked = Some(Instant::now());
            }
            Ok(false)
        })?;
        self.wait_ok()
    }

    /// The cluster's id of a node.
    ///
    /// # Errors
    ///
    /// When it doesn't answer.
    pub fn id(&self, node: usize) -> io::Result<String> {
        Ok(self.nodes[node].cli(&["CLUSTER", "MYID"])?.to_string())
    }

    /// The slot of a key.
    ///
    /// # Errors
    ///
    /// When the first node doesn't answer.
    pub fn slot(&self, key: &str) -> io::Result<u16> {
        let reply = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key])?;
        let slot = reply.integer().and_then(|slot| u16::try_from(slot).ok());
        slot.ok_or_else(|| io::Error::other(format!("no slot: {reply}")))
    }

    /// The place in `nodes` of the primary that has a slot, as the first living node sees it.
    ///
    /// # Errors
    ///
    /// When no node answers or nobody has it.
    pub fn owner(&self, slot: u16) -> io::Result<usize> {
        let slots = self.ask_any(&["CLUSTER", "SLOTS"])?;
        let number = |reply: Option<&Reply>| reply.and_then(Reply::integer);
        let range = slots.items().iter().find(|range| {
            let (first, last) = (number(range.items().first()), number(range.items().get(1)));
            first.is_some_and(|first| first <= slot.into()) && last.is_some_and(|last| last >= slot.into())
        });
        let port = number(range.and_then(|range| range.items().get(2)?.items().get(1)));
        let place = self.nodes.iter().position(|node| Some(i64::from(node.port())) == port);
        place.ok_or_else(|| io::Error::other(format!("nobody has slot {slot}: {slots}")))
    }

    /// Moves slots with all their keys from one primary to another, and tells every node.
    ///
    /// # Errors
    ///
    /// When a node doesn't answer or refuses.
    pub fn reshard(&self, slots: Range<u16>, from: usize, to: usize) -> io::Result<()> {
        for slot in slots {
            self.begin_move(slot, from, to)?;
            self.finish_move(slot, from, to)?;
        }
        Ok(())
    }

    /// Begins to move a slot: from now on keys that are missing at `from` are asked for at `to` (`ASK`).
    ///
    /// # Errors
    ///
    /// When a node doesn't answer or refuses.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let (source, target, slot) = (self.id(from)?, self.id(to)?, slot.to_string());
        self.nodes[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source])?;
        self.nodes[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target])?;
        Ok(())
    }

    /// Moves the keys of a slot whose move has begun.
    ///
    /// # Errors
    ///
    /// When a node doesn't answer or refuses.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let (slot, port) = (slot.to_string(), self.nodes[to].port().to_string());
        let mut source = self.nodes[from].connect()?;
        loop {
            let keys = source.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?;
            let keys: Vec<&str> = keys.items().iter().filter_map(Reply::text).collect();
            if keys.is_empty() {
                return Ok(());
            }
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys);
            source.call(&command)?;
        }
    }

    /// Moves the rest of a slot's keys and gives the slot to its new owner.
    ///
    /// # Errors
    ///
    /// When a node doesn't answer or refuses.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.move_keys(slot, from, to)?;
        let (slot, target) = (slot.to_string(), self.id(to)?);
        // The new owner first: it must know before anybody sends clients there.
        for node in [to, from] {
            self.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target])?;
        }
        // The others hear of it by themselves, only later; a replica refuses to be told.
        for node in (0..self.nodes.len()).filter(|node| *node != to && *node != from) {
            if self.nodes[node].info("role").is_ok_and(|role| role == "master") {
                self.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target])?;
            }
        }
        Ok(())
    }

    /// Waits until every node that answers finds the cluster complete and knows all that answer.
    ///
    /// # Errors
    ///
    /// When that takes more than 30 seconds.
    pub fn wait_ok(&self) -> io::Result<()> {
        let living: Vec<&Node> = self.nodes.iter().filter(|node| node.cli(&["PING"]).is_ok()).collect();
        let mut ids = Vec::new();
        for node in &living {
            ids.push(node.cli(&["CLUSTER", "MYID"])?.to_string());
        }
        for node in &living {
            eventually("the cluster is complete", || {
                let mut client = node.connect()?;
                let info = client.call(&["CLUSTER", "INFO"])?.to_string();
                let known = client.call(&["CLUSTER", "NODES"])?.to_string();
                // A node that is still being met has a provisional id.
                Ok(info.contains("cluster_state:ok") && ids.iter().all(|id| known.contains(id.as_str())))
            })?;
        }
        Ok(())
    }

    fn ask_any(&self, command: &[&str]) -> io::Result<Reply> {
        let mut last = io::Error::other("the cluster has no nodes");
        for node in &self.nodes {
            match node.cli(command) {
                Ok(reply) => return Ok(reply),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn meet(node: &Node, other: &Node) -> io::Result<()> {
    let (port, bus_port) = (other.port().to_string(), other.bus_port().to_string());
    node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]).map(|_| ())
}

pub(super) fn start(scratch: &Scratch) -> io::Result<Started> {
    let cluster = launch(Setup::new(scratch.program(&super::REDIS)?), scratch.path(), None)?;
    let urls = vec![cluster.url()];
    let processes: Vec<Process> = cluster.nodes.into_iter().map(Node::into_process).collect();
    Ok(Started { processes, urls })
}

fn launch(setup: Setup, directory: &Path, home: Option<Arc<TempDir>>) -> io::Result<Cluster> {
    let setup = Setup { cluster: true, ..setup };
    let mut nodes = Vec::new();
    for i in 0..PRIMARIES {
        let node = Node::launch(setup.clone(), &directory.join(format!("node-{i}")), None)?;
        let first = u32::from(SLOTS) * u32::from(i) / u32::from(PRIMARIES);
        let last = u32::from(SLOTS) * u32::from(i + 1) / u32::from(PRIMARIES) - 1;
        node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
        // Epochs of their own from the start, or the nodes would first have to settle whose view counts.
        node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])?;
        nodes.push(node);
    }
    for node in &nodes[1..] {
        meet(node, &nodes[0])?;
    }
    let cluster = Cluster { nodes, setup, directory: directory.to_owned(), _home: home };
    cluster.wait_ok()?;
    Ok(cluster)
}
