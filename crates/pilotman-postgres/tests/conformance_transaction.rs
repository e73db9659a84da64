//! The conformance suite on PostgreSQL 15, with a transaction for each hold.

mod suite;

use pilotman_postgres::Scope;

fn main() -> std::process::ExitCode {
    pilotman_conformance::main(suite::server("postgres-transaction", "postgres", Scope::Transaction).async_only())
}
