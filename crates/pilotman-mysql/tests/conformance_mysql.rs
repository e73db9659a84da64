//! The conformance suite on MySQL 9, with names that never collide: MySQL itself takes some names as the same that the .NET
//! library leaves as they are.

mod suite;

use pilotman_core::NameRule;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("mysql", "mysql", NameRule::Strict).async_only())
}
