#![doc = include_str!("../redis.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`: how a Redis is reached
// - `keys`, `slots`: names, keys, slots of a cluster
// - `scripts`, `scripts/*.lua`: what runs on the server, each in one step
// - `lock`: arguments and answers of those scripts, per primitive
// - `waiting`: a place in the queue, until the lock is ours
// - `push`: what servers tell without being asked
// - `node`, `node/*`: one Redis, which is one vote: connections, finding the primary, its health, its replicas
// - `inspect`: who holds what; breaking locks
// - `quorum`, `quorum/*`: Redlock, on several such nodes
// - `doctor`: whether it is set up safely
// - `failure`: errors
mod backend;
mod doctor;
mod failure;
mod incident;
mod inspect;
mod keys;
mod lock;
mod node;
mod options;
mod process;
mod push;
mod quorum;
mod scripts;
mod slots;
mod waiting;

#[doc = include_str!("../redlock.md")]
pub mod redlock {}

pub use backend::RedisBackend;
pub use incident::{Incident, IncidentKind};
pub use options::RedisNode;
pub use quorum::{NodeStatus, QuorumStatus, QuorumWatch, Redlock, RedlockBackend};
/// The driver. Its major version is this crate's.
pub use redis;
