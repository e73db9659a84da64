//! The conformance suite on one Redis.

mod suite;

fn main() -> std::process::ExitCode {
    suite::run_one("redis")
}
