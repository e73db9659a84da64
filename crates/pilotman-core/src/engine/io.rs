//! The I/O thread of this process: it drives connections, waits, renewals and releases, whatever the caller's runtime
//! does or doesn't do.

use std::sync::Mutex;

use tokio::runtime::Handle;

use crate::sync::lock;
use crate::{Error, Result};

/// The runtime of the I/O thread, which starts with the first call and lives as long as the process.
pub(super) fn handle() -> Result<Handle> {
    static HANDLE: Mutex<Option<(u32, Handle)>> = Mutex::new(None);
    let generation = crate::fork::generation();
    let mut current = lock(&HANDLE);
    if let Some((made_in, handle)) = &*current
        && *made_in == generation
    {
        return Ok(handle.clone());
    }
    // Not remembered: what the system refuses now it may grant later.
    let handle =
        start().map_err(|error| Error::unavailable("can't start the I/O thread").with_source(error).no_effect(true))?;
    // In a forked child, the parent's runtime is not there to be taken down.
    std::mem::forget(current.replace((generation, handle.clone())));
    Ok(handle)
}

fn start() -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("pilotman-io".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
