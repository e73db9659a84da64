//! What all locks of one backend have in common.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pilotman_core::LossReason;
use pilotman_core::backend::{AttemptId, Environment};
use pilotman_core::clock::{Clock, SystemClock, Time};
use pilotman_core::random::{Random, SystemRandom};

use crate::FileOptions;
use crate::directory::Trust;
use crate::events::{Interest, Subscription, subscribe};
use crate::file::{FileId, LockFile};
use crate::place::Place;
use crate::waiters::{Seen, Waiters};

/// Where it can't be told whether others wait, every so many releases they are taken to do.
const BLIND_TURNS: u32 = 16;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: FileOptions,
    pub(crate) trust: Trust,
    environment: OnceLock<Environment>,
    waiters: Mutex<HashMap<PathBuf, Arc<Waiters>>>,
    blind: AtomicU32,
}

impl Shared {
    pub(crate) fn new(options: FileOptions) -> Self {
        let trust = Trust { shared: options.shared, user: rustix::process::geteuid().as_raw() };
        Self { options, trust, environment: OnceLock::new(), waiters: Mutex::default(), blind: AtomicU32::new(0) }
    }

    pub(crate) fn start(&self, environment: Environment) {
        if self.environment.set(environment).is_err() {
            tracing::warn!("a file backend was started twice; it stays with its first environment");
        }
    }

    pub(crate) fn now(&self) -> Time {
        match self.environment.get() {
            Some(environment) => environment.clock.now(),
            None => SystemClock::new().now(),
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.environment
            .get()
            .map_or_else(|| Arc::new(SystemClock::new()) as _, |environment| environment.clock.clone())
    }

    pub(crate) fn random(&self) -> u64 {
        self.environment.get().map_or_else(|| SystemRandom::new().next(), |environment| environment.random.next())
    }

    /// The table of waiters of a directory.
    pub(crate) fn waiters(&self, directory: &Path) -> Arc<Waiters> {
        let now = self.now();
        let mut waiters = lock(&self.waiters);
        if let Some(known) = waiters.get(directory).filter(|known| known.is_current(now)) {
            return known.clone();
        }
        let opened = Arc::new(Waiters::open(directory, self.trust));
        waiters.insert(directory.to_owned(), opened.clone());
        opened
    }

    /// To be called when `file` has been unlocked: wakes those who wait for `key`, and tells whether there are any.
    pub(crate) fn unlocked(&self, file: &LockFile, waiters: &Waiters, key: u64) -> bool {
        match waiters.take(key) {
            Seen::Nobody => false,
            Seen::Somebody => {
                file.nudge();
                true
            }
            Seen::Unknown => {
                file.nudge();
                self.blind.fetch_add(1, Ordering::Relaxed) % BLIND_TURNS == BLIND_TURNS - 1
            }
        }
    }

    /// Has the loss of a hold told when its file is no longer the one at its place.
    pub(crate) fn observe(&self, id: AttemptId, file: &LockFile, place: &Place) -> Option<Subscription> {
        let events = self.environment.get()?.events.clone();
        observe(file, place, move |reason| events.lost(id, reason))
    }
}

/// Calls `lost` when `file` is no longer the one at its place, and perhaps again later.
pub(crate) fn observe(
    file: &LockFile,
    place: &Place,
    lost: impl Fn(LossReason) + Send + Sync + 'static,
) -> Option<Subscription> {
    let (id, path) = (file.id, place.raw.clone());
    let look = Arc::new(move || {
        if let Some(reason) = loss(id, &path) {
            lost(reason);
        }
    });
    let listener = look.clone();
    let subscription = match subscribe(file.fd(), Interest::Loss, Arc::new(move |_| listener())) {
        Ok(subscription) => Some(subscription),
        Err(errno) => {
            tracing::debug!(%errno, "a lock file can't be watched; its loss is noticed when the guard is asked");
            None
        }
    };
    // What happened before the watch was there is not told by it.
    look();
    subscription
}

/// Whether the hold on a file is worth nothing any more.
pub(crate) fn loss(id: FileId, path: &std::ffi::CStr) -> Option<LossReason> {
    match id.is_at(path) {
        Ok(true) => None,
        Ok(false) => Some(LossReason::Replaced),
        Err(errno) => {
            tracing::debug!(%errno, "a lock file can't be looked at");
            None
        }
    }
}

/// A panic elsewhere leaves nothing here half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
