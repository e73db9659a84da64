//! The conformance suite through a PgBouncer that gives transactions to servers, with a transaction for each hold.

mod suite;

use pilotman_postgres::Scope;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("pgbouncer", "pgbouncer", Scope::Transaction).async_only())
}
