//! What all locks of one backend have in common.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use pilotman_core::backend::Environment;
use pilotman_core::clock::{Clock, SystemClock};
use pilotman_core::random::{Random, SystemRandom};
use pilotman_core::{Error, Result};

use super::process::{Process, now};
use super::table::Place;
use crate::OsOptions;
use crate::options::Scope;
use crate::sync::lock;

/// Where the table is unless the options say otherwise.
const DIRECTORY: &str = "/dev/shm";

pub(crate) struct Shared {
    pub(crate) options: OsOptions,
    pub(crate) place: Place,
    environment: OnceLock<Environment>,
    /// The table in use last, and before it those that were replaced and that holds are still in.
    joined: Mutex<Vec<Arc<Process>>>,
}

impl Shared {
    pub(crate) fn new(options: OsOptions) -> Result<Self> {
        let refuse = |what: &str| {
            Err(Error::misconfigured(format!("{what} is for Windows"))
                .with_backend("os")
                .with_advice("leave it out on this system"))
        };
        if options.dotnet_compatible {
            return refuse("dotnet_compatible");
        }
        if options.security.is_some() {
            return refuse("a security descriptor");
        }
        if options.scope != Scope::Machine {
            return refuse("a scope");
        }
        let directory = options.directory.as_deref().unwrap_or(Path::new(DIRECTORY));
        let place = Place::new(directory, options.shared).map_err(|error| error.with_backend("os"))?;
        Ok(Self { options, place, environment: OnceLock::new(), joined: Mutex::default() })
    }

    pub(crate) fn start(&self, environment: Environment) {
        if self.environment.set(environment).is_err() {
            tracing::warn!("an os backend was started twice; it stays with its first environment");
        }
    }

    pub(crate) fn environment(&self) -> Option<&Environment> {
        self.environment.get()
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.environment.get().map_or_else(|| Arc::new(SystemClock::new()) as _, |known| known.clock.clone())
    }

    pub(crate) fn random(&self) -> u64 {
        self.environment.get().map_or_else(|| SystemRandom::new().next(), |known| known.random.next())
    }

    /// This process in the table that everybody finds now.
    pub(crate) fn current(&self) -> Result<Arc<Process>> {
        let mut joined = lock(&self.joined);
        if let Some(last) = joined.last().filter(|last| last.is_here() && last.is_current(now())) {
            return Ok(last.clone());
        }
        joined.retain(|process| process.is_here() && process.is_used());
        let process = Process::join(&self.place)?;
        joined.push(process.clone());
        Ok(process)
    }

    /// Calls `work` with each table that holds may be in, the newest first, until it returns something.
    pub(crate) fn find<T>(&self, mut work: impl FnMut(&Process) -> Result<Option<T>>) -> Result<Option<T>> {
        let (last, others) = {
            let joined = lock(&self.joined);
            let mut here = joined.iter().rev().filter(|process| process.is_here());
            let last = here.next().cloned();
            // Hardly ever any: no allocation then.
            (last, here.cloned().collect::<Vec<_>>())
        };
        // One that can't be looked at now doesn't hide what is in another.
        let mut failed = None;
        for process in last.into_iter().chain(others) {
            match work(&process) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The table as it is, without joining it; `None` if there is none.
    pub(crate) fn existing(&self) -> Result<Option<Arc<Process>>> {
        if matches!(rustix::fs::lstat(&self.place.path), Err(rustix::io::Errno::NOENT)) {
            return Ok(None);
        }
        self.current().map(Some)
    }
}
