//! What a quorum of nodes does when nodes, networks, clocks and programs misbehave; each test breaks nodes of its own.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of one node")]
mod common;
mod history;
mod quorum;

mod bad_input;
mod checklist;
mod defects;
mod faults;
mod parity;
mod regressions;
