//! What is kept for one name, primitive and set of options, between attempts and holds.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pilotman_core::backend::{Attempt, AttemptId, Grant, Holding, Outcome, Released};
use pilotman_core::{LockOptions, LossReason, NameRule, Primitive, Result, Target};
use serde_json::json;

use crate::exclusive::Exclusive;
use crate::gate::Gate;
use crate::hold::OwnHold;
use crate::names::{self, Base};
use crate::owner;
use crate::place::Place;
use crate::read::Readers;
use crate::semaphore::Permits;
use crate::shared::Shared;
use crate::token::Counter;

#[derive(Debug)]
pub(crate) struct FileSlot {
    pub(crate) files: Files,
    counter: Counter,
    token: bool,
}

#[derive(Debug)]
pub(crate) enum Files {
    Mutex(Exclusive),
    Write { file: Exclusive, gate: Gate },
    Read(Readers),
    Permit(Permits),
}

/// The file that stands for a target: the lock file, or the directory of a semaphore.
pub(crate) fn place(base: &Base, primitive: Primitive) -> Result<Place> {
    let name = match primitive {
        Primitive::Mutex => base.file.clone(),
        Primitive::Permit(_) => base.with(names::PERMITS),
        Primitive::Read | Primitive::Write | Primitive::UpgradeableRead => base.with(names::RW),
    };
    Place::new(&base.directory, name)
}

impl FileSlot {
    pub(crate) fn new(shared: &Shared, target: &Target, options: &LockOptions) -> Result<Self> {
        let name = target.name.as_str();
        let base = names::map(&shared.options.directory, shared.options.names, name)?;
        let place = place(&base, target.primitive)?;
        let gate = || Place::new(&base.directory, base.with(names::GATE));
        // A file whose path the caller chose is the caller's, and stays empty.
        let note = |kind: &str| {
            (shared.options.names != NameRule::Exact).then(|| format!("pilotman {kind}\n{}\n", json!(name)))
        };
        let counter = Counter::new(place.beside(names::TOKEN)?);
        let files = match target.primitive {
            Primitive::Mutex => Files::Mutex(Exclusive::new(place, note("mutex"))),
            Primitive::Write => Files::Write { file: Exclusive::new(place, note("rw")), gate: Gate::new(gate()?) },
            Primitive::Read => Files::Read(Readers::new(place, gate()?, note("rw"))),
            Primitive::Permit(permits) => Files::Permit(Permits::new(place, permits.get(), note("permit"))),
            Primitive::UpgradeableRead => {
                return Err(pilotman_core::Error::unsupported("file locks have no upgradeable reads"));
            }
        };
        Ok(Self { files, counter, token: options.token })
    }

    pub(crate) fn try_acquire(&self, shared: &Shared, attempt: &Attempt) -> Result<Outcome> {
        let hold = match &self.files {
            Files::Mutex(file) => file.acquire(shared, attempt.id)?.then_some(None),
            Files::Write { file, gate } => {
                let locked = file.acquire(shared, attempt.id)?;
                // Who has the lock needs the gate no longer; the next waiting writer can have it.
                if locked && gate.open(attempt.id) {
                    file.wake(shared);
                }
                locked.then_some(None)
            }
            Files::Read(readers) => readers.acquire(shared)?.map(Some),
            Files::Permit(permits) => permits.acquire(shared)?.map(Some),
        };
        let Some(hold) = hold else { return Ok(Outcome::Contended { retry_after: None }) };
        let mut grant = Grant::default();
        if self.token {
            match self.counter.next(shared) {
                Ok(token) => grant.token = Some(token),
                Err(error) => {
                    self.give_back(shared, attempt.id, hold.as_ref())?;
                    return Err(error);
                }
            }
        }
        if shared.options.record_holder
            && let Some(record) = self.record(hold.as_ref())
            && let Err(error) = record.and_then(|place| owner::write(&place, shared, attempt.id, grant.token))
        {
            tracing::warn!(%error, "the holder could not be noted; the lock is held all the same");
        }
        grant.state = hold.map(|hold| Box::new(hold) as _);
        Ok(Outcome::Granted(grant))
    }

    /// Where the holder of an exclusive lock is noted.
    fn record(&self, hold: Option<&OwnHold>) -> Option<Result<Place>> {
        match (&self.files, hold) {
            (Files::Mutex(file) | Files::Write { file, .. }, _) => Some(file.place.beside(names::OWNER)),
            (Files::Permit(_), Some(hold)) => Some(hold.place.beside(names::OWNER)),
            (Files::Permit(_), None) | (Files::Read(_), _) => None,
        }
    }

    pub(crate) fn release(&self, shared: &Shared, hold: &Holding) -> Result<Released> {
        let (id, own) = (hold.attempt.id, hold.state::<OwnHold>());
        if shared.options.record_holder
            && let Some(record) = self.record(own)
            && let Err(error) = record.and_then(|place| owner::clear(&place, shared, id))
        {
            tracing::warn!(%error, "the holder's record could not be cleared");
        }
        self.give_back(shared, id, own)
    }

    fn give_back(&self, shared: &Shared, id: AttemptId, own: Option<&OwnHold>) -> Result<Released> {
        match (&self.files, own) {
            (Files::Mutex(file) | Files::Write { file, .. }, _) => file.release(shared, id),
            (Files::Read(readers), Some(hold)) => readers.release(shared, hold),
            (Files::Permit(permits), Some(hold)) => permits.release(shared, hold),
            (Files::Read(_) | Files::Permit(_), None) => Ok(Released::Gone(LossReason::Gone)),
        }
    }

    /// Gives back what an attempt was granted or has left behind. What it was granted with a state went with that.
    pub(crate) fn abandon(&self, shared: &Shared, id: AttemptId) -> Result<()> {
        if let Files::Write { file, gate } = &self.files
            && gate.open(id)
        {
            file.wake(shared);
        }
        self.give_back(shared, id, None).map(drop)
    }

    pub(crate) fn mint(&self, shared: &Shared) -> Result<u64> {
        self.counter.next(shared)
    }

    pub(crate) fn verify(&self, hold: &Holding) -> Option<LossReason> {
        match (&self.files, hold.state::<OwnHold>()) {
            (Files::Mutex(file) | Files::Write { file, .. }, _) => file.verify(hold.attempt.id),
            (_, Some(own)) => own.verify(),
            (_, None) => None,
        }
    }

    pub(crate) fn observe(&self, shared: &Shared, hold: &Holding) {
        match (&self.files, hold.state::<OwnHold>()) {
            (Files::Mutex(file) | Files::Write { file, .. }, _) => file.observe(shared, hold.attempt.id),
            (_, Some(own)) => own.observe(shared, hold.attempt.id),
            (_, None) => {}
        }
    }

    pub(crate) fn descriptor(&self, hold: &Holding) -> Option<Arc<OwnedFd>> {
        match (&self.files, hold.state::<OwnHold>()) {
            (Files::Mutex(file) | Files::Write { file, .. }, _) => file.descriptor(hold.attempt.id),
            (_, Some(own)) => own.descriptor(),
            (_, None) => None,
        }
    }
}
