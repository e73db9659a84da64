//! Starts real servers and processes for the tests of `pilotman`, and breaks them.
//!
//! - [`needs`](mod@needs): which programs and servers the tests of each backend need, and the package that has them.
//! - [`servers`]: the servers that the tests know how to start, and the ones that `cargo xtask test` has started.
//! - [`process`]: one child process: started, waited for, frozen, killed, and never left behind.
//! - [`proxy`]: a TCP connection that loses, delays and cuts what a test wants.
//! - [`certificates`]: a certificate authority of a test's own.
//! - [`net`]: free loopback ports.
//! - [`timing`]: bounds on times that a busy machine keeps.
//!
//! Everything here blocks the calling thread: it is for tests, benchmarks and `cargo xtask`, never for a library.

#![forbid(unsafe_code)]

pub mod certificates;
pub mod needs;
pub mod net;
pub mod process;
pub mod proxy;
pub mod servers;
pub mod timing;
#[cfg(unix)]
mod tree;
#[cfg(unix)]
mod user;
#[cfg(unix)]
mod watchdog;

pub use needs::{BackendNeeds, Package, Program};
pub use process::Process;
pub use servers::{Running, Scratch, ServerKind, Shared};
