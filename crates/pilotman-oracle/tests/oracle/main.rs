//! What the conformance suite doesn't ask: the tests' own database, hard faults, bad input, and what stands in the page.

#[path = "../fake/mod.rs"]
mod fake;

mod bad_input;
mod common;
mod doctor;
mod dotnet;
mod dropped;
mod faults;
mod loss;
mod matrix;
mod rw;
#[cfg(feature = "thin")]
mod stand_in;
mod table;
mod tokens;
mod waits;
