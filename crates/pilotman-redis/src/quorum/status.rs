//! Which nodes are up, and whether there is a quorum.

use std::fmt;
use std::time::Duration;

use pilotman_core::Error;

/// The state of the nodes of a quorum, as far as this process knows. Nothing is asked for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuorumStatus {
    /// So many nodes must grant a mutex.
    pub needed: usize,
    /// Each node, in the order in which they were configured.
    pub nodes: Vec<NodeStatus>,
}

/// The state of one node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node, as it was configured.
    pub node: String,
    /// Whether there is a connection to its primary.
    pub is_connected: bool,
    /// For how long its grants of new locks don't count, if so.
    pub set_aside: Option<Duration>,
    /// Why it could not be used last time, if so.
    pub error: Option<Error>,
}

impl QuorumStatus {
    /// How many nodes are connected and have a say in new locks.
    pub fn voting(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_connected && node.set_aside.is_none() && node.error.is_none()).count()
    }

    /// Whether enough nodes are there to acquire a mutex.
    pub fn has_quorum(&self) -> bool {
        self.voting() >= self.needed
    }
}

impl fmt::Display for QuorumStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} nodes can vote, {} needed", self.voting(), self.nodes.len(), self.needed)?;
        for node in &self.nodes {
            match (&node.error, node.set_aside) {
                (Some(error), _) => write!(f, "; {}: {error}", node.node)?,
                (None, Some(aside)) => write!(f, "; {}: has no say for another {aside:?}", node.node)?,
                (None, None) if !node.is_connected => write!(f, "; {}: not connected", node.node)?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}
