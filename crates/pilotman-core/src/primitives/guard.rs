//! The proof that a lock is held.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::engine::{Ended, Hold, Tenancy};
use crate::{Error, ErrorKind, LossReason, Result, Votes};

/// Whether a hold is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HoldState {
    /// The lock is ours.
    Held,
    /// The lock is ours, but a renewal failed: it will be lost at the end of the lease unless one succeeds.
    AtRisk,
    /// The lock was lost. This is final.
    Lost,
    /// The lock was released.
    Released,
}

impl HoldState {
    /// The stable lower-case name, as it stands in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::AtRisk => "at_risk",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }
}

/// What a release found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// The lock was ours to the end and is now given back.
    Released,
    /// The lock had been lost before. Others may have held it meanwhile.
    AlreadyLost(LossReason),
}

/// A held lock. Dropping it gives the lock back in the background; [`release`](Self::release) waits and tells how it
/// went.
///
/// A guard is also a *witness*: a function that must run under a lock takes a `&Guard`. It is `Send` and belongs to no
/// thread. In a child process made by `fork` it does nothing.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct Guard(pub(crate) Tenancy);

impl Guard {
    /// The name of the lock.
    pub fn name(&self) -> &str {
        self.hold().slot().spec.target.name.as_str()
    }

    fn hold(&self) -> &Arc<Hold> {
        self.0.hold()
    }

    /// The fencing token, if one came with the hold. [`Mutex::fenced`](crate::Lock::fenced) gives guards that always
    /// have one.
    pub fn token(&self) -> Option<u64> {
        self.0.token()
    }

    /// Whether the lock is still held. Looks at the clock and, for some backends, at the local system; never asks a
    /// server.
    pub fn state(&self) -> HoldState {
        self.hold().state(self.0.tenure()).0
    }

    /// How long the lock is held at least, if nothing is renewed any more; computed at the call. `None`: the hold
    /// doesn't expire and has no limit. Zero once the lock is lost.
    pub fn remaining(&self) -> Option<Duration> {
        self.held().remaining()
    }

    /// How often the lease was renewed so far, this holder and those of this process before it that handed it on taken
    /// together. Zero for holds that don't expire.
    pub fn renewals(&self) -> u64 {
        self.hold().renewals()
    }

    /// How the nodes of a quorum stood to this hold when they were last heard; `None` on backends without a quorum.
    pub fn votes(&self) -> Option<Votes> {
        self.held().votes()
    }

    /// Fails if the lock is no longer held. A good last line before something that can't be undone; between this call
    /// and the deed the lock can still be lost, which only a [fencing token](Self::token) covers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`], with the reason.
    pub fn ensure_held(&self) -> Result<()> {
        self.held().ensure_held()
    }

    /// Completes when the lock is lost, with the reason; for leases before anyone else can hold it. Never completes
    /// after a release. The future is independent of the guard.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// Nothing is sent. Where losses have to be watched for (files), the watch begins when it is first polled.
    pub fn lost(&self) -> Lost {
        self.held().lost()
    }

    /// A witness that can be cloned and kept, and that gives nothing back when dropped.
    pub fn held(&self) -> Held {
        Held { hold: self.hold().clone(), tenure: self.0.tenure(), token: self.0.token() }
    }

    /// What tells this hold from others, for people. It grants nothing to who knows it.
    pub fn owner_id(&self) -> String {
        self.hold().id().public()
    }

    /// What the server calls the lease, on backends whose other requests can be made conditional on it (Azure: writes to the
    /// lock's own blob); `None` elsewhere. Who knows it can end the hold. It stays the same when a hold is handed on within this
    /// process.
    pub fn lease_id(&self) -> Option<String> {
        let hold = self.hold();
        hold.engine().backend.lease_id(hold.holding())
    }

    /// The descriptor that carries the hold, for backends whose holds are tied to one (files): a child process that
    /// inherits it holds the lock too, until it ends. It is close-on-exec; a child gets it only if that flag is
    /// cleared for it.
    #[cfg(unix)]
    pub fn descriptor(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        let hold = self.hold();
        hold.engine().backend.descriptor(hold.holding())
    }

