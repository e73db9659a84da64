#![doc = include_str!("../README.md")]

#[cfg(unix)]
mod names;
mod options;

#[cfg(unix)]
mod backend;
#[cfg(not(unix))]
#[path = "elsewhere.rs"]
mod backend;
#[cfg(unix)]
mod directory;
#[cfg(unix)]
mod exclusive;
#[cfg(unix)]
mod failure;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod gate;
#[cfg(unix)]
mod hold;
#[cfg(unix)]
mod inspect;
#[cfg(unix)]
mod open;
#[cfg(unix)]
mod owner;
#[cfg(unix)]
mod place;
#[cfg(target_os = "linux")]
mod proc_locks;
#[cfg(unix)]
mod read;
#[cfg(unix)]
mod semaphore;
#[cfg(unix)]
mod shared;
#[cfg(unix)]
mod slot;
#[cfg(unix)]
mod token;
#[cfg(unix)]
mod watch;

// Elsewhere nobody tells of file events, and waiting is polling.
#[cfg(target_os = "linux")]
#[path = "events/inotify.rs"]
mod events;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "events/none.rs"]
mod events;

#[cfg(target_os = "linux")]
#[path = "waiters/mapped.rs"]
mod waiters;
#[cfg(all(unix, not(target_os = "linux")))]
#[path = "waiters/none.rs"]
mod waiters;

pub use backend::FileBackend;
pub use options::FileOptions;
