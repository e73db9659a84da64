//! A stand-in for SQL Server.
//!
//! No SQL Server can be had where the tests run. This speaks its protocol (TDS 7.4) over a socket on loopback and keeps
//! application locks as Microsoft documents them, so that a real driver and a real lock backend run against it. The
//! README of the crate tells what is real, what isn't, and where each rule was taken from.
//!
//! ```
//! let server = pilotman_testkit_mssql::StandIn::start()?;
//! assert!(server.url().starts_with("mssql://"));
//! assert!(server.locks().is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod builder;
mod connection;
mod engine;
mod gate;
pub mod locks;
mod report;
mod sql;
mod stand_in;
mod wire;

pub use builder::Builder;
pub use engine::faults::Fault;
pub use engine::server::Statement;
pub use engine::settings::Permissions;
pub use locks::Mode;
pub use report::{LockOwner, LockRow, SessionRow};
pub use stand_in::StandIn;
pub use wire::prelogin::Encryption;
pub use wire::tokens::SqlError;

/// What the server calls itself.
const NAME: &str = "STANDIN";
