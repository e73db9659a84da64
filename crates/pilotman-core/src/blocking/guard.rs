//! Guards of the blocking locks.

use super::*;

/// The blocking form of [`crate::Guard`], whose methods it has.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct Guard(pub(super) crate::Guard);

impl Guard {
    /// Gives the lock back and tells how that went; see [`crate::Guard::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::release`].
    pub fn release(self) -> Result<Release> {
        block_on(self.0.release())
    }

    /// Waits for the loss of the lock, at most this long.
    pub fn lost_within(&self, limit: Duration) -> Option<LossReason> {
        lost_within(&self.0, limit)
    }
}

fn lost_within(guard: &crate::Guard, limit: Duration) -> Option<LossReason> {
    let timer = Sleep::new(guard.held().clock(), limit);
    match block_on(either(pin!(guard.lost()), pin!(timer))) {
        Either::First(reason) => Some(reason),
        Either::Second(()) => None,
    }
}

impl Deref for Guard {
    type Target = crate::Guard;

    fn deref(&self) -> &crate::Guard {
        &self.0
    }
}

/// The blocking form of [`crate::FencedGuard`], whose methods it has.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct FencedGuard(pub(super) crate::FencedGuard);

impl FencedGuard {
    /// Gives the lock back and tells how that went; see [`crate::Guard::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::release`].
    pub fn release(self) -> Result<Release> {
        block_on(self.0.release())
    }

    /// Waits for the loss of the lock, at most this long.
    pub fn lost_within(&self, limit: Duration) -> Option<LossReason> {
        lost_within(&self.0, limit)
    }
}

impl Deref for FencedGuard {
    type Target = crate::FencedGuard;

    fn deref(&self) -> &crate::FencedGuard {
        &self.0
    }
}

/// The blocking form of [`crate::UpgradeableGuard`], whose methods it has.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct UpgradeableGuard(pub(super) crate::UpgradeableGuard);

impl UpgradeableGuard {
    /// Makes it a write, waiting for the readers to leave; see [`crate::UpgradeableGuard::upgrade`].
    ///
    /// # Errors
    ///
    /// As [`crate::UpgradeableGuard::upgrade`].
    pub fn upgrade(&mut self) -> Result<()> {
        block_on(self.0.upgrade())
    }

    /// Makes it a write if there are no readers now.
    ///
    /// # Errors
    ///
    /// As [`crate::UpgradeableGuard::upgrade`].
    pub fn try_upgrade(&mut self) -> Result<bool> {
        block_on(self.0.try_upgrade())
    }

    /// Makes it a write, waiting for the readers to leave at most this long.
    ///
    /// # Errors
    ///
    /// As [`crate::UpgradeableGuard::upgrade`].
    pub fn try_upgrade_for(&mut self, limit: Duration) -> Result<bool> {
        block_on(self.0.try_upgrade_for(limit))
    }

    /// Gives the lock back and tells how that went; see [`crate::Guard::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Guard::release`].
    pub fn release(self) -> Result<Release> {
        block_on(self.0.release())
    }

    /// Waits for the loss of the lock, at most this long.
    pub fn lost_within(&self, limit: Duration) -> Option<LossReason> {
        lost_within(&self.0, limit)
    }
}

impl Deref for UpgradeableGuard {
    type Target = crate::UpgradeableGuard;

    fn deref(&self) -> &crate::UpgradeableGuard {
        &self.0
    }
}

/// The blocking form of [`crate::MultiGuard`], whose methods it has.
#[derive(Debug)]
#[must_use = "the locks are given back as soon as the guard is dropped"]
pub struct MultiGuard(pub(super) crate::MultiGuard);

impl MultiGuard {
    /// Gives all locks back; see [`crate::MultiGuard::release`].
    ///
    /// # Errors
    ///
    /// As [`crate::MultiGuard::release`].
    pub fn release(self) -> Result<Release> {
        block_on(self.0.release())
    }

    /// Waits for the loss of one of the locks, at most this long; returns its name and the reason.
    pub fn lost_within(&self, limit: Duration) -> Option<(String, LossReason)> {
        let clock = self.0.guards().first()?.held().clock();
        let timer = Sleep::new(clock, limit);
        match block_on(either(pin!(self.0.lost()), pin!(timer))) {
            Either::First(lost) => Some(lost),
            Either::Second(()) => None,
        }
    }

    /// The worst state of any of them.
    pub fn state(&self) -> HoldState {
        self.0.state()
    }
}

impl Deref for MultiGuard {
    type Target = crate::MultiGuard;

    fn deref(&self) -> &crate::MultiGuard {
        &self.0
    }
}
