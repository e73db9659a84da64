//! The same locks for code without `async`; see [`pilotman_core::blocking`].

use std::ops::Deref;

use pilotman_core::Result;
pub use pilotman_core::blocking::{
    CancelToken, Fenced, FencedGuard, Guard, Lock, MultiGuard, Mutex, RwLock, Semaphore, UpgradeableGuard,
};

use crate::Builder;

/// The blocking form of [`crate::Locks`]. Its methods are those of [`pilotman_core::blocking::Locks`].
#[derive(Debug, Clone)]
pub struct Locks(pilotman_core::blocking::Locks);

impl Locks {
    /// Locks on the backend of a URL; see [`crate::Locks::connect`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::connect`].
    pub fn connect(url: &str) -> Result<Self> {
        crate::Locks::open(url).map(Self::from)
    }

    /// Locks on the backend whose URL is in the environment; see [`crate::Locks::from_env`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::from_env`].
    pub fn from_env() -> Result<Self> {
        crate::Locks::from_env().map(Self::from)
    }

    /// Typed set-up; make the result blocking with [`From`].
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl From<crate::Locks> for Locks {
    fn from(locks: crate::Locks) -> Self {
        Self(locks.as_core().clone().into())
    }
}

impl From<pilotman_core::Locks> for Locks {
    fn from(locks: pilotman_core::Locks) -> Self {
        Self(locks.into())
    }
}

impl Deref for Locks {
    type Target = pilotman_core::blocking::Locks;

    fn deref(&self) -> &pilotman_core::blocking::Locks {
        &self.0
    }
}
