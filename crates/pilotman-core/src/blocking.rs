//! The same locks for code without `async`: the calls block this thread.
//!
//! Uncontended calls on local backends (memory, files) are plain function calls: no runtime, no other thread. Waits can
//! be ended from another thread with a [`CancelToken`].
//!
//! ```
//! use pilotman_core::blocking::Locks;
//!
//! # fn main() -> pilotman_core::Result<()> {
//! let locks = Locks::from(pilotman_core::Locks::memory());
//! let guard = locks.mutex("invoice:42").acquire()?;
//! guard.release()?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::backend::{Finding, Holder, Inspection};
use crate::clock::Sleep;
use crate::engine::select::{Either, either};
use crate::{Capabilities, Error, ErrorKind, Held, HoldState, LockOptions, LossReason, Primitive, Release, Result};

mod cancel;
mod guard;

pub use cancel::CancelToken;
pub use guard::{FencedGuard, Guard, MultiGuard, UpgradeableGuard};

/// Blocks on a future; its timers and I/O are driven by threads of the library's own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    // Most calls need no wait, and then no means to wait either.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => pollster::block_on(future),
    }
}

/// Blocks on a wait, which the token can end.
fn wait<T>(cancel: Option<&CancelToken>, future: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(cancel) = cancel else { return block_on(future) };
    // With a token that is cancelled already, nothing is attempted at all.
    if cancel.is_cancelled() {
        return Err(cancelled());
    }
    match block_on(either(pin!(future), pin!(cancel.cancelled()))) {
        Either::First(done) => done,
        Either::Second(()) => Err(cancelled()),
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the wait was ended by its cancel token")
}

/// The blocking form of [`crate::Locks`].
#[derive(Debug, Clone)]
pub struct Locks(crate::Locks);

impl From<crate::Locks> for Locks {
    fn from(locks: crate::Locks) -> Self {
        Self(locks)
    }
}

impl Locks {
    /// The same locks for `async` code: both forms share everything.
    pub fn as_async(&self) -> &crate::Locks {
        &self.0
    }

    /// See [`crate::Locks::memory`].
    pub fn memory() -> Self {
        Self(crate::Locks::memory())
    }

    /// See [`crate::Locks::mutex`].
    pub fn mutex(&self, name: impl AsRef<str>) -> Mutex {
        Mutex { inner: self.0.mutex(name), cancel: None }
    }

    /// See [`crate::Locks::rw_lock`].
    pub fn rw_lock(&self, name: impl AsRef<str>) -> RwLock {
        RwLock { inner: self.0.rw_lock(name), cancel: None }
    }

    /// See [`crate::Locks::semaphore`].
    pub fn semaphore(&self, name: impl AsRef<str>, permits: u32) -> Semaphore {
        Semaphore { inner: self.0.semaphore(name, permits), cancel: None }
    }

    /// See [`crate::Locks::lock`].
    pub fn lock(&self, name: impl AsRef<str>, primitive: Primitive) -> Lock {
        Lock { inner: self.0.lock(name, primitive), cancel: None }
    }

    /// See [`crate::Locks::with_options`].
    #[must_use]
    pub fn with_options(&self, options: LockOptions) -> Self {
        Self(self.0.with_options(options))
    }

    /// See [`crate::Locks::default_options`].
    pub fn default_options(&self) -> LockOptions {
        self.0.default_options()
    }

    /// See [`crate::Locks::acquire_all`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::acquire_all`].
    pub fn acquire_all<I>(&self, names: I) -> Result<MultiGuard>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        block_on(self.0.acquire_all(names)).map(MultiGuard)
    }

    /// See [`crate::Locks::try_acquire_all`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::try_acquire_all`].
    pub fn try_acquire_all<I>(&self, names: I) -> Result<Option<MultiGuard>>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        Ok(block_on(self.0.try_acquire_all(names))?.map(MultiGuard))
    }

    /// See [`crate::Locks::try_acquire_all_for`]. The wait can be ended by a token.
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::try_acquire_all_for`], and `Cancelled`.
    pub fn try_acquire_all_for<I>(
        &self,
        names: I,
        limit: Duration,
        cancel: Option<&CancelToken>,
    ) -> Result<Option<MultiGuard>>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        Ok(wait(cancel, self.0.try_acquire_all_for(names, limit))?.map(MultiGuard))
    }

    /// See [`crate::Locks::backend_kind`].
    pub fn backend_kind(&self) -> &'static str {
        self.0.backend_kind()
    }

    /// See [`crate::Locks::capabilities`].
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    /// See [`crate::Locks::check`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::check`].
    pub fn check(&self) -> Result<()> {
        block_on(self.0.check())
    }

    /// See [`crate::Locks::physical_name`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::physical_name`].
    pub fn physical_name(&self, name: &str, primitive: Primitive) -> Result<String> {
        self.0.physical_name(name, primitive)
    }

    /// See [`crate::Locks::inspect`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::inspect`].
    pub fn inspect(&self, name: &str, primitive: Primitive) -> Result<Inspection> {
        block_on(self.0.inspect(name, primitive))
    }

    /// See [`crate::Locks::list`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::list`].
    pub fn list(&self) -> Result<Vec<Inspection>> {
        block_on(self.0.list())
    }

    /// See [`crate::Locks::force_release`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::force_release`].
    pub fn force_release(&self, name: &str, primitive: Primitive) -> Result<Vec<Holder>> {
        block_on(self.0.force_release(name, primitive))
    }

    /// See [`crate::Locks::diagnose`].
    ///
    /// # Errors
    ///
    /// As [`crate::Locks::diagnose`].
    pub fn diagnose(&self) -> Result<Vec<Finding>> {
        block_on(self.0.diagnose())
    }

    /// See [`crate::Locks::close`].
    pub fn close(&self) {
        block_on(self.0.close());
    }
}

