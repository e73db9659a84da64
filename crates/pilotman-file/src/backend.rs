//! The backend as the engine sees it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Holder, Holding, Inspection, LocalBackend, Outcome, Prepared, Released,
    Watch,
};
use pilotman_core::{Capabilities, Error, Fencing, LockOptions, LossReason, Result, Target, Waiting};

use crate::FileOptions;
use crate::directory;
use crate::failure::failed;
use crate::file::{LockFile, LockMode};
use crate::inspect;
use crate::names;
use crate::place::Place;
use crate::shared::Shared;
use crate::slot::{self, FileSlot};
use crate::watch::FileWatch;

/// Locks in files, for all processes that see the same directory.
pub struct FileBackend {
    shared: Arc<Shared>,
}

impl FileBackend {
    /// A backend with these options. Touches nothing: the directory is made when the first lock is taken.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](pilotman_core::ErrorKind::Misconfigured) if the directory is empty, contains a NUL, or is
    /// relative and there is no working directory.
    pub fn new(mut options: FileOptions) -> Result<Self> {
        let refuse = |message: String| Error::misconfigured(message).with_backend("file");
        let absolute = std::path::absolute(&options.directory).map_err(|error| {
            refuse(format!("'{}' can't be the lock directory", options.directory.display())).with_source(error)
        })?;
        // An absolute path can have a slash at its end or '.' within; names built from it must not.
        options.directory = absolute.components().collect();
        if options.directory.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(refuse("the path of the lock directory contains a NUL".into()));
        }
        Ok(Self { shared: Arc::new(Shared::new(options)) })
    }

    /// The options, with the directory as an absolute path.
    pub fn options(&self) -> &FileOptions {
        &self.shared.options
    }

    /// Makes a lock file of its own, locks it and removes it: what a lock needs.
    fn try_out(&self) -> Result<()> {
        let shared = &self.shared;
        let path = &shared.options.directory;
        let directory = directory::open_or_create(path, shared.trust)?;
        let place = Place::new(path, format!(".pilotman-check-{:016x}", shared.random()).into())?;
        let fail = |errno| failed("can't lock", &place.path, errno);
        let file: LockFile = crate::open::open_or_create(&place, shared.trust, Some("pilotman check\n"))?;
        let locked = file.try_lock(LockMode::Exclusive).map_err(fail);
        rustix::fs::unlinkat(&directory, &place.name, rustix::fs::AtFlags::empty()).map_err(fail)?;
        match locked? {
            true => Ok(()),
            false => Err(Error::misconfigured(format!("a new file in {} is locked already", path.display()))
                .with_advice("something locks all files there; use another directory")),
        }
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackend").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Backend for FileBackend {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = true;
        capabilities.writer_preference = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "As long as the counter's file beside the lock is kept; after a power failure only \
                                      with durable tokens.";
        capabilities.waiting = Waiting::Watch;
        capabilities.loss = true;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within = Duration::from_millis(250);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities
    }

    fn start(&self, environment: Environment) {
        self.shared.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(FileSlot::new(&self.shared, target, options)?))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        let options = &self.shared.options;
        let base = names::map(&options.directory, options.names, target.name.as_str())?;
        Ok(slot::place(&base, target.primitive)?.path.display().to_string())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.try_out() })
    }

    fn local(&self) -> Option<&dyn LocalBackend> {
        Some(self)
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move { LocalBackend::try_acquire(self, attempt) })
    }

    fn watch<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move {
            let slot = attempt.spec.prepared.clone().downcast::<FileSlot>().map_err(|_| foreign())?;
            Ok(Box::new(FileWatch::new(&self.shared, slot, attempt)?) as Box<dyn Watch>)
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let abandon = |attempt: &Attempt| attempt.spec.prepared::<FileSlot>().abandon(&self.shared, attempt.id);
            attempts.iter().map(abandon).collect()
        })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move { holds.iter().map(|hold| LocalBackend::release(self, hold)).collect() })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { LocalBackend::mint(self, hold) })
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        slot_of(hold).verify(hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        slot_of(hold).observe(&self.shared, hold);
    }

    fn descriptor(&self, hold: &Holding) -> Option<Arc<OwnedFd>> {
        slot_of(hold).descriptor(hold)
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move { inspect::inspect(&self.shared, target) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async move { inspect::list(&self.shared) })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move { inspect::force_release(&self.shared, target) })
    }
}

impl LocalBackend for FileBackend {
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome> {
        attempt.spec.prepared::<FileSlot>().try_acquire(&self.shared, attempt)
    }

    fn release(&self, hold: &Holding) -> Result<Released> {
        slot_of(hold).release(&self.shared, hold)
    }

    fn mint(&self, hold: &Holding) -> Result<u64> {
        slot_of(hold).mint(&self.shared)
    }
}

fn slot_of(hold: &Holding) -> &FileSlot {
    hold.attempt.spec.prepared()
}

fn foreign() -> Error {
    Error::new(pilotman_core::ErrorKind::Internal, "a spec was given to a backend that did not prepare it")
}
