//! The conformance suite on one Redis.

mod suite;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::one("redis"))
}
