//! Starts real servers and processes for the tests of `pilotman`, and breaks them.
//!
//! - [`needs`](mod@needs): which programs and servers the tests of each backend need, and the package that has them.
//! - [`servers`]: the servers that the tests know how to start.
//! - [`process`]: one child process: started, waited for, frozen, killed, and never left behind.
//! - [`net`]: free loopback ports.
//!
//! Everything here blocks the calling thread: it is for tests, benchmarks and `cargo xtask`, never for a library.

#![forbid(unsafe_code)]

pub mod needs;
pub mod net;
pub mod process;
pub mod servers;

pub use needs::{BackendNeeds, Package, Program};
pub use process::Process;
pub use servers::{Running, Scratch, ServerKind};
