//! Locks of our own on the servers.

use pilotman_bench::Failure;
use pilotman_core::{Guard, Locks, Release};
use pilotman_redis::{RedisNode, Redlock, RedlockBackend};

/// Locks with connections of their own, with which all nodes have a say.
pub(crate) async fn locks(ports: &[u16]) -> Result<Locks, Failure> {
    let nodes: Vec<RedisNode> =
        ports.iter().map(|port| RedisNode::endpoint(format!("127.0.0.1:{port}"))).collect::<Result<_, _>>()?;
    let locks = Locks::new(RedlockBackend::new(Redlock::new(nodes))?);
    locks.check().await?;
    Ok(locks)
}

/// Gives a lock back, which must have been held to this moment.
pub(crate) async fn give_back(guard: Guard) -> Result<(), Failure> {
    match guard.release().await? {
        Release::Released => Ok(()),
        Release::AlreadyLost(reason) => Err(format!("the lock was lost: {reason:?}").into()),
    }
}