/// The methods that all locks share; `$guard` is made of what the `async` form returns.
macro_rules! acquires {
    ($guard:ident, $($through:tt)*) => {
        /// Acquires the lock if it can be had now: exactly one attempt. `None`: others hold it.
        ///
        /// # Errors
        ///
        /// As the `async` form.
        pub fn try_acquire(&self) -> Result<Option<$guard>> {
            Ok(block_on(self.$($through)*.try_acquire())?.map($guard))
        }

        /// Acquires the lock, waiting at most this long. `None`: that was not enough. [`Duration::MAX`] is no limit.
        ///
        /// # Errors
        ///
        /// As the `async` form, and `Cancelled` by the token.
        pub fn try_acquire_for(&self, limit: Duration) -> Result<Option<$guard>> {
            Ok(wait(self.cancel.as_ref(), self.$($through)*.try_acquire_for(limit))?.map($guard))
        }

        /// Acquires the lock, waiting as long as it takes.
        ///
        /// # Errors
        ///
        /// As the `async` form, and `Cancelled` by the token.
        pub fn acquire(&self) -> Result<$guard> {
            wait(self.cancel.as_ref(), self.$($through)*.acquire()).map($guard)
        }

        /// Acquires the lock, waiting at most this long.
        ///
        /// # Errors
        ///
        /// As the `async` form: `TimedOut` if others held the lock all the time; and `Cancelled` by the token.
        pub fn acquire_timeout(&self, limit: Duration) -> Result<$guard> {
            wait(self.cancel.as_ref(), self.$($through)*.acquire_timeout(limit)).map($guard)
        }

        /// The same lock, whose waits end with [`ErrorKind::Cancelled`] when the token is cancelled.
        #[must_use]
        pub fn with_cancel(&self, cancel: &CancelToken) -> Self {
            Self { inner: self.inner.clone(), cancel: Some(cancel.clone()) }
        }
    };
}

/// The methods of locks that are not fenced.
macro_rules! options {
    () => {
        /// The name.
        pub fn name(&self) -> &str {
            self.inner.name()
        }

        /// See [`crate::Lock::lease`].
        #[must_use]
        pub fn lease(self, lease: Duration) -> Self {
            Self { inner: self.inner.lease(lease), ..self }
        }

        /// See [`crate::Lock::retry`].
        #[must_use]
        pub fn retry(self, pause: Duration) -> Self {
            Self { inner: self.inner.retry(pause), ..self }
        }

        /// See [`crate::Lock::hold_at_most`].
        #[must_use]
        pub fn hold_at_most(self, limit: Duration) -> Self {
            Self { inner: self.inner.hold_at_most(limit), ..self }
        }
    };
}

macro_rules! fenced {
    () => {
        /// The same lock, whose guards all have a fencing token.
        ///
        /// # Errors
        ///
        /// `Unsupported` at once if the backend gives no tokens.
        pub fn fenced(&self) -> Result<Fenced> {
            Ok(Fenced { inner: self.inner.fenced()?, cancel: self.cancel.clone() })
        }

        /// Acquires the lock, does the work, and releases. The work can't be interrupted: it asks its [`Held`] whether
        /// the lock is still there.
        ///
        /// # Errors
        ///
        /// As [`Self::acquire`], and `Lost` if the lock was lost before the work was done.
        pub fn run<T>(&self, work: impl FnOnce(Held) -> T) -> Result<T> {
            let guard = self.acquire()?;
            let held = guard.held();
            let done = work(held.clone());
            held.ensure_held()?;
            if let Err(error) = guard.release() {
                tracing::debug!(%error, "the release after the work goes on in the background");
            }
            Ok(done)
        }
    };
}

