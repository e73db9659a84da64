#![doc = include_str!("../oracle.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`: which database, and how its locks are used
// - `backend`: Oracle Database as the engine sees it
// - `names`: how names become names of DBMS_LOCK
// - `request`: one lock as a session is asked for it
// - `connect`: opening sessions
// - `worker`: the thread of a session, since drivers block
// - `driver`: what is asked of a driver, and the two that there are
// - `session`: one session: trying, waiting in slices, upgrading, giving back
// - `control`: ending sessions that can't be reached any more
// - `tokens`: fencing tokens
// - `statements`: the PL/SQL, and how its answers are read
// - `failure`: what answers and errors mean
// - `inspect`, `doctor`: who holds what; is it set up safely
mod backend;
mod connect;
mod control;
mod doctor;
#[doc(hidden)]
pub mod driver;
mod failure;
mod inspect;
mod logins;
mod names;
mod options;
mod request;
mod session;
mod statements;
mod tokens;
mod worker;

pub use backend::OracleBackend;
pub use options::Oracle;
pub use pilotman_session::SessionOptions;
