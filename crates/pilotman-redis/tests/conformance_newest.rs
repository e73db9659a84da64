//! The conformance suite on one Redis of the newest version to be had.

mod suite;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::one("redis-newest").async_only())
}
