//! Locks on Redis and Valkey for [pilotman](https://docs.rs/pilotman): mutexes, reader-writer locks and semaphores on
//! one server, a primary followed through Sentinel or among several endpoints, or a cluster.
//!
//! A hold is a lease. Who waits stands in a queue on the server; a release hands the lock to the first waiter that lives
//! and tells that waiter's process, so that nobody polls. Each hold has a fencing token at no cost. What is promised on
//! which topology, and what is not, is in the backend's page.
//!
//! | file | what lives there |
//! |---|---|
//! | `options` | how a Redis is reached |
//! | `keys`, `slots` | names, keys, slots of a cluster |
//! | `scripts`, `scripts/*.lua` | what runs on the server, each in one step |
//! | `lock` | arguments and answers of those scripts, per primitive |
//! | `waiting` | a place in the queue, until the lock is ours |
//! | `push` | what servers tell without being asked |
//! | `node`, `node/*` | connections: finding the primary, health, replicas |
//! | `inspect` | who holds what; breaking locks |
//! | `failure` | errors |
//!
//! ```no_run
//! use pilotman_core::Locks;
//! use pilotman_redis::{RedisBackend, RedisNode};
//!
//! # async fn example() -> pilotman_core::Result<()> {
//! let locks = Locks::new(RedisBackend::new(RedisNode::endpoint("127.0.0.1:6379")?)?);
//! let guard = locks.mutex("invoice:42").acquire().await?;
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod backend;
mod failure;
mod incident;
mod inspect;
mod keys;
mod lock;
mod node;
mod options;
mod process;
mod push;
mod scripts;
mod slots;
mod waiting;

pub use backend::RedisBackend;
pub use incident::{Incident, IncidentKind};
pub use options::RedisNode;
/// The driver. Its major version is this crate's.
pub use redis;