/// The blocking form of [`crate::Lock`].
#[derive(Debug, Clone)]
pub struct Lock {
    inner: crate::Lock,
    cancel: Option<CancelToken>,
}

impl Lock {
    acquires!(Guard, inner);
    options!();
    fenced!();
}

/// The blocking form of [`crate::Mutex`].
#[derive(Debug, Clone)]
pub struct Mutex {
    inner: crate::Mutex,
    cancel: Option<CancelToken>,
}

impl Mutex {
    acquires!(Guard, inner);
    options!();
    fenced!();
}

/// The blocking form of [`crate::Semaphore`].
#[derive(Debug, Clone)]
pub struct Semaphore {
    inner: crate::Semaphore,
    cancel: Option<CancelToken>,
}

impl Semaphore {
    acquires!(Guard, inner);
    options!();
    fenced!();

    /// How many permits there are.
    pub fn permits(&self) -> u32 {
        self.inner.permits()
    }
}

/// The blocking form of [`crate::Fenced`].
#[derive(Debug, Clone)]
pub struct Fenced {
    inner: crate::Fenced,
    cancel: Option<CancelToken>,
}

impl Fenced {
    acquires!(FencedGuard, inner);

    /// The name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }
}

/// The blocking form of [`crate::RwLock`].
#[derive(Debug, Clone)]
pub struct RwLock {
    inner: crate::RwLock,
    cancel: Option<CancelToken>,
}

/// One kind of acquire of a reader-writer lock, in its four forms.
macro_rules! side {
    ($guard:ident, $what:literal, $now:ident, $within:ident, $ever:ident, $timeout:ident) => {
        #[doc = concat!("Acquires a ", $what, " if it can be had now. `None`: others hold the lock.")]
        ///
        /// # Errors
        ///
        /// As the `async` form.
        pub fn $now(&self) -> Result<Option<$guard>> {
            Ok(block_on(self.inner.$now())?.map($guard))
        }

        #[doc = concat!("Acquires a ", $what, ", waiting at most this long; `None` if that was not enough.")]
        ///
        /// # Errors
        ///
        /// As the `async` form, and `Cancelled` by the token.
        pub fn $within(&self, limit: Duration) -> Result<Option<$guard>> {
            Ok(wait(self.cancel.as_ref(), self.inner.$within(limit))?.map($guard))
        }

        #[doc = concat!("Acquires a ", $what, ", waiting as long as it takes.")]
        ///
        /// # Errors
        ///
        /// As the `async` form, and `Cancelled` by the token.
        pub fn $ever(&self) -> Result<$guard> {
            wait(self.cancel.as_ref(), self.inner.$ever()).map($guard)
        }

        #[doc = concat!("Acquires a ", $what, ", waiting at most this long.")]
        ///
        /// # Errors
        ///
        /// As the `async` form: `TimedOut` if that was not enough; and `Cancelled` by the token.
        pub fn $timeout(&self, limit: Duration) -> Result<$guard> {
            wait(self.cancel.as_ref(), self.inner.$timeout(limit)).map($guard)
        }
    };
}

impl RwLock {
    side!(Guard, "read", try_read, try_read_for, read, read_timeout);
    side!(Guard, "write", try_write, try_write_for, write, write_timeout);
    side!(
        UpgradeableGuard,
        "read that can become a write",
        try_upgradeable_read,
        try_upgradeable_read_for,
        upgradeable_read,
        upgradeable_read_timeout
    );
    options!();

    /// The shared side.
    pub fn reader(&self) -> Lock {
        Lock { inner: self.inner.reader().clone(), cancel: self.cancel.clone() }
    }

    /// The exclusive side.
    pub fn writer(&self) -> Lock {
        Lock { inner: self.inner.writer().clone(), cancel: self.cancel.clone() }
    }

    /// The same lock, whose waits end with [`ErrorKind::Cancelled`] when the token is cancelled.
    #[must_use]
    pub fn with_cancel(&self, cancel: &CancelToken) -> Self {
        Self { inner: self.inner.clone(), cancel: Some(cancel.clone()) }
    }
}
