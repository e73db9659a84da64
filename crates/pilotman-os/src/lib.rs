#![doc = include_str!("../os.md")]

#[cfg(any(target_os = "linux", windows))]
mod names;
mod options;
#[cfg(any(target_os = "linux", windows))]
mod panics;
#[cfg(any(target_os = "linux", windows))]
mod sync;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::OsBackend;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::OsBackend;

#[cfg(not(any(target_os = "linux", windows)))]
mod elsewhere;
#[cfg(not(any(target_os = "linux", windows)))]
pub use elsewhere::OsBackend;

pub use options::{OsOptions, Scope};
