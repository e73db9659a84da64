//! The readers' side of a reader-writer lock.

use std::sync::{Arc, Mutex};

use pilotman_core::backend::Released;
use pilotman_core::{Error, LossReason, Result};

use crate::directory::RACES;
use crate::failure::failed;
use crate::file::{LockFile, LockMode};
use crate::gate::Gate;
use crate::hold::OwnHold;
use crate::open;
use crate::place::Place;
use crate::shared::{Shared, lock};
use crate::waiters::Waiters;

/// So many descriptors are kept for later reads of the same lock.
const KEPT: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) place: Arc<Place>,
    pub(crate) key: u64,
    note: Option<String>,
    gate: Gate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Open, not locked.
    spare: Vec<Arc<LockFile>>,
    waiters: Option<Arc<Waiters>>,
}

impl Readers {
    pub(crate) fn new(place: Place, gate: Place, note: Option<String>) -> Self {
        let key = place.key();
        Self { place: Arc::new(place), key, note, gate: Gate::new(gate), state: Mutex::default() }
    }

    pub(crate) fn acquire(&self, shared: &Shared) -> Result<Option<OwnHold>> {
        Ok(self.gate.pass(shared, || self.lock_file(shared))?.flatten())
    }

    fn lock_file(&self, shared: &Shared) -> Result<Option<OwnHold>> {
        let fail = |errno| failed("can't lock", &self.place.path, errno);
        for _ in 0..RACES {
            let file = self.take_spare(shared)?;
            let locked = file.try_lock(LockMode::Shared).map_err(fail)?;
            if !file.is_in_place(&self.place.raw, shared.now(), !locked).map_err(fail)? {
                lock(&self.state).spare.clear();
                continue;
            }
            if locked {
                return Ok(Some(OwnHold::new(file, self.place.clone())));
            }
            self.keep(file);
            return Ok(None);
        }
        Err(Error::unavailable(format!("{} is replaced again and again", self.place.path.display())).no_effect(true))
    }

    fn take_spare(&self, shared: &Shared) -> Result<Arc<LockFile>> {
        if let Some(file) = lock(&self.state).spare.pop() {
            return Ok(file);
        }
        Ok(Arc::new(open::open_or_create(&self.place, shared.trust, self.note.as_deref())?))
    }

    fn keep(&self, file: Arc<LockFile>) {
        let mut state = lock(&self.state);
        if state.spare.len() < KEPT && file.is_private() {
            state.spare.push(file);
        }
    }

    fn waiters(&self, shared: &Shared) -> Arc<Waiters> {
        let mut state = lock(&self.state);
        match &state.waiters {
            Some(waiters) if waiters.is_current(shared.now()) => waiters.clone(),
            _ => state.waiters.insert(shared.waiters(&self.place.directory)).clone(),
        }
    }

    pub(crate) fn release(&self, shared: &Shared, hold: &OwnHold) -> Result<Released> {
        let lost = if hold.file.is_stale(shared.now()) { hold.verify() } else { None };
        if !hold.end() {
            return Ok(Released::Gone(LossReason::Gone));
        }
        hold.file.unlock().map_err(|errno| failed("can't unlock", &self.place.path, errno).no_effect(false))?;
        let others_wait = shared.unlocked(&hold.file, &self.waiters(shared), self.key);
        self.keep(hold.file.clone());
        Ok(lost.map_or(Released::Free { others_wait }, Released::Gone))
    }

    /// A descriptor of the file that attempts are made on, and the table of those who wait for it.
    pub(crate) fn current(&self, shared: &Shared) -> Result<(Arc<LockFile>, Arc<Waiters>)> {
        let file = self.take_spare(shared)?;
        self.keep(file.clone());
        Ok((file, self.waiters(shared)))
    }
}
