//! A semaphore: a directory with a lock file for each permit.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use pilotman_core::backend::Released;
use pilotman_core::{LossReason, Result};

use crate::directory;
use crate::failure::failed;
use crate::file::{LockFile, LockMode};
use crate::hold::OwnHold;
use crate::open;
use crate::place::Place;
use crate::shared::{Shared, lock};
use crate::waiters::Waiters;

/// So many descriptors of permits are kept. A semaphore of no more permits is searched without opening anything, and
/// closing what was opened is what wakes others.
pub(crate) const KEPT: usize = 64;
/// A larger semaphore is searched at random first, from its first permits to ever more of them, so that a mostly free
/// one makes few files.
const FIRST_WINDOW: u32 = 16;
const PROBES: u32 = 4;

#[derive(Debug)]
pub(crate) struct Permits {
    /// The directory of the permits.
    pub(crate) place: Place,
    pub(crate) key: u64,
    count: u32,
    note: Option<String>,
    /// What this process holds through this slot; not worth a try.
    ours: Arc<Mutex<HashSet<u32>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Open, not locked by us.
    spare: Vec<(u32, Arc<LockFile>)>,
    waiters: Option<Arc<Waiters>>,
}

impl Permits {
    pub(crate) fn new(place: Place, count: u32, note: Option<String>) -> Self {
        Self { key: place.key(), place, count, note, ours: Arc::default(), state: Mutex::default() }
    }

    /// Whether every permit's descriptor is kept, so that searching closes nothing.
    pub(crate) fn is_small(&self) -> bool {
        self.count as usize <= KEPT
    }

    pub(crate) fn acquire(&self, shared: &Shared) -> Result<Option<OwnHold>> {
        let state = &mut *lock(&self.state);
        if let Some(hold) = self.try_spare(state, shared)? {
            return Ok(Some(hold));
        }
        if !self.is_small() {
            let mut window = FIRST_WINDOW.min(self.count);
            loop {
                for _ in 0..PROBES {
                    let index = (shared.random() % u64::from(window)) as u32;
                    if let Some(hold) = self.try_index(state, shared, index)? {
                        return Ok(Some(hold));
                    }
                }
                if window == self.count {
                    break;
                }
                window = window.saturating_mul(4).min(self.count);
            }
        }
        // It is full only if each permit is taken.
        let start = (shared.random() % u64::from(self.count)) as u32;
        for index in (start..self.count).chain(0..start) {
            if let Some(hold) = self.try_index(state, shared, index)? {
                return Ok(Some(hold));
            }
        }
        Ok(None)
    }

    fn try_spare(&self, state: &mut State, shared: &Shared) -> Result<Option<OwnHold>> {
        let mut at = 0;
        while at < state.spare.len() {
            let (index, file) = state.spare[at].clone();
            if self.try_lock(&file)? {
                state.spare.swap_remove(at);
                let place = self.permit(index)?;
                let in_place = file.is_in_place(&place.raw, shared.now(), false);
                if in_place.map_err(|errno| failed("can't look at", &place.path, errno))? {
                    return Ok(Some(OwnHold::permit(file, place, index, &self.ours)));
                }
                continue;
            }
            // Held by others, unless its file was removed: then there is a new one by this number.
            let in_place = file.is_in_place(&self.permit(index)?.raw, shared.now(), false);
            if in_place.map_err(|errno| failed("can't look at", &self.place.path, errno))? {
                at += 1;
            } else {
                state.spare.swap_remove(at);
            }
        }
        // The next attempt begins elsewhere, so that not everybody is after the same permits.
        if !state.spare.is_empty() {
            let by = shared.random() as usize % state.spare.len();
            state.spare.rotate_left(by);
        }
        Ok(None)
    }

    fn try_index(&self, state: &mut State, shared: &Shared, index: u32) -> Result<Option<OwnHold>> {
        if lock(&self.ours).contains(&index) || state.spare.iter().any(|(kept, _)| *kept == index) {
            return Ok(None);
        }
        for _ in 0..directory::RACES {
            let place = self.permit(index)?;
            // The directory above must be one to be trusted, too.
            directory::open_or_create(&self.place.directory, shared.trust)?;
            let file = Arc::new(open::open_or_create(&place, shared.trust, self.note.as_deref())?);
            let locked = self.try_lock(&file)?;
            if !file
                .is_in_place(&place.raw, shared.now(), true)
                .map_err(|errno| failed("can't look at", &place.path, errno))?
            {
                continue;
            }
            if locked {
                return Ok(Some(OwnHold::permit(file, place, index, &self.ours)));
            }
            if state.spare.len() < KEPT {
                state.spare.push((index, file));
            }
            break;
        }
        Ok(None)
    }

    fn try_lock(&self, file: &LockFile) -> Result<bool> {
        file.try_lock(LockMode::Exclusive).map_err(|errno| failed("can't lock a permit in", &self.place.path, errno))
    }

    /// The lock file of a permit.
    pub(crate) fn permit(&self, index: u32) -> Result<Place> {
        Place::new(&self.place.path, index.to_string().into())
    }

    pub(crate) fn release(&self, shared: &Shared, hold: &OwnHold) -> Result<Released> {
        let lost = if hold.file.is_stale(shared.now()) { hold.verify() } else { None };
        if !hold.end() {
            return Ok(Released::Gone(LossReason::Gone));
        }
        let state = &mut *lock(&self.state);
        hold.file.unlock().map_err(|errno| failed("can't unlock", &hold.place.path, errno).no_effect(false))?;
        let waiters = match &state.waiters {
            Some(waiters) if waiters.is_current(shared.now()) => waiters.clone(),
            _ => state.waiters.insert(shared.waiters(&self.place.directory)).clone(),
        };
        let others_wait = shared.unlocked(&hold.file, &waiters, self.key);
        if state.spare.len() < KEPT && hold.file.is_private() && lost.is_none() {
            state.spare.push((hold.index, hold.file.clone()));
        }
        Ok(lost.map_or(Released::Free { others_wait }, Released::Gone))
    }

    /// The directory, to be watched, and the table of those who wait.
    pub(crate) fn current(&self, shared: &Shared) -> Result<(OwnedFd, Arc<Waiters>)> {
        directory::open_or_create(&self.place.directory, shared.trust)?;
        let directory = directory::open_or_create(&self.place.path, shared.trust)?;
        let waiters = shared.waiters(&self.place.directory);
        lock(&self.state).waiters = Some(waiters.clone());
        Ok((directory, waiters))
    }
}
