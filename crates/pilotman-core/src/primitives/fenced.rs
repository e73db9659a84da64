//! Locks whose guards always have a fencing token.

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use super::guard::{Guard, Held, Release};
use super::{Lock, run};
use crate::Result;

/// A lock whose guards always have a fencing token: a number that is greater for each holder than for all before it.
///
/// The protected resource compares: it remembers the greatest token that it has seen and refuses smaller ones. Then
/// even a holder that doesn't know yet that it lost the lock can do no harm.
#[derive(Debug, Clone)]
pub struct Fenced(pub(super) Lock);

impl Fenced {
    /// The name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// See [`Lock::try_acquire`].
    ///
    /// # Errors
    ///
    /// As [`Lock::try_acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::try_acquire`].
    ///
    /// # Cost
    ///
    /// As [`Lock::try_acquire`], and a durable write where tokens are not free.
    pub async fn try_acquire(&self) -> Result<Option<FencedGuard>> {
        Ok(self.0.try_acquire().await?.map(FencedGuard))
    }

    /// See [`Lock::try_acquire_for`].
    ///
    /// # Errors
    ///
    /// As [`Lock::try_acquire_for`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::try_acquire_for`].
    ///
    /// # Cost
    ///
    /// As [`Self::try_acquire`], and the wait.
    pub async fn try_acquire_for(&self, limit: Duration) -> Result<Option<FencedGuard>> {
        Ok(self.0.try_acquire_for(limit).await?.map(FencedGuard))
    }

    /// See [`Lock::acquire`].
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::acquire`].
    ///
    /// # Cost
    ///
    /// As [`Lock::acquire`], and a durable write where tokens are not free.
    pub async fn acquire(&self) -> Result<FencedGuard> {
        Ok(FencedGuard(self.0.acquire().await?))
    }

    /// See [`Lock::acquire_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire_timeout`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::acquire_timeout`].
    ///
    /// # Cost
    ///
    /// As [`Self::acquire`].
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<FencedGuard> {
        Ok(FencedGuard(self.0.acquire_timeout(limit).await?))
    }

    /// See [`Lock::run`].
    ///
    /// # Errors
    ///
    /// As [`Lock::run`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::run`].
    ///
    /// # Cost
    ///
    /// As [`Self::acquire`], and the release.
    pub async fn run<F, Fut, T>(&self, work: F) -> Result<T>
    where
        F: FnOnce(Held) -> Fut + Send,
        Fut: Future<Output = T> + Send,
        T: Send,
    {
        run::run(self.acquire().await?.0, work).await
    }
}

/// A [`Guard`] that has a fencing token.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct FencedGuard(Guard);

impl FencedGuard {
    /// The fencing token.
    pub fn token(&self) -> u64 {
        // The engine makes no hold without a token where one was asked for; zero is refused by every comparison.
        self.0.token().unwrap_or_default()
    }

    /// See [`Guard::release`].
    ///
    /// # Errors
    ///
    /// As [`Guard::release`].
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::release`].
    ///
    /// # Cost
    ///
    /// As [`Guard::release`].
    pub async fn release(self) -> Result<Release> {
        self.0.release().await
    }

    /// The guard, as one that may or may not have a token.
    pub fn into_guard(self) -> Guard {
        self.0
    }
}

impl Deref for FencedGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.0
    }
}
