//! `file:///DIRECTORY`.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_file::{FileBackend, FileOptions};

use crate::address::Address;

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let local = matches!(address.url.host_str(), None | Some("" | "localhost"));
    let directory = address.url.to_file_path().ok().filter(|_| local).ok_or_else(|| {
        Error::misconfigured("a file:// URL names a directory of this machine by its full path")
            .with_advice("write three slashes: file:///var/lib/myjob/locks")
            .with_backend("file")
    })?;
    let query = &mut address.query;
    let mut options = FileOptions::new(directory);
    if let Some(names) = query.take_names("names")? {
        options = options.names(names);
    }
    if let Some(shared) = query.take_bool("shared")? {
        options = options.shared(shared);
    }
    if let Some(record) = query.take_bool("record-holder")? {
        options = options.record_holder(record);
    }
    if let Some(command) = query.take("holder-command") {
        options = options.holder_command(command);
    }
    if let Some(durable) = query.take_bool("durable-tokens")? {
        options = options.durable_tokens(durable);
    }
    Ok(Arc::new(FileBackend::new(options)?))
}
