//! All names of one space.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::entry::{Context, Entry, State};
use crate::backend::Inspection;
use crate::clock::Time;
use crate::{Name, Primitive, Target};

/// Names, each with what is held and awaited under it.
#[derive(Default)]
pub(super) struct Space {
    entries: Mutex<HashMap<Key, State>>,
    tokens: AtomicU64,
}

/// A name and a kind: kinds under one name don't disturb each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Name,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Mutex,
    RwLock,
    Semaphore,
}

impl Key {
    pub(super) fn of(target: &Target) -> Self {
        let kind = match target.primitive {
            Primitive::Mutex => Kind::Mutex,
            Primitive::Read | Primitive::UpgradeableRead | Primitive::Write => Kind::RwLock,
            Primitive::Permit(_) => Kind::Semaphore,
        };
        Self { name: target.name.clone(), kind }
    }
}

impl Space {
    /// Does something with an entry, which is made for it and forgotten afterwards unless it is in use. Leases that
    /// have ended are taken out first, and whoever can have the lock then gets it.
    pub(super) fn with<T>(&self, key: &Key, now: Time, work: impl FnOnce(&mut Entry<'_>) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let context = Context { tokens: &self.tokens, now };
        if let Some(state) = entries.get_mut(key) {
            let mut entry = Entry { state, context };
            entry.settle();
            let result = work(&mut entry);
            entry.settle();
            if state.is_idle() {
                entries.remove(key);
            }
            return result;
        }
        let mut state = State::default();
        let result = work(&mut Entry { state: &mut state, context });
        if !state.is_idle() {
            entries.insert(key.clone(), state);
        }
        result
    }

    pub(super) fn list(&self, now: Time) -> Vec<Inspection> {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let context = Context { tokens: &self.tokens, now };
        entries.retain(|_, state| {
            Entry { state, context }.settle();
            !state.is_idle()
        });
        let inspect = |(key, state): (&Key, &mut State)| Entry { state, context }.inspect(key.name.as_str(), now);
        entries.iter_mut().map(inspect).collect()
    }
}
