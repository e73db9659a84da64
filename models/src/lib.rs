//! Models of what is hard to get right, explored exhaustively at small size by the tests of this crate.
//!
//! | test | what is explored |
//! |---|---|
//! | `local_queue` | the queue of one process for one lock, under every interleaving of its callers |
#![forbid(unsafe_code)]
