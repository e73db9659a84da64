//! A primary and its replicas, with nobody who decides: the test does.

use std::io;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Node, Setup, eventually, is_synced};

/// A primary and replicas without Sentinel. A failover is what the test makes of it.
#[derive(Debug)]
pub struct Replicated {
    /// The server that takes writes, until [`Self::promote`].
    pub primary: Node,
    /// The servers that copy it.
    pub replicas: Vec<Node>,
    _home: Arc<TempDir>,
}

impl Replicated {
    /// Starts a primary and this many replicas, all with these further arguments, and waits until the replicas have
    /// caught up.
    ///
    /// # Errors
    ///
    /// When Redis is not installed or they don't come up.
    pub fn start(replicas: usize, extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let setup = Setup::new(super::program(&super::REDIS)?).args(extra.iter().copied());
        let primary = Node::launch(setup.clone(), &home.path().join("primary"), None)?;
        let replicas = (0..replicas)
            .map(|i| {
                // Started as replicas, so that they are replicas again after a restart.
                let setup = setup.clone().args(["--replicaof", "127.0.0.1", &primary.port().to_string()]);
                Node::launch(setup, &home.path().join(format!("replica-{i}")), None)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let this = Self { primary, replicas, _home: home };
        this.wait_synced()?;
        Ok(this)
    }

    /// Waits until every replica has its primary's data and connection.
    ///
    /// # Errors
    ///
    /// When that takes more than 30 seconds.
    pub fn wait_synced(&self) -> io::Result<()> {
        self.replicas.iter().try_for_each(|replica| eventually("the replica is in step", || is_synced(replica)))
    }

    /// Makes replica `i` a primary, as a failover does, and the other replicas copy it. It then stands in `primary`, and
    /// the old primary, which is told nothing and may be dead, in its place among the replicas.
    ///
    /// # Errors
    ///
    /// When the replica or another one doesn't answer.
    pub fn promote(&mut self, i: usize) -> io::Result<()> {
        self.replicas[i].cli(&["REPLICAOF", "NO", "ONE"])?;
        let port = self.replicas[i].port().to_string();
        for (_, other) in self.replicas.iter().enumerate().filter(|(other, _)| *other != i) {
            other.cli(&["REPLICAOF", "127.0.0.1", &port])?;
        }
        std::mem::swap(&mut self.primary, &mut self.replicas[i]);
        Ok(())
    }
}
