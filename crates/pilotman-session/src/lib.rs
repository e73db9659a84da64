//! Many holds on few sessions, for databases whose locks live on a session: what `pilotman-postgres` and its like share.
//!
//! A backend says by [`Driver`] and [`Session`] how a session is opened and what the server's statements are. [`Sessions`]
//! does the rest:
//!
//! - **Sessions of our own**, never from a pool that others use.
//! - **Many holds on one session.** An attempt that doesn't wait runs on a session that has holds already. One that waits
//!   runs only on a session that holds nothing, so that no release ever queues behind somebody's wait.
//! - **One task a session** runs its statements one after the other. A caller's future that is dropped changes nothing there:
//!   what it was granted is given back when the engine says so, in the order in which it was asked for.
//! - **Loss.** A session that ends is noticed on its socket, where the driver can watch it, and otherwise by a heartbeat with a
//!   deadline of its own; then all of its holds are lost at once.
//! - **What is not known is ended.** A session whose statement got no answer in time, or was stopped in vain, is closed, and the
//!   server is asked to end its side.
//!
//! | file | what it does |
//! |---|---|
//! | `driver` | what a database has to say |
//! | `options` | how many sessions, how long idle ones are kept, the heartbeat |
//! | `sessions` | what a backend calls: tries, waits and their bound, giving back |
//! | `shared` | all sessions: which is chosen, opening more |
//! | `opening` | sessions are opened one at a time |
//! | `line` | one session as the others see it |
//! | `task` | the task that runs a session's statements |
//! | `calm` | a driver that panics is an error |

#![forbid(unsafe_code)]

mod calm;
mod driver;
mod line;
mod opening;
mod options;
mod sessions;
mod shared;
mod task;

pub use calm::calmly;
pub use driver::{Attempted, Driver, Granted, Request, Session, Stop};
pub use options::SessionOptions;
pub use sessions::{SessionHold, Sessions};
