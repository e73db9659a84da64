#![doc = include_str!("../mssql.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`, `ado`: which server, and how its locks are used; as it is written in ADO.NET
// - `backend`: SQL Server as the engine sees it
// - `names`: how names become resources of the server
// - `request`: one lock as a session is asked for it
// - `driver`: what is asked of a driver; `wire`, `socket`: the one there is, and what is seen on its socket
// - `connect`: opening sessions
// - `session`: one session: trying, waiting, cancelling, upgrading, giving back
// - `permits`: semaphores
// - `tokens`: fencing tokens
// - `statements`: the SQL
// - `failure`, `calm`: what errors mean; panics of the driver are errors too
// - `inspect`, `doctor`: who holds what; is it set up safely
// - `borrowed`: locks in connections and transactions of the user's
mod ado;
mod backend;
mod borrowed;
mod calm;
mod connect;
mod doctor;
mod driver;
mod failure;
mod inspect;
mod names;
mod options;
mod permits;
mod request;
mod session;
mod socket;
mod statements;
#[cfg(test)]
mod testing;
mod tokens;
mod wire;

pub use backend::MsSqlBackend;
pub use borrowed::{Wait, lock_in, lock_on, unlock_on};
pub use names::resource_name;
pub use options::{MsSql, TlsMode};
pub use pilotman_session::SessionOptions;
pub use tiberius;
