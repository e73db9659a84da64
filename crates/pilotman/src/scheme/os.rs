//! `os://`.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_os::{OsBackend, OsOptions, Scope};

use crate::address::Address;

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let nothing = matches!(address.url.host_str(), None | Some("")) && matches!(address.url.path(), "" | "/");
    if !nothing {
        return Err(Error::misconfigured("an os:// URL has neither host nor path: these are locks of this machine")
            .with_advice("write os://, and a directory as os://?directory=/dev/shm")
            .with_backend("os"));
    }
    let query = &mut address.query;
    let mut options = OsOptions::new();
    if let Some(names) = query.take_names("names")? {
        options = options.names(names);
    }
    if let Some(shared) = query.take_bool("shared")? {
        options = options.shared(shared);
    }
    if let Some(directory) = query.take("directory") {
        options = options.directory(directory);
    }
    if let Some(compatible) = query.take_bool("dotnet-compatible")? {
        options = options.dotnet_compatible(compatible);
    }
    if let Some(security) = query.take("security") {
        options = options.security(security);
    }
    match query.take("scope").as_deref() {
        None => {}
        Some("machine") => options = options.scope(Scope::Machine),
        Some("session") => options = options.scope(Scope::Session),
        Some(_) => return Err(Error::misconfigured("the option 'scope' must be machine or session").with_backend("os")),
    }
    Ok(Arc::new(OsBackend::new(options)?))
}
