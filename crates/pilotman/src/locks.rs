//! Locks of a backend that is chosen at run time.

use std::fmt;
use std::ops::Deref;

use pilotman_core::backend::BoxFuture;
use pilotman_core::{LockProvider, Mutex, Result, RwLock, Semaphore};

use crate::Builder;

/// The environment variable that names the backend.
pub const BACKEND_VARIABLE: &str = "PILOTMAN_BACKEND";

/// A backend and everything that this process does with it, chosen at run time. Cheap to clone.
///
/// Its methods are those of [`pilotman_core::Locks`], to which it dereferences.
#[derive(Clone)]
pub struct Locks(pilotman_core::Locks);

impl Locks {
    /// Locks on the backend of a URL, such as `file:///var/lib/myjob/locks`, `redis://:password@10.0.0.5/2?lease=10s`,
    /// `redlock://10.0.0.1,10.0.0.2,10.0.0.3` or `memory://`. The [crate's page](crate) lists the schemes and their options.
    ///
    /// Redis can also be named as .NET programs do it: by a bare `127.0.0.1:6379`, or by a connection string of
    /// StackExchange.Redis, such as `contoso.redis.cache.windows.net:6380,password=…,ssl=True,abortConnect=False`.
    ///
    /// Servers are connected when they are first needed; [`check`](pilotman_core::Locks::check) asks at once.
    ///
    /// # Errors
    ///
    /// `Misconfigured` for a URL that can't be read, an unknown scheme or option (with the known ones), or options
    /// that contradict each other. The URL is never repeated in an error: it may hold a password.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing has been connected.
    ///
    /// # Cost
    ///
    /// Nothing is sent.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(url)
    }

    /// As [`Self::connect`], for code that is not `async`: nothing is awaited anyway.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn open(url: &str) -> Result<Self> {
        Self::builder().use_url(url).build()
    }

    /// Locks on the backend whose URL is in the environment variable `PILOTMAN_BACKEND`.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the variable is missing or its URL is refused as by [`Self::connect`].
    pub fn from_env() -> Result<Self> {
        Self::builder().use_env().build()
    }

    /// Typed set-up.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Locks between the threads and tasks of this process.
    pub fn memory() -> Self {
        pilotman_core::Locks::memory().into()
    }

    /// The same locks as the engine has them.
    pub fn as_core(&self) -> &pilotman_core::Locks {
        &self.0
    }
}

impl From<pilotman_core::Locks> for Locks {
    fn from(locks: pilotman_core::Locks) -> Self {
        Self(locks)
    }
}

impl Deref for Locks {
    type Target = pilotman_core::Locks;

    fn deref(&self) -> &pilotman_core::Locks {
        &self.0
    }
}

impl LockProvider for Locks {
    fn mutex(&self, name: &str) -> Mutex {
        self.0.mutex(name)
    }

    fn rw_lock(&self, name: &str) -> RwLock {
        self.0.rw_lock(name)
    }

    fn semaphore(&self, name: &str, permits: u32) -> Semaphore {
        self.0.semaphore(name, permits)
    }

    fn try_get<'a>(
        &'a self,
        name: &'a str,
        timeout: std::time::Duration,
    ) -> BoxFuture<'a, Result<Option<pilotman_core::Guard>>> {
        self.0.try_get(name, timeout)
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
