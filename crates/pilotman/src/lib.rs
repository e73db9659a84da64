#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use pilotman_core::{
    Capabilities, Error, ErrorKind, Fenced, FencedGuard, Fencing, Guard, Held, HoldState, LeaseBounds, Lock,
    LockOptions, LockProvider, LossReason, Lost, MultiGuard, Mutex, Name, NameRule, Primitive, Release, Result, RwLock,
    Semaphore, UpgradeableGuard, Waiting, backend, clock, memory, random,
};

#[cfg(feature = "azure")]
pub use pilotman_azure as azure;
#[cfg(feature = "file")]
pub use pilotman_file as file;
#[cfg(feature = "mssql")]
pub use pilotman_mssql as mssql;
#[cfg(feature = "mysql")]
pub use pilotman_mysql as mysql;
#[cfg(feature = "oracle")]
pub use pilotman_oracle as oracle;
#[cfg(feature = "os")]
pub use pilotman_os as os;
#[cfg(feature = "postgres")]
pub use pilotman_postgres as postgres;
#[cfg(feature = "redis")]
pub use pilotman_redis as redis;
#[cfg(feature = "zookeeper")]
pub use pilotman_zookeeper as zookeeper;

mod address;
mod backends;
pub mod blocking;
mod builder;
#[cfg(feature = "serde")]
mod config;
mod connection_string;
mod duration;
mod locks;
mod percent;
mod query;
mod scheme;
#[cfg(any(
    feature = "azure",
    feature = "mssql",
    feature = "mysql",
    feature = "oracle",
    feature = "postgres",
    feature = "redis",
    feature = "zookeeper"
))]
mod secret;

pub use backends::{BackendInfo, backends};
pub use builder::Builder;
#[cfg(feature = "serde")]
pub use config::Config;
pub use duration::{parse_duration, show_duration};
pub use locks::{BACKEND_VARIABLE, Locks};
