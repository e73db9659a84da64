//! What users hold in their hands: locks and guards.

mod all;
mod fenced;
mod guard;
mod lock;
mod run;
mod rw_lock;

pub use all::MultiGuard;
pub(crate) use all::acquire_all;
pub use fenced::{Fenced, FencedGuard};
pub use guard::{Guard, Held, HoldState, Lost, Release};
pub use lock::{Lock, Mutex, Semaphore};
pub use rw_lock::{RwLock, UpgradeableGuard};
