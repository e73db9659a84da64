//! What the MySQL backend does when servers, networks and other sessions misbehave, and what its names mean to the servers.
#![cfg(target_os = "linux")]

mod bad_input;
mod common;
mod dotnet;
mod dropped;
mod faults;
mod loss;
mod names;
mod prototypes;
mod regressions;
mod tokens;
mod waits;
