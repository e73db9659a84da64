//! Locks of our own on the server.

use std::sync::Arc;

use pilotman_bench::Failure;
use pilotman_core::Locks;
use pilotman_postgres::{Postgres, PostgresBackend};
use pilotman_testkit::servers::postgres::{DATABASE, LOCKER, PASSWORD};

/// Locks with connections of their own, and how many these are.
pub(crate) async fn locks(port: u16) -> Result<(Locks, impl Fn() -> usize + Send), Failure> {
    let options = Postgres::host(format!("127.0.0.1:{port}"))?.user(LOCKER).password(PASSWORD).database(DATABASE);
    let backend = Arc::new(PostgresBackend::new(options)?);
    let locks = Locks::builder_shared(backend.clone()).runtime(tokio::runtime::Handle::current()).build();
    locks.check().await?;
    Ok((locks, move || backend.open_sessions()))
}
