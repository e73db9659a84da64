//! A hold that has an open file description of its own, because several can exist side by side.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pilotman_core::LossReason;
use pilotman_core::backend::AttemptId;

use crate::events::Subscription;
use crate::file::LockFile;
use crate::place::Place;
use crate::shared::{Shared, lock, loss};

/// A read or a permit. If it is dropped without having been released, its file is closed, which unlocks it.
#[derive(Debug)]
pub(crate) struct OwnHold {
    pub(crate) file: Arc<LockFile>,
    pub(crate) place: Arc<Place>,
    /// Which permit it is.
    pub(crate) index: u32,
    /// The permits that this process holds, where this one stands too.
    ours: Option<Arc<Mutex<HashSet<u32>>>>,
    released: AtomicBool,
    observer: Mutex<Option<Subscription>>,
}

impl OwnHold {
    pub(crate) fn new(file: Arc<LockFile>, place: Arc<Place>) -> Self {
        Self::make(file, place, 0, None)
    }

    pub(crate) fn permit(file: Arc<LockFile>, place: Place, index: u32, ours: &Arc<Mutex<HashSet<u32>>>) -> Self {
        lock(ours).insert(index);
        Self::make(file, Arc::new(place), index, Some(ours.clone()))
    }

    fn make(file: Arc<LockFile>, place: Arc<Place>, index: u32, ours: Option<Arc<Mutex<HashSet<u32>>>>) -> Self {
        Self { file, place, index, ours, released: AtomicBool::new(false), observer: Mutex::default() }
    }

    /// Says whether it was still held, the first time; then it is not.
    pub(crate) fn end(&self) -> bool {
        *lock(&self.observer) = None;
        let ended = !self.released.swap(true, Ordering::AcqRel);
        if let Some(ours) = self.ours.as_ref().filter(|_| ended) {
            lock(ours).remove(&self.index);
        }
        ended
    }

    fn is_held(&self) -> bool {
        !self.released.load(Ordering::Acquire)
    }

    pub(crate) fn verify(&self) -> Option<LossReason> {
        if self.is_held() { loss(self.file.id, &self.place.raw) } else { None }
    }

    pub(crate) fn observe(&self, shared: &Shared, id: AttemptId) {
        if !self.is_held() {
            return;
        }
        let subscription = shared.observe(id, &self.file, &self.place);
        let mut observer = lock(&self.observer);
        if self.is_held() {
            *observer = subscription;
        }
    }

    pub(crate) fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.is_held().then(|| self.file.give_out())
    }
}

impl Drop for OwnHold {
    fn drop(&mut self) {
        self.end();
    }
}
