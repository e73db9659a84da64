//! What Azure Blob Storage has of its own, on Azurite.
#![cfg(target_os = "linux")]

mod access;
mod bad_input;
mod common;
mod dotnet;
mod faults;
mod front;
mod leases;
#[path = "../shared/mod.rs"]
mod shared;
mod tokens;
