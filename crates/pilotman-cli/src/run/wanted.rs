//! What is to be acquired: one lock of some kind, or several mutexes.

use std::time::Duration;

use pilotman::backend::Inspection;
use pilotman::blocking::{CancelToken, Locks};
use pilotman::{Primitive, Result};

use super::hold::Hold;

/// What is to be acquired.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    what: What,
    lease: Option<Duration>,
    token: bool,
    cancel: Option<CancelToken>,
}

#[derive(Debug, Clone)]
enum What {
    One { name: String, primitive: Primitive },
    All(Vec<String>),
}

impl Wanted {
    pub(crate) fn one(name: String, primitive: Primitive) -> Self {
        Self { what: What::One { name, primitive }, lease: None, token: false, cancel: None }
    }

    pub(crate) fn all(names: Vec<String>) -> Self {
        Self { what: What::All(names), lease: None, token: false, cancel: None }
    }

    pub(crate) fn with_lease(self, lease: Option<Duration>) -> Self {
        Self { lease, ..self }
    }

    pub(crate) fn with_token(self, token: bool) -> Self {
        Self { token, ..self }
    }

    /// The same, with waits that `cancel` ends.
    pub(crate) fn with_cancel(&self, cancel: &CancelToken) -> Self {
        Self { cancel: Some(cancel.clone()), ..self.clone() }
    }

    /// The names, for people.
    pub(crate) fn shown(&self) -> String {
        match &self.what {
            What::One { name, .. } => name.clone(),
            What::All(names) => names.join(","),
        }
    }

    /// One attempt.
    pub(crate) fn try_once(&self, locks: &Locks) -> Result<Option<Hold>> {
        self.get(locks, None)
    }

    /// Waits for it, at most this long.
    pub(crate) fn wait(&self, locks: &Locks, limit: Duration) -> Result<Option<Hold>> {
        self.get(locks, Some(limit))
    }

    fn get(&self, locks: &Locks, limit: Option<Duration>) -> Result<Option<Hold>> {
        let cancel = self.cancel.as_ref();
        let (name, primitive) = match &self.what {
            What::One { name, primitive } => (name, *primitive),
            What::All(names) => {
                return Ok(match limit {
                    Some(limit) => locks.try_acquire_all_for(names, limit, cancel)?,
                    None => locks.try_acquire_all(names)?,
                }
                .map(Hold::All));
            }
        };
        // The kinds of lock are types of their own, with the same methods.
        macro_rules! acquire {
            ($lock:expr) => {{
                let lock = $lock;
                let lock = if let Some(lease) = self.lease { lock.lease(lease) } else { lock };
                let lock = if let Some(cancel) = cancel { lock.with_cancel(cancel) } else { lock };
                match (self.token, limit) {
                    (false, None) => lock.try_acquire()?.map(Hold::One),
                    (false, Some(limit)) => lock.try_acquire_for(limit)?.map(Hold::One),
                    (true, None) => lock.fenced()?.try_acquire()?.map(Hold::Fenced),
                    (true, Some(limit)) => lock.fenced()?.try_acquire_for(limit)?.map(Hold::Fenced),
                }
            }};
        }
        Ok(match primitive {
            Primitive::Mutex => acquire!(locks.mutex(name)),
            Primitive::Read | Primitive::UpgradeableRead => acquire!(locks.rw_lock(name).reader()),
            Primitive::Write => acquire!(locks.rw_lock(name).writer()),
            Primitive::Permit(permits) => acquire!(locks.semaphore(name, permits.get())),
        })
    }

    /// Who holds it, as far as the backend can tell; of several, the first that somebody holds.
    pub(crate) fn inspect(&self, locks: &Locks) -> Option<Inspection> {
        // It is for a message only, and a backend that can't be reached tells so in the attempt itself.
        let inspect = |name: &str, primitive| locks.inspect(name, primitive).ok();
        match &self.what {
            What::One { name, primitive } => inspect(name, *primitive),
            What::All(names) => names
                .iter()
                .filter_map(|name| inspect(name, Primitive::Mutex))
                .find(|inspection| !inspection.holders.is_empty()),
        }
    }
}
