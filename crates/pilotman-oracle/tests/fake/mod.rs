//! A database of the tests' own behind the trait of the drivers: it runs the blocks that a real one would be sent, and keeps locks
//! as the documentation of `DBMS_LOCK` says. It listens on the loopback, so that several processes can share it.

#![allow(dead_code, reason = "each test target uses a part of it")]

mod client;
mod locks;
mod plsql;
mod rights;
mod server;

#[allow(unused_imports, reason = "each test target uses a part of it")]
pub(crate) use client::FakeDriver;
#[allow(unused_imports, reason = "each test target uses a part of it")]
pub(crate) use locks::{
    DEADLOCK, Ended, ILLEGAL_HANDLE, Locks, MAXWAIT, OWNED, PARAMETER, SUCCESS, Seen, TIMEOUT, compatible,
};
#[allow(unused_imports, reason = "each test target uses a part of it")]
pub(crate) use rights::Rights;
#[allow(unused_imports, reason = "each test target uses a part of it")]
pub(crate) use server::{Database, Statement};