    /// Gives the lock back and tells how that went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the backend did not answer within the limit of an operation; giving back goes on
    /// in the background, and the lock ends with its lease or session at the latest. That the lock had been lost
    /// before is no error but [`Release::AlreadyLost`].
    ///
    /// # Cancel safety
    ///
    /// The lock is given back in the background even if the future is dropped, polled or not.
    ///
    /// # Cost
    ///
    /// One round trip; none if a waiter of this process gets the lock, or the backend is local.
    pub async fn release(self) -> Result<Release> {
        match self.0.end() {
            Ended::Now(answer) => answer,
            Ended::Later(answer) => answer.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Closed, "the runtime that should have released the lock has ended"))
            }),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held().fmt(f)
    }
}

/// A witness of a held lock: it tells what a [`Guard`] tells, can be cloned, and gives nothing back.
#[derive(Clone)]
pub struct Held {
    hold: Arc<Hold>,
    tenure: u32,
    token: Option<u64>,
}

impl Held {
    /// The name of the lock.
    pub fn name(&self) -> &str {
        self.hold.slot().spec.target.name.as_str()
    }

    /// The fencing token, if one came with the hold.
    pub fn token(&self) -> Option<u64> {
        self.token
    }

    /// See [`Guard::state`].
    pub fn state(&self) -> HoldState {
        self.hold.state(self.tenure).0
    }

    /// See [`Guard::remaining`]. Zero once the lock is lost or released.
    pub fn remaining(&self) -> Option<Duration> {
        match self.state() {
            HoldState::Lost | HoldState::Released => Some(Duration::ZERO),
            HoldState::Held | HoldState::AtRisk => self.hold.remaining(),
        }
    }

    /// See [`Guard::renewals`].
    pub fn renewals(&self) -> u64 {
        self.hold.renewals()
    }

    /// See [`Guard::votes`].
    pub fn votes(&self) -> Option<Votes> {
        self.hold.engine().backend.votes(self.hold.holding())
    }

    /// See [`Guard::ensure_held`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`], with the reason; also after a release.
    pub fn ensure_held(&self) -> Result<()> {
        let reason = match self.hold.state(self.tenure) {
            (HoldState::Held | HoldState::AtRisk, _) => return Ok(()),
            (_, Some(reason)) => reason,
            (_, None) => LossReason::Other("it has been released".into()),
        };
        Err(Error::lost(reason).with_lock(self.name()).with_backend(self.hold.engine().kind))
    }

    /// See [`Guard::lost`].
    pub fn lost(&self) -> Lost {
        Lost { hold: self.hold.clone(), tenure: self.tenure, waker: None }
    }

    pub(crate) fn lease(&self) -> Option<Duration> {
        self.hold.slot().spec.lease
    }

    pub(crate) fn clock(&self) -> Arc<dyn crate::clock::Clock> {
        self.hold.engine().clock.clone()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", &self.hold.slot().spec.target.name)
            .field("backend", &self.hold.engine().kind)
            .field("state", &self.state())
            .field("token", &self.token)
            .finish()
    }
}

/// Completes when a lock is lost; see [`Guard::lost`].
#[must_use = "futures do nothing unless awaited"]
pub struct Lost {
    hold: Arc<Hold>,
    tenure: u32,
    /// The number of the waker that was left with the hold.
    waker: Option<u64>,
}

impl Future for Lost {
    type Output = LossReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LossReason> {
        let this = &mut *self;
        this.hold.poll_lost(this.tenure, &mut this.waker, cx)
    }
}

impl Clone for Lost {
    fn clone(&self) -> Self {
        Self { hold: self.hold.clone(), tenure: self.tenure, waker: None }
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if let Some(waker) = self.waker {
            self.hold.forget_waker(waker);
        }
    }
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lost").field("name", &self.hold.slot().spec.target.name).finish_non_exhaustive()
    }
}
