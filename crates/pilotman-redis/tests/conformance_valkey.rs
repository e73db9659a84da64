//! The conformance suite on one Valkey of the newest version to be had.

mod suite;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::one("valkey-newest").async_only())
}
