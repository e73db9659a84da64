//! Which nodes make up a quorum, and what is expected of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::{Error, Result};

use super::status::QuorumStatus;
use crate::options::RedisNode;

/// The longest lease unless set otherwise.
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// Votes are kept as bits of a number.
const MOST_NODES: usize = 64;

/// A quorum of independent Redis nodes: a lock is held when more than half of them have granted it.
///
/// ```
/// use pilotman_redis::{Redlock, RedisNode};
///
/// # fn main() -> pilotman_core::Result<()> {
/// let nodes = Redlock::new([
///     RedisNode::endpoint("10.0.0.1:6379")?,
///     RedisNode::endpoint("10.0.1.1:6380")?.password("another one").tls(true),
///     RedisNode::sentinel(["10.0.2.1:26379", "10.0.2.2:26379"], "mymaster")?.database(2),
/// ]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Redlock {
    pub(super) nodes: Vec<RedisNode>,
    pub(super) name: Option<String>,
    pub(super) longest_lease: Duration,
    pub(super) quarantine: bool,
    pub(super) semaphores: bool,
    pub(super) observer: Option<Observer>,
}

/// Is told when the state of the nodes changes.
#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<dyn Fn(&QuorumStatus) + Send + Sync>);

impl Redlock {
    /// A quorum of these nodes, each of which has one vote: a server, a primary with its replicas, or a cluster. Each keeps
    /// its own credentials, database, key format and time-outs.
    pub fn new(nodes: impl IntoIterator<Item = RedisNode>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            name: None,
            longest_lease: LONGEST_LEASE,
            quarantine: true,
            semaphores: false,
            observer: None,
        }
    }

    /// What this set of nodes is called. All programs that lock by the same nodes must call it the same: a node that is
    /// in use by one set refuses another one, since clients with different lists of nodes could each have a majority of
    /// theirs. Default: made of the addresses as they are written, whatever their order.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The longest lease that may be asked for, and so the time for which the grants of a node don't count that may have
    /// forgotten others. Default: 60 s. The nodes keep what was agreed on first; who asks for more is refused.
    pub fn longest_lease(mut self, lease: Duration) -> Self {
        self.longest_lease = lease;
        self
    }

    /// Whether a node that was started anew, promoted, emptied or whose clock was set has no say in new locks for the
    /// longest lease. Default: yes. Without it such a node can help two holders to a majority each; turn it off only where
    /// nodes keep every write (`appendfsync always`, no failover) and their clocks are never stepped.
    pub fn quarantine(mut self, on: bool) -> Self {
        self.quarantine = on;
        self
    }

    /// Whether semaphores are to be had. Default: no. With `k` permits they need more than `k/(k+1)` of the nodes, which
    /// for few nodes is all of them: with one node down, a semaphore of two permits on three nodes can't be acquired.
    pub fn semaphores(mut self, on: bool) -> Self {
        self.semaphores = on;
        self
    }

    /// Is called when a node comes or goes or loses its say for a time, with which nodes are up and whether there is a
    /// quorum. It must not block. Default: such things are only logged.
    pub fn on_change(mut self, observer: impl Fn(&QuorumStatus) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Checks what can be checked without a server.
    pub(super) fn check(&self) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(Error::misconfigured("a quorum without nodes")
                .with_advice("name the nodes, as in redlock://10.0.0.1,10.0.0.2,10.0.0.3"));
        }
        if self.nodes.len() > MOST_NODES {
            return Err(Error::misconfigured(format!("{} nodes; {MOST_NODES} are the most", self.nodes.len())));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let label = node.label();
            node.check().map_err(|error| in_node(&label, &error))?;
            if let Some(first) = self.nodes[..at].iter().find(|other| other.is_same_place(node)) {
                return Err(Error::misconfigured(format!("the nodes {} and {label} are the same", first.label()))
                    .with_advice("one server would have two votes; name each node once"));
            }
        }
        let bounds = crate::RedisBackend::SHORTEST_LEASE..=crate::RedisBackend::LONGEST_LEASE;
        if !bounds.contains(&self.longest_lease) {
            return Err(Error::misconfigured(format!(
                "the longest lease, {:?}, is outside {:?} … {:?}",
                self.longest_lease,
                bounds.start(),
                bounds.end()
            )));
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain)) {
            return Err(Error::misconfigured("the name of a quorum has 1 to 64 letters, digits, dots, dashes or _"));
        }
        Ok(())
    }

    /// What the nodes know this set by.
    pub(super) fn set(&self) -> String {
        let count = self.nodes.len();
        if let Some(name) = &self.name {
            return format!("{name}/{count}");
        }
        let mut places: Vec<_> = self.nodes.iter().map(RedisNode::place).collect();
        places.sort();
        // The hash of the standard library may change with the compiler; sets must not.
        let hash = places
            .join("\n")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("{hash:016x}/{count}")
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_".contains(&byte)
}

/// An error of one node.
pub(super) fn in_node(label: &str, error: &Error) -> Error {
    error.clone().with_part(&format!("the node {label}"))
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redlock")
            .field("nodes", &self.nodes)
            .field("name", &self.name)
            .field("longest_lease", &self.longest_lease)
            .field("quarantine", &self.quarantine)
            .field("semaphores", &self.semaphores)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(addresses: &[&str]) -> Redlock {
        Redlock::new(addresses.iter().map(|address| RedisNode::endpoint(address).unwrap()))
    }

    #[test]
    fn a_set_is_the_same_in_any_order() {
        assert_eq!(nodes(&["a", "b:1", "c"]).set(), nodes(&["c:6379", "A", "b:1"]).set());
        assert_ne!(nodes(&["a", "b", "c"]).set(), nodes(&["a", "b", "d"]).set());
        assert_ne!(nodes(&["a", "b", "c"]).set(), nodes(&["a", "b"]).set());
        assert_eq!(nodes(&["a", "b"]).name("us").set(), nodes(&["c", "d"]).name("us").set());
    }

    #[test]
    fn what_makes_no_quorum_is_refused() {
        let why = |redlock: Redlock| redlock.check().unwrap_err().to_string();
        assert!(why(nodes(&[])).contains("without nodes"));
        assert!(why(nodes(&["a", "b", "a:6379"])).contains("the same"));
        assert!(why(nodes(&["a"]).longest_lease(Duration::ZERO)).contains("longest lease"));
        assert!(why(nodes(&["a"]).name("")).contains("name"));
        let clustered = RedisNode::cluster(["a"]).unwrap().database(3);
        assert!(why(Redlock::new([clustered])).contains("database 0"));
        for good in [&["a"][..], &["a", "b"], &["a", "b", "c", "d"]] {
            nodes(good).check().unwrap();
        }
    }
}
