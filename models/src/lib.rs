//! Models of what is hard to get right, explored exhaustively at small size by the tests of this crate.
//!
//! | test | what is explored |
//! |---|---|
//! | `local_queue` | the queue of one process for one lock, under every interleaving of its callers |
//! | `redis_hand_off` | the hand-off of a mutex on one Redis: queue, pushes, leases, faults |
//! | `redlock_quorum` | the same over three nodes of which two are a quorum: votes, yielding, renewals, faults |
//! | `redlock_tokens` | one token of such a quorum, larger than all before, also when a node loses its counter |
//! | `redlock_quarantine` | how nodes are entered into a quorum, and when one that lost its data has a say again |
#![forbid(unsafe_code)]

pub mod explore;
pub mod hand_off;
pub mod list;
pub mod quarantine;
pub mod quorum;
pub mod tokens;
