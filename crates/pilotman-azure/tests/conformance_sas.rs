//! The conformance suite on Azurite with a shared access signature.

mod suite;

use pilotman_core::NameRule;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::azurite("azure-sas", suite::By::Sas, NameRule::Strict).async_only())
}
