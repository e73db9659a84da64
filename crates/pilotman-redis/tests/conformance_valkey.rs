//! The conformance suite on one Valkey of the newest version to be had.

mod suite;

fn main() -> std::process::ExitCode {
    suite::run_one("valkey-newest")
}
