//! Locks of our own on the server.

use pilotman_bench::Failure;
use pilotman_core::Locks;
use pilotman_redis::{RedisBackend, RedisNode};

/// Locks with a connection of their own.
pub(crate) async fn locks(ports: &[u16]) -> Result<Locks, Failure> {
    let [port] = ports else { return Err("this row has one server".into()) };
    let locks = Locks::new(RedisBackend::new(RedisNode::endpoint(format!("127.0.0.1:{port}"))?)?);
    locks.check().await?;
    Ok(locks)
}
