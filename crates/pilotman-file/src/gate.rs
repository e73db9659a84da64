//! The gate that gives writers precedence: a waiting writer keeps it locked, and readers have to pass it.
//!
//! It is a lock itself, so that it opens when the writer's process dies.

use std::sync::Mutex;

use pilotman_core::Result;
use pilotman_core::backend::AttemptId;

use crate::directory::RACES;
use crate::failure::failed;
use crate::file::{LockFile, LockMode};
use crate::open;
use crate::place::Place;
use crate::shared::{Shared, lock};

/// How often a writer tries again when a reader is just passing.
const TRIES: usize = 8;

#[derive(Debug)]
pub(crate) struct Gate {
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<LockFile>,
    /// The waiting writer for whom it is locked.
    writer: Option<AttemptId>,
}

impl Gate {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, state: Mutex::default() }
    }

    /// Keeps readers out, if no other writer does that already.
    pub(crate) fn close(&self, shared: &Shared, writer: AttemptId) -> Result<()> {
        let mut state = lock(&self.state);
        if state.writer.is_none() {
            let mut tries = 1;
            while !self.try_lock(&mut state, shared, LockMode::Exclusive)? {
                if tries == TRIES {
                    return Ok(());
                }
                tries += 1;
                std::thread::yield_now();
            }
        }
        state.writer = Some(writer);
        Ok(())
    }

    /// Lets readers in again, if this writer kept them out. Says whether it did.
    pub(crate) fn open(&self, writer: AttemptId) -> bool {
        let mut state = lock(&self.state);
        if state.writer != Some(writer) {
            return false;
        }
        state.writer = None;
        self.unlock(&mut state);
        true
    }

    /// Runs `attempt` with the gate passed; `None` if a writer keeps it.
    pub(crate) fn pass<T>(&self, shared: &Shared, attempt: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let mut state = lock(&self.state);
        if !self.try_lock(&mut state, shared, LockMode::Shared)? {
            return Ok(None);
        }
        let result = attempt();
        self.unlock(&mut state);
        result.map(Some)
    }

    fn try_lock(&self, state: &mut State, shared: &Shared, mode: LockMode) -> Result<bool> {
        let fail = |errno| failed("can't lock", &self.place.path, errno);
        for _ in 0..RACES {
            let file = match &state.file {
                Some(file) => file,
                None => state.file.insert(open::open_or_create(&self.place, shared.trust, None)?),
            };
            let locked = file.try_lock(mode).map_err(fail)?;
            if file.is_in_place(&self.place.raw, shared.now(), !locked).map_err(fail)? {
                return Ok(locked);
            }
            state.file = None;
        }
        Ok(false)
    }

    fn unlock(&self, state: &mut State) {
        if let Some(file) = &state.file
            && let Err(errno) = file.unlock()
        {
            tracing::debug!(%errno, path = %self.place.path.display(), "the gate can't be unlocked; closing it does that");
            state.file = None;
        }
    }
}
