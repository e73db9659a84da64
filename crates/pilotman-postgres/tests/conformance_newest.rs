//! The conformance suite on the newest PostgreSQL that can be installed, in sessions.

mod suite;

use pilotman_postgres::Scope;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("postgres-newest", "postgres-newest", Scope::Session).async_only())
}
