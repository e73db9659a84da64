//! The conformance suite on MariaDB 10.11, with the names of the .NET library.

mod suite;

use pilotman_core::NameRule;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("mariadb", "mariadb", NameRule::DotNet))
}
