#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builtin;
mod connection;
pub mod database;
pub mod dbms_lock;
mod faults;
mod message;
mod packet;
mod password;
mod plsql;
mod server;
mod ttc;

pub use builtin::{Builtin, Privilege};
pub use faults::{Fault, Reply};
pub use server::{Session, Settings, StandIn};
