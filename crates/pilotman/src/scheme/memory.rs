//! `memory://` (a space of its own) and `memory://NAME` (shared by the process).

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{Error, Result};

use crate::address::Address;

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let path = address.url.path().trim_matches('/');
    if !path.is_empty() || !address.url.username().is_empty() || address.url.password().is_some() {
        return Err(Error::misconfigured("a memory:// URL has nothing but a name").with_advice("write memory://name"));
    }
    Ok(Arc::new(match address.url.host_str() {
        None | Some("") => MemoryBackend::new(),
        Some(name) => MemoryBackend::shared(name),
    }))
}
