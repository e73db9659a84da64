#![doc = include_str!("../postgres.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`: which database, and how its locks are used
// - `backend`: PostgreSQL as the engine sees it
// - `key`: the numbers of advisory locks, and how names become them
// - `request`: one lock as a session is asked for it
// - `connect`, `wire`, `tls`: opening sessions; what stands in the way of safe ones
// - `session`: one session: trying, waiting, cancelling, giving back
// - `permits`: semaphores
// - `statements`: the SQL
// - `failure`: what errors mean
// - `inspect`, `doctor`: who holds what; is it set up safely
// - `borrowed`: locks in connections and transactions of the user's
mod backend;
mod borrowed;
mod connect;
mod doctor;
mod failure;
mod inspect;
mod key;
mod options;
mod permits;
mod request;
mod session;
mod statements;
mod tls;
mod wire;

pub use backend::PostgresBackend;
pub use borrowed::{Wait, lock_in, lock_on, unlock_on};
pub use key::PostgresKey;
pub use options::{Postgres, Scope, TlsMode};
pub use pilotman_session::SessionOptions;
pub use tokio_postgres;
