//! The I/O thread of this process: it drives connections, waits, renewals and releases, whatever the caller's runtime
//! does or doesn't do.

use std::sync::OnceLock;

use tokio::runtime::Handle;

use crate::{Error, Result};

/// The runtime of the I/O thread, which starts with the first call and lives as long as the process.
pub(super) fn handle() -> Result<&'static Handle> {
    static HANDLE: OnceLock<std::result::Result<Handle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| start().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|error| Error::unavailable(format!("can't start the I/O thread: {error}")).no_effect(true))
}

fn start() -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("pilotman-io".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
