//! Locks of our own on the servers.

use pilotman_bench::Failure;
use pilotman_core::Locks;
use pilotman_redis::{RedisNode, Redlock, RedlockBackend};

/// Locks with connections of their own, with which all nodes have a say.
pub(crate) async fn locks(ports: &[u16]) -> Result<Locks, Failure> {
    let nodes: Vec<RedisNode> =
        ports.iter().map(|port| RedisNode::endpoint(format!("127.0.0.1:{port}"))).collect::<Result<_, _>>()?;
    let locks = Locks::new(RedlockBackend::new(Redlock::new(nodes))?);
    locks.check().await?;
    Ok(locks)
}
