//! What the ZooKeeper backend does when servers, networks and other programs misbehave; tests that break a server have one
//! of their own.
#![cfg(target_os = "linux")]

mod bad_input;
mod common;
mod doctor;
mod dotnet;
mod ensemble;
mod faults;
mod hand_off;
mod history;
mod lost_replies;
mod others;
mod stopped;
mod sweep;
