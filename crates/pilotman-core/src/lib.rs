//! Primitives, engine and backend interface of `pilotman`.
//!
//! Applications use the crate `pilotman`, which adds the backends and their addresses. This crate is for those who
//! write a backend: implement [`backend::Backend`], hand it to [`Locks::new`], and prove it with the conformance suite
//! `pilotman-conformance`.
//!
//! ```
//! # async fn example() -> pilotman_core::Result<()> {
//! let locks = pilotman_core::Locks::memory();
//! let guard = locks.mutex("invoice:42").acquire().await?;
//! assert!(locks.mutex("invoice:42").try_acquire().await?.is_none());
//! guard.release().await?;
//! # Ok(())
//! # }
//! # pollster::block_on(example()).unwrap();
//! ```
//!
//! # Logs
//!
//! Events go to [`tracing`] with these fields: `lock.name`, `lock.backend`, `lock.primitive`, `lock.token`, `lock.queue`,
//! `lock.loss`, `lock.remaining_ms`, `lock.local_hand_off`, `lock.count`, `lock.lease`, `error`; an acquire runs in the
//! span `acquire`, a batch of renewals in `renew`, background work in `give_back`. Waiting, acquiring and releasing are `DEBUG`; a
//! failed renewal, a loss and whatever goes wrong in the background are `WARN`.
//!
//! # Figures
//!
//! With the feature `metrics`:
#![doc = include_str!("metrics.md")]

pub mod backend;
pub mod blocking;
mod capabilities;
pub mod clock;
mod engine;
mod error;
mod fork;
mod locks;
mod loss;
pub mod memory;
mod metrics;
mod name;
mod primitives;
mod provider;
pub mod random;
mod sync;
mod target;
mod votes;

pub use capabilities::{Capabilities, Fencing, LeaseBounds, Waiting};
pub use error::{Error, ErrorKind, Result};
pub use locks::{Locks, LocksBuilder};
pub use loss::LossReason;
pub use name::{Name, NameRule};
pub use primitives::{
    Fenced, FencedGuard, Guard, Held, HoldState, Lock, Lost, MultiGuard, Mutex, Release, RwLock, Semaphore,
    UpgradeableGuard,
};
pub use provider::LockProvider;
pub use target::{LockOptions, Primitive, Target};
pub use votes::{NodeVote, Verdict, Vote, Votes};
