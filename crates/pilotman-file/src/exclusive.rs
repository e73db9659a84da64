//! A file that one holder locks: a mutex, or the writer's side of a reader-writer lock.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use pilotman_core::backend::{AttemptId, Released};
use pilotman_core::{Error, LossReason, Result};
use rustix::io::Errno;

use crate::directory::RACES;
use crate::events::Subscription;
use crate::failure::failed;
use crate::file::{LockFile, LockMode};
use crate::open;
use crate::place::Place;
use crate::shared::{Shared, lock, loss};
use crate::waiters::Waiters;

/// One open file description, kept from attempt to attempt and from hold to hold.
#[derive(Debug)]
pub(crate) struct Exclusive {
    pub(crate) place: Place,
    pub(crate) key: u64,
    note: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: Option<Open>,
    holder: Option<AttemptId>,
    /// Whether to look at the path at the next attempt even if that was just done.
    doubt: bool,
    observer: Option<Subscription>,
}

#[derive(Debug)]
struct Open {
    file: Arc<LockFile>,
    waiters: Arc<Waiters>,
}

impl Exclusive {
    pub(crate) fn new(place: Place, note: Option<String>) -> Self {
        let state = State { open: None, holder: None, doubt: false, observer: None };
        Self { key: place.key(), place, note, state: Mutex::new(state) }
    }

    /// Makes one attempt.
    pub(crate) fn acquire(&self, shared: &Shared, id: AttemptId) -> Result<bool> {
        let fail = |errno: Errno| failed("can't lock", &self.place.path, errno);
        let state = &mut *lock(&self.state);
        if state.holder.is_some() {
            return Ok(false);
        }
        for _ in 0..RACES {
            let open = match &state.open {
                Some(open) => open,
                None => {
                    let file = open::open_or_create(&self.place, shared.trust, self.note.as_deref())?;
                    let waiters = shared.waiters(&self.place.directory);
                    state.open.insert(Open { file: Arc::new(file), waiters })
                }
            };
            let file = &*open.file;
            let locked = file.try_lock(LockMode::Exclusive).map_err(fail)?;
            let doubt = !locked || std::mem::take(&mut state.doubt);
            match file.is_in_place(&self.place.raw, shared.now(), doubt) {
                Ok(true) => {
                    state.holder = locked.then_some(id);
                    return Ok(locked);
                }
                Ok(false) => state.open = None,
                Err(errno) => {
                    // Closing the file unlocks it.
                    state.open = None;
                    return Err(fail(errno));
                }
            }
        }
        Err(Error::unavailable(format!("{} is replaced again and again", self.place.path.display())).no_effect(true))
    }

    /// Ends the hold of this id.
    pub(crate) fn release(&self, shared: &Shared, id: AttemptId) -> Result<Released> {
        let state = &mut *lock(&self.state);
        if state.holder != Some(id) {
            return Ok(Released::Gone(LossReason::Gone));
        }
        state.holder = None;
        state.observer = None;
        let Some(open) = &state.open else { return Ok(Released::Gone(LossReason::Gone)) };
        let file = &*open.file;
        let now = shared.now();
        let lost = if file.is_stale(now) { loss(file.id, &self.place.raw) } else { None };
        if let Err(errno) = file.unlock() {
            // Closing it unlocks too, unless somebody else has the descriptor.
            state.open = None;
            return Err(failed("can't unlock", &self.place.path, errno).no_effect(false));
        }
        let others_wait = shared.unlocked(file, &open.waiters, self.key);
        if !file.is_private() {
            // A child may have inherited this description, and would share the next hold.
            state.open = None;
        } else if !open.waiters.is_current(now) {
            let (file, waiters) = (open.file.clone(), shared.waiters(&self.place.directory));
            state.open = Some(Open { file, waiters });
        }
        Ok(lost.map_or(Released::Free { others_wait }, Released::Gone))
    }

    /// Whether this id has the hold, and what has happened to it.
    pub(crate) fn verify(&self, id: AttemptId) -> Option<LossReason> {
        let (held, file) = {
            let state = lock(&self.state);
            (state.holder == Some(id), state.open.as_ref()?.file.clone())
        };
        if held { loss(file.id, &self.place.raw) } else { None }
    }

    pub(crate) fn observe(&self, shared: &Shared, id: AttemptId) {
        let Some(file) = self.held(id) else { return };
        let observer = shared.observe(id, &file, &self.place);
        let mut state = lock(&self.state);
        if state.holder == Some(id) {
            state.observer = observer;
        }
    }

    pub(crate) fn descriptor(&self, id: AttemptId) -> Option<Arc<OwnedFd>> {
        self.held(id).map(|file| file.give_out())
    }

    fn held(&self, id: AttemptId) -> Option<Arc<LockFile>> {
        let state = lock(&self.state);
        state.open.as_ref().filter(|_| state.holder == Some(id)).map(|open| open.file.clone())
    }

    /// The file that attempts are made on at the moment, and the table of those who wait for it.
    pub(crate) fn current(&self, shared: &Shared) -> Result<(Arc<LockFile>, Arc<Waiters>)> {
        let state = &mut *lock(&self.state);
        let file = match &state.open {
            Some(open) => open.file.clone(),
            None => Arc::new(open::open_or_create(&self.place, shared.trust, self.note.as_deref())?),
        };
        let waiters = shared.waiters(&self.place.directory);
        state.open = Some(Open { file: file.clone(), waiters: waiters.clone() });
        state.doubt = true;
        Ok((file, waiters))
    }

    /// Has the next attempt look at the path.
    pub(crate) fn doubt(&self) {
        lock(&self.state).doubt = true;
    }

    /// Wakes those who wait for the file, though it is not this holder who unlocked it.
    pub(crate) fn wake(&self, shared: &Shared) {
        if let Some(open) = &lock(&self.state).open {
            shared.unlocked(&open.file, &open.waiters, self.key);
        }
    }
}
