//! The object-safe form of [`Locks`], for applications that hold it as a dependency.

use std::fmt;
use std::time::Duration;

use crate::backend::BoxFuture;
use crate::primitives::{Guard, Mutex, RwLock, Semaphore};
use crate::{Locks, Result};

/// Something that gives locks. Applications keep an `Arc<dyn LockProvider>`; tests put
/// [`Locks::memory`] in its place, or a type of their own that wraps one and counts, delays or refuses.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use pilotman_core::{LockProvider, Locks};
///
/// struct Billing {
///     locks: Arc<dyn LockProvider>,
/// }
///
/// # async fn example() -> pilotman_core::Result<()> {
/// let billing = Billing { locks: Arc::new(Locks::memory()) };
/// if let Some(guard) = billing.locks.try_get("invoice:42", Duration::from_secs(10)).await? {
///     guard.ensure_held()?;
/// }
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
pub trait LockProvider: fmt::Debug + Send + Sync + 'static {
    /// A mutex; see [`Locks::mutex`].
    fn mutex(&self, name: &str) -> Mutex;

    /// A reader-writer lock; see [`Locks::rw_lock`].
    fn rw_lock(&self, name: &str) -> RwLock;

    /// A semaphore; see [`Locks::semaphore`].
    fn semaphore(&self, name: &str, permits: u32) -> Semaphore;

    /// Acquires a mutex, waiting at most `timeout` for it: [`Lock::try_acquire_for`](crate::Lock::try_acquire_for) in
    /// one call.
    fn try_get<'a>(&'a self, name: &'a str, timeout: Duration) -> BoxFuture<'a, Result<Option<Guard>>> {
        let mutex = self.mutex(name);
        Box::pin(async move { mutex.try_acquire_for(timeout).await })
    }
}

impl LockProvider for Locks {
    fn mutex(&self, name: &str) -> Mutex {
        Self::mutex(self, name)
    }

    fn rw_lock(&self, name: &str) -> RwLock {
        Self::rw_lock(self, name)
    }

    fn semaphore(&self, name: &str, permits: u32) -> Semaphore {
        Self::semaphore(self, name, permits)
    }
}
