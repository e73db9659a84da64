//! A hold of any kind, async or blocking.

use super::*;

/// A held lock of any kind.
pub(crate) struct Hold(pub(super) Inner);

pub(super) enum Inner {
    Async(asynchronous::Hold, Handle),
    Blocking(blocking::Hold),
}

impl Hold {
    /// The guard beneath; of several the first.
    pub(crate) fn guard(&self) -> &pilotman_core::Guard {
        match &self.0 {
            Inner::Async(hold, _) => hold.plain(),
            Inner::Blocking(hold) => hold.plain(),
        }
    }

    pub(crate) fn state(&self) -> HoldState {
        match &self.0 {
            Inner::Async(hold, _) => hold.state(),
            Inner::Blocking(hold) => hold.state(),
        }
    }

    pub(crate) fn token(&self) -> Option<u64> {
        self.guard().token()
    }

    /// The token, which must be there.
    #[track_caller]
    pub(crate) fn fenced_token(&self) -> u64 {
        self.token().expect("a hold that was asked for with a token has one")
    }

    pub(crate) fn try_release(self) -> Result<Release> {
        match self.0 {
            Inner::Async(hold, handle) => {
                let task = handle.spawn(async move { hold.release().await });
                handle.block_on(task).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            }
            Inner::Blocking(hold) => hold.release(),
        }
    }

    /// Releases what must have been held to the end.
    #[track_caller]
    pub(crate) fn release(self) {
        match self.try_release() {
            Ok(Release::Released) => {}
            Ok(lost) => panic!("the lock should have been held to the end: {lost:?}"),
            Err(error) => panic!("the release failed: {error}"),
        }
    }

    /// The loss, if it is told within the time.
    pub(crate) fn lost_within(&self, limit: Duration) -> Option<LossReason> {
        match &self.0 {
            Inner::Async(asynchronous::Hold::Multi(hold), handle) => {
                let lost = hold.lost();
                handle.block_on(async { tokio::time::timeout(limit, lost).await.ok().map(|(_, reason)| reason) })
            }
            Inner::Async(hold, handle) => {
                let lost = hold.plain().lost();
                handle.block_on(async { tokio::time::timeout(limit, lost).await.ok() })
            }
            Inner::Blocking(hold) => match hold {
                blocking::Hold::Plain(guard) => guard.lost_within(limit),
                blocking::Hold::Fenced(guard) => guard.lost_within(limit),
                blocking::Hold::Multi(guard) => guard.lost_within(limit).map(|(_, reason)| reason),
                blocking::Hold::Upgradeable(guard) => lost_within(guard, limit),
            },
        }
    }

    pub(crate) fn try_upgrade(&mut self, wait: Wait) -> Result<bool> {
        match &mut self.0 {
            Inner::Async(hold, handle) => handle.block_on(hold.upgrade(wait)),
            Inner::Blocking(hold) => hold.upgrade(wait),
        }
    }

    #[track_caller]
    pub(crate) fn upgrade(&mut self, wait: Wait) -> bool {
        self.try_upgrade(wait).unwrap_or_else(|error| panic!("the upgrade failed: {error}"))
    }

    /// The same hold for another thread's hands: the async guard itself.
    pub(crate) fn into_async_guard(self) -> pilotman_core::Guard {
        match self.0 {
            Inner::Async(asynchronous::Hold::Plain(guard), _) => guard,
            _ => panic!("only for plain holds of the async surface"),
        }
    }
}

/// [`pilotman_core::blocking::UpgradeableGuard`] has no wait for a loss of its own, so a thread waits.
fn lost_within(guard: &pilotman_core::Guard, limit: Duration) -> Option<LossReason> {
    let (sender, told) = mpsc::channel();
    let lost = guard.lost();
    std::thread::spawn(move || {
        // The receiver may have given up.
        let _ = sender.send(pollster::block_on(lost));
    });
    told.recv_timeout(limit).ok()
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard().fmt(f)
    }
}
