//! Reader-writer locks.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Guard, HoldState, Release};
use super::lock::Lock;
use crate::clock::Sleep;
use crate::engine::select::{Either, either, within};
use crate::engine::{Engine, Wait};
use crate::{Error, ErrorKind, LockOptions, Primitive, Result};

/// A reader-writer lock: many readers or one writer. A waiting writer keeps new readers out.
///
/// [`reader`](Self::reader) and [`writer`](Self::writer) are its two sides as [`Lock`]s, with everything that those
/// have (tokens, `run`).
#[derive(Debug, Clone)]
pub struct RwLock {
    read: Lock,
    upgradeable: Lock,
    write: Lock,
}

impl RwLock {
    pub(crate) fn new(engine: &Arc<Engine>, options: &LockOptions, name: &str) -> Self {
        let side = |primitive| Lock::new(engine, options, name, Ok(primitive));
        Self {
            read: side(Primitive::Read),
            upgradeable: side(Primitive::UpgradeableRead),
            write: side(Primitive::Write),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.read.name()
    }

    fn with_options(&self, change: impl Fn(&mut LockOptions)) -> Self {
        Self {
            read: self.read.with_options(&change),
            upgradeable: self.upgradeable.with_options(&change),
            write: self.write.with_options(&change),
        }
    }

    /// See [`Lock::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with_options(|options| options.lease = Some(lease))
    }

    /// See [`Lock::retry`].
    #[must_use]
    pub fn retry(self, pause: Duration) -> Self {
        self.with_options(|options| options.retry = Some(pause))
    }

    /// See [`Lock::hold_at_most`].
    #[must_use]
    pub fn hold_at_most(self, limit: Duration) -> Self {
        self.with_options(|options| options.hold_at_most = Some(limit))
    }

    /// The shared side.
    pub fn reader(&self) -> &Lock {
        &self.read
    }

    /// The exclusive side.
    pub fn writer(&self) -> &Lock {
        &self.write
    }

    /// Acquires a read, waiting as long as it takes.
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
    /// As [`Lock::acquire`].
    pub async fn read(&self) -> Result<Guard> {
        self.read.acquire().await
    }

    /// Acquires a read if it can be had now. `None`: a writer holds the lock or waits for it.
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
    /// As [`Lock::try_acquire`].
    pub async fn try_read(&self) -> Result<Option<Guard>> {
        self.read.try_acquire().await
    }

    /// Acquires a read, waiting at most this long; `None` if that was not enough.
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
    /// As [`Lock::try_acquire_for`].
    pub async fn try_read_for(&self, limit: Duration) -> Result<Option<Guard>> {
        self.read.try_acquire_for(limit).await
    }

    /// Acquires a read, waiting at most this long.
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
    /// As [`Lock::acquire_timeout`].
    pub async fn read_timeout(&self, limit: Duration) -> Result<Guard> {
        self.read.acquire_timeout(limit).await
    }

    /// Acquires a write, waiting as long as it takes.
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
    /// As [`Lock::acquire`].
    pub async fn write(&self) -> Result<Guard> {
        self.write.acquire().await
    }

    /// Acquires a write if it can be had now. `None`: others hold the lock.
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
    /// As [`Lock::try_acquire`].
    pub async fn try_write(&self) -> Result<Option<Guard>> {
        self.write.try_acquire().await
    }

    /// Acquires a write, waiting at most this long; `None` if that was not enough.
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
    /// As [`Lock::try_acquire_for`].
    pub async fn try_write_for(&self, limit: Duration) -> Result<Option<Guard>> {
        self.write.try_acquire_for(limit).await
    }

    /// Acquires a write, waiting at most this long.
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
    /// As [`Lock::acquire_timeout`].
    pub async fn write_timeout(&self, limit: Duration) -> Result<Guard> {
        self.write.acquire_timeout(limit).await
    }

