//! Application locks as Microsoft documents them, without sockets, threads or time.
//!
//! [`Table`] keeps who holds and who waits. Whoever drives it decides how long to wait, and wakes the sessions that
//! [`Table::take_woken`] names.

mod deadlock;
mod key;
mod mode;
mod queue;
mod table;

pub use key::{Key, Owner};
pub use mode::Mode;
pub use table::{Asked, Held, NotHeld, Table, Ticket, Waiting};
