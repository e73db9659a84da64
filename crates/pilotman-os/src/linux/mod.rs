//! Linux: a table that all processes have mapped, and one robust futex for each of them.

mod backend;
mod directory;
mod doctor;
mod dying;
mod entries;
mod failure;
mod fork;
mod hindrance;
mod inspect;
mod latch;
mod layout;
mod process;
mod robust;
mod shared;
mod slot;
mod table;
mod thread;
mod wait;
mod watch;

pub use backend::OsBackend;