    /// Acquires a read that can become a write, waiting as long as it takes. It stands beside readers, but only one
    /// at a time, and beside no writer.
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`]; `Unsupported` on backends that have no such reads.
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::acquire`].
    ///
    /// # Cost
    ///
    /// As [`Lock::acquire`].
    pub async fn upgradeable_read(&self) -> Result<UpgradeableGuard> {
        Ok(UpgradeableGuard::new(self.upgradeable.acquire().await?))
    }

    /// Acquires an upgradeable read if it can be had now.
    ///
    /// # Errors
    ///
    /// As [`Self::upgradeable_read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::try_acquire`].
    ///
    /// # Cost
    ///
    /// As [`Lock::try_acquire`].
    pub async fn try_upgradeable_read(&self) -> Result<Option<UpgradeableGuard>> {
        Ok(self.upgradeable.try_acquire().await?.map(UpgradeableGuard::new))
    }

    /// Acquires an upgradeable read, waiting at most this long; `None` if that was not enough.
    ///
    /// # Errors
    ///
    /// As [`Self::upgradeable_read`].
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::try_acquire_for`].
    ///
    /// # Cost
    ///
    /// As [`Lock::try_acquire_for`].
    pub async fn try_upgradeable_read_for(&self, limit: Duration) -> Result<Option<UpgradeableGuard>> {
        Ok(self.upgradeable.try_acquire_for(limit).await?.map(UpgradeableGuard::new))
    }

    /// Acquires an upgradeable read, waiting at most this long.
    ///
    /// # Errors
    ///
    /// As [`Self::upgradeable_read`], and `TimedOut`.
    ///
    /// # Cancel safety
    ///
    /// As [`Lock::acquire_timeout`].
    ///
    /// # Cost
    ///
    /// As [`Lock::acquire_timeout`].
    pub async fn upgradeable_read_timeout(&self, limit: Duration) -> Result<UpgradeableGuard> {
        Ok(UpgradeableGuard::new(self.upgradeable.acquire_timeout(limit).await?))
    }
}

/// A read that can become a write. There is no way back but to release it.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct UpgradeableGuard {
    guard: Guard,
    upgraded: bool,
}

impl UpgradeableGuard {
    fn new(guard: Guard) -> Self {
        Self { guard, upgraded: false }
    }

    /// Whether it is a write by now.
    pub fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Makes it a write, waiting for the readers to leave as long as it takes.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if it is a write already, `Lost`, or whatever the backend reports.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves an upgradeable read. If the upgrade had just succeeded it stays in force unseen
    /// until the guard is released: others are kept out longer than need be, never less.
    ///
    /// # Cost
    ///
    /// One round trip, and the wait.
    pub async fn upgrade(&mut self) -> Result<()> {
        self.upgrade_within(Wait::Forever).await.map(drop)
    }

    /// Makes it a write if there are no readers now.
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cost
    ///
    /// One round trip.
    pub async fn try_upgrade(&mut self) -> Result<bool> {
        self.upgrade_within(Wait::No).await
    }

    /// Makes it a write, waiting for the readers to leave at most this long. `false`: that was not enough.
    ///
    /// # Errors
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::upgrade`].
    ///
    /// # Cost
    ///
    /// One round trip, and the wait.
    pub async fn try_upgrade_for(&mut self, limit: Duration) -> Result<bool> {
        self.upgrade_within(limit.into()).await
    }

    async fn upgrade_within(&mut self, wait: Wait) -> Result<bool> {
        let hold = self.guard.0.hold().clone();
        if self.upgraded {
            return Err(hold_error(&hold, Error::misconfigured("this hold has already been upgraded to a write")));
        }
        self.guard.ensure_held()?;
        hold.set_upgraded();
        let engine = hold.engine().clone();
        let (backend, holding) = (engine.backend.clone(), hold.holding().clone());
        let upgraded = match wait {
            Wait::No => {
                let (clock, limit) = (engine.clock.clone(), engine.operation_limit(hold.slot().spec.lease));
                let attempt = async move {
                    within(&clock, limit, backend.try_upgrade(&holding)).await.unwrap_or_else(|| {
                        Err(Error::unavailable(format!("the backend gave no answer within {limit:?}")))
                    })
                };
                engine.on_io(attempt).await
            }
            Wait::For(_) | Wait::Forever => {
                let cancel = CancelOnDrop::new();
                let (cancelled, lost) = (cancel.0.clone(), self.guard.lost());
                let upgrade = engine.on_io(async move {
                    let ended = pin!(async { either(pin!(lost), pin!(cancelled.notified())).await });
                    match either(pin!(backend.upgrade(&holding)), ended).await {
                        Either::First(upgraded) => upgraded.map(|()| true),
                        Either::Second(Either::First(reason)) => Err(Error::lost(reason)),
                        Either::Second(Either::Second(())) => Ok(false),
                    }
                });
                let limit = match wait {
                    Wait::For(limit) => Sleep::new(engine.clock.clone(), limit),
                    _ => Sleep::until(engine.clock.clone(), crate::clock::Time::NEVER),
                };
                let mut upgrade = pin!(upgrade);
                match either(upgrade.as_mut(), pin!(limit)).await {
                    Either::First(upgraded) => upgraded,
                    Either::Second(()) => {
                        // The answer to the cancellation says whether the upgrade came first after all.
                        cancel.0.notify_one();
                        upgrade.await
                    }
                }
            }
        };
        self.upgraded = upgraded.map_err(|error| hold_error(&hold, error))?;
        Ok(self.upgraded)
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
        self.guard.release().await
    }

    /// See [`Guard::state`].
    pub fn state(&self) -> HoldState {
        self.guard.state()
    }
}

fn hold_error(hold: &crate::engine::Hold, error: Error) -> Error {
    debug_assert_ne!(error.kind(), ErrorKind::TimedOut, "waiting too long is an answer");
    error.with_lock(hold.slot().spec.target.name.as_str()).with_backend(hold.engine().kind)
}

/// Ends a task on the I/O thread when the future that waits for it is dropped.
struct CancelOnDrop(Arc<tokio::sync::Notify>);

impl CancelOnDrop {
    fn new() -> Self {
        Self(Arc::new(tokio::sync::Notify::new()))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Deref for UpgradeableGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl fmt::Debug for UpgradeableGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeableGuard").field("guard", &self.guard).field("upgraded", &self.upgraded).finish()
    }
}
