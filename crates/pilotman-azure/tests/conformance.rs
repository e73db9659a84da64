//! The conformance suite on Azurite with the account's key, and with names that never collide: the .NET library takes a backslash
//! for a slash.

mod shared;
mod suite;

use pilotman_conformance::LeaseCases;
use pilotman_core::NameRule;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(
        suite::azurite("azure", suite::By::SharedKey, NameRule::Strict).lease_cases(LeaseCases::Async),
    )
}
