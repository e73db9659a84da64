//! Models of what is hard to get right, explored exhaustively at small size by the tests of this crate.
//!
//! | test | what is explored |
//! |---|---|
//! | `local_queue` | the queue of one process for one lock, under every interleaving of its callers |
//! | `redis_hand_off` | the hand-off of a mutex on one Redis: queue, pushes, leases, faults |
#![forbid(unsafe_code)]

pub mod explore;
pub mod hand_off;
pub mod list;
