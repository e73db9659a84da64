//! What stands for the backend on systems that it is not written for.

use std::sync::Arc;

use pilotman_core::backend::{Attempt, Backend, BoxFuture, Holding, Outcome, Prepared, Released};
use pilotman_core::{Capabilities, Error, LockOptions, Result, Target};

use crate::OsOptions;

/// The os backend, which does not exist on this system: [`OsBackend::new`] says so.
#[derive(Debug)]
pub struct OsBackend(Never);

#[derive(Debug)]
enum Never {}

impl OsBackend {
    /// Always fails on this system.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](pilotman_core::ErrorKind::Unsupported).
    pub fn new(_options: OsOptions) -> Result<Self> {
        Err(Error::unsupported("locks of the operating system are for Linux and Windows")
            .with_backend("os")
            .with_advice("use the file backend, whose locks the kernel keeps here too"))
    }

    /// The options.
    pub fn options(&self) -> &OsOptions {
        match self.0 {}
    }
}

impl Backend for OsBackend {
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
