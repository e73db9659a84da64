//! What we hold: one lock or several, behind one face.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pilotman::blocking::{FencedGuard, Guard, MultiGuard};
use pilotman::{HoldState, LossReason, Release, Result};

/// The lock or locks that the child runs under.
#[derive(Debug)]
pub(crate) enum Hold {
    One(Guard),
    Fenced(FencedGuard),
    All(MultiGuard),
}

impl Hold {
    fn guards(&self) -> &[pilotman::Guard] {
        match self {
            Self::One(guard) => std::slice::from_ref(guard),
            Self::Fenced(guard) => std::slice::from_ref(guard),
            Self::All(all) => all.guards(),
        }
    }

    /// The names, comma-separated.
    pub(crate) fn name(&self) -> String {
        self.guards().iter().map(|guard| guard.name()).collect::<Vec<_>>().join(",")
    }

    /// The public ids of the holds, comma-separated.
    pub(crate) fn owner(&self) -> String {
        self.guards().iter().map(|guard| guard.owner_id()).collect::<Vec<_>>().join(",")
    }

    /// The fencing token; several locks have no common one.
    pub(crate) fn token(&self) -> Option<u64> {
        match self.guards() {
            [guard] => guard.token(),
            _ => None,
        }
    }

    /// Whether a renewal has failed, and the lease still runs.
    pub(crate) fn is_at_risk(&self) -> bool {
        self.guards().iter().any(|guard| guard.state() == HoldState::AtRisk)
    }

    /// How long it is held at least. `None`: it doesn't expire.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.guards().iter().filter_map(|guard| guard.remaining()).min()
    }

    /// Why it is lost, if it is.
    pub(crate) fn loss(&self) -> Option<LossReason> {
        let error = self.guards().iter().find_map(|guard| guard.ensure_held().err())?;
        Some(error.loss().cloned().unwrap_or(LossReason::Gone))
    }

    /// The descriptors that carry the holds, for backends that have such a thing.
    pub(crate) fn descriptors(&self) -> Vec<Arc<OwnedFd>> {
        self.guards().iter().filter_map(|guard| guard.descriptor()).collect()
    }

    /// Calls `then` from a thread of its own when the first of the locks is lost. The thread ends with the process.
    pub(crate) fn on_loss(&self, then: impl Fn() + Clone + Send + 'static) -> std::io::Result<()> {
        for guard in self.guards() {
            let (lost, then) = (guard.lost(), then.clone());
            thread::Builder::new().name("pilotman-loss".into()).spawn(move || {
                pollster::block_on(lost);
                then();
            })?;
        }
        Ok(())
    }

    pub(crate) fn release(self) -> Result<Release> {
        match self {
            Self::One(guard) => guard.release(),
            Self::Fenced(guard) => guard.release(),
            Self::All(all) => all.release(),
        }
    }
}
