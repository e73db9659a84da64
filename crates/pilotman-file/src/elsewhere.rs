//! What stands for the backend on systems that have no `flock`.

use pilotman_core::backend::{Attempt, Backend, BoxFuture, Holding, Outcome, Prepared, Released};
use pilotman_core::{Capabilities, Error, LockOptions, Result, Target};
use std::sync::Arc;

use crate::FileOptions;

/// The file backend, which does not exist on this system: [`FileBackend::new`] says so.
#[derive(Debug)]
pub struct FileBackend(Never);

#[derive(Debug)]
enum Never {}

impl FileBackend {
    /// Always fails on this system.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](pilotman_core::ErrorKind::Unsupported).
    pub fn new(_options: FileOptions) -> Result<Self> {
        Err(Error::unsupported("file locks need flock, which this system does not have")
            .with_backend("file")
            .with_advice("use another backend"))
    }
}

impl Backend for FileBackend {
    fn kind(&self) -> &'static str {
        match self.0 {}
    }

    fn capabilities(&self) -> Capabilities {
        match self.0 {}
    }

    fn prepare(&self, _: &Target, _: &LockOptions) -> Result<Prepared> {
        match self.0 {}
    }

    fn physical_name(&self, _: &Target) -> Result<String> {
        match self.0 {}
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        match self.0 {}
    }

    fn try_acquire<'a>(&'a self, _: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        match self.0 {}
    }

    fn abandon<'a>(&'a self, _: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        match self.0 {}
    }

    fn release<'a>(&'a self, _: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        match self.0 {}
    }
}
