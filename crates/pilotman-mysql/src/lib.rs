#![doc = include_str!("../mysql.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`: which servers, and how their locks are used
// - `backend`: MySQL and MariaDB as the engine sees them
// - `names`: how names become names of the server
// - `request`: one lock as a session is asked for it
// - `connect`, `tls`: opening sessions; what stands in the way of safe ones
// - `control`: connections that end statements and sessions of others
// - `session`: one session: trying, waiting, stopping, giving back
// - `tokens`: fencing tokens
// - `statements`: the SQL, and how its answers are read
// - `failure`, `calm`: what errors mean; panics of the driver are errors too
// - `inspect`, `doctor`: who holds what; is it set up safely
mod backend;
mod calm;
mod connect;
mod control;
mod doctor;
mod failure;
mod inspect;
mod names;
mod options;
mod request;
mod session;
mod statements;
mod tls;
mod tokens;

pub use backend::MySqlBackend;
pub use mysql_async;
pub use options::{MySql, TlsMode};
pub use pilotman_session::SessionOptions;
