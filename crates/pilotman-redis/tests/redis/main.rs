//! What the Redis backend does when servers, networks and other programs misbehave; each test breaks a server of its own.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod cluster;
mod crashes;
mod doctor;
mod failover;
mod full;
mod hung;
mod incidents;
mod lost_replies;
mod others;
mod promotion;
mod shared;
mod tokens;
mod waiters;
