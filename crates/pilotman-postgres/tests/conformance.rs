//! The conformance suite on PostgreSQL 15, in sessions.

mod suite;

use pilotman_postgres::Scope;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("postgres", "postgres", Scope::Session))
}
