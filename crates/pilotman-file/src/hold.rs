//! A hold that has an open file description of its own, because several can exist side by side.

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
    released: AtomicBool,
    observer: Mutex<Option<Subscription>>,
}

impl OwnHold {
    pub(crate) fn new(file: Arc<LockFile>, place: Arc<Place>, index: u32) -> Self {
        Self { file, place, index, released: AtomicBool::new(false), observer: Mutex::default() }
    }

    /// Says whether it was still held, the first time; then it is not.
    pub(crate) fn end(&self) -> bool {
        *lock(&self.observer) = None;
        !self.released.swap(true, Ordering::AcqRel)
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
