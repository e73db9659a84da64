//! Locks of our own on the server.

use std::sync::Arc;

use pilotman_bench::Failure;
use pilotman_core::Locks;
use pilotman_mysql::{MySql, MySqlBackend};
use pilotman_testkit::servers::mysql::{DATABASE, LOCKER, PASSWORD};
use tokio::runtime::Handle;

/// Locks with connections of their own, and how many these are. They live on this runtime, or on the library's own thread.
pub(crate) async fn locks(
    port: u16,
    runtime: Option<Handle>,
) -> Result<(Locks, impl Fn() -> usize + Send + use<>), Failure> {
    let options = MySql::host(format!("127.0.0.1:{port}"))?.user(LOCKER).password(PASSWORD).database(DATABASE);
    let backend = Arc::new(MySqlBackend::new(options)?);
    let builder = Locks::builder_shared(backend.clone());
    let locks = match runtime {
        Some(runtime) => builder.runtime(runtime).build(),
        None => builder.build(),
    };
    locks.check().await?;
    Ok((locks, move || backend.open_sessions()))
}
