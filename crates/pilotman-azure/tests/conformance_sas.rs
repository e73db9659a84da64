//! The conformance suite on Azurite with a shared access signature.

mod shared;
mod suite;

use pilotman_conformance::LeaseCases;
use pilotman_core::NameRule;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(
        suite::azurite("azure-sas", suite::By::Sas, NameRule::Strict).lease_cases(LeaseCases::None).async_only(),
    )
}
