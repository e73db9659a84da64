//! Where locks come from.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::backend::{Backend, Finding, Holder, Inspection};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Engine, Wait};
use crate::memory::MemoryBackend;
use crate::primitives::{Lock, MultiGuard, Mutex, RwLock, Semaphore};
use crate::random::{Random, SystemRandom};
use crate::{Capabilities, Error, ErrorKind, LockOptions, Name, Primitive, Result, Target};

/// A backend and everything that this process does with it. Cheap to clone; clones share queues, connections and
/// renewals.
///
/// Waiters queue per `Locks`: make one per backend and process and clone it, rather than one per request.
#[derive(Clone)]
pub struct Locks {
    engine: Arc<Engine>,
    options: LockOptions,
}

/// Makes [`Locks`] on a backend, with other than the default surroundings.
#[must_use]
pub struct LocksBuilder {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    options: LockOptions,
    runtime: Option<Handle>,
}

impl LocksBuilder {
    /// The clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of owner ids and jitter. Default: [`SystemRandom`].
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The options of locks that name none of their own.
    pub fn options(mut self, options: LockOptions) -> Self {
        self.options = options;
        self
    }

    /// Runs connections, waits and renewals on this runtime instead of on a thread of the library's own. It must have
    /// I/O and time enabled, must not be starved by other work, and must outlive the locks: leases that can't be
    /// renewed are lost.
    ///
    /// It is faster where the callers are tasks of the same runtime, since no other thread has to be woken for each request:
    /// the row `postgres` of `cargo xtask bench` has both (`pair` and `runtime-pair`).
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Makes the locks. Nothing is connected yet.
    pub fn build(self) -> Locks {
        let engine = Engine::new(self.backend, self.clock, self.random, self.runtime);
        Locks { engine, options: self.options }
    }
}

impl fmt::Debug for LocksBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocksBuilder")
            .field("backend", &self.backend)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Locks {
    /// Locks on a backend.
    pub fn new(backend: impl Backend) -> Self {
        Self::builder(backend).build()
    }

    /// Locks on a backend, with other than the default surroundings.
    pub fn builder(backend: impl Backend) -> LocksBuilder {
        Self::builder_shared(Arc::new(backend))
    }

    /// As [`Self::builder`], of a backend that was chosen at run time.
    pub fn builder_shared(backend: Arc<dyn Backend>) -> LocksBuilder {
        LocksBuilder {
            backend,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom::new()),
            options: LockOptions::default(),
            runtime: None,
        }
    }

    /// Locks between the threads and tasks of this process, and of these `Locks` only: for tests and for programs of
    /// one process.
    pub fn memory() -> Self {
        Self::new(MemoryBackend::new())
    }

    /// A mutex. A bad name is an error of the first acquire.
    pub fn mutex(&self, name: impl AsRef<str>) -> Mutex {
        Mutex::new(&self.engine, &self.options, name.as_ref())
    }

    /// A reader-writer lock. A bad name is an error of the first acquire.
    pub fn rw_lock(&self, name: impl AsRef<str>) -> RwLock {
        RwLock::new(&self.engine, &self.options, name.as_ref())
    }

    /// A semaphore with this many permits. A bad name, or no permits at all, is an error of the first acquire.
    pub fn semaphore(&self, name: impl AsRef<str>, permits: u32) -> Semaphore {
        Semaphore::new(&self.engine, &self.options, name.as_ref(), permits)
    }

    /// A lock of a primitive that is chosen at run time.
    pub fn lock(&self, name: impl AsRef<str>, primitive: Primitive) -> Lock {
        Lock::new(&self.engine, &self.options, name.as_ref(), Ok(primitive))
    }

    /// These same locks, but with other options for those that name none of their own.
    #[must_use]
    pub fn with_options(&self, options: LockOptions) -> Self {
        Self { engine: self.engine.clone(), options }
    }

    /// Acquires several mutexes: sorted by the bytes of their names and without duplicates, so that two callers can't
    /// wait for each other; all or none.
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`](crate::Lock::acquire), for any of them; `Misconfigured` without any name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives back what was acquired so far.
    ///
    /// # Cost
    ///
    /// That of each lock, one after the other.
    pub async fn acquire_all<I>(&self, names: I) -> Result<MultiGuard>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        let all =
            crate::primitives::acquire_all(self.engine.clone(), self.options.clone(), names, Wait::Forever).await?;
        all.ok_or_else(|| Error::new(ErrorKind::Internal, "a wait without limit has ended"))
    }

    /// Acquires several mutexes if all can be had now; one attempt for each. `None`: one of them can't.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_all`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire_all`].
    ///
    /// # Cost
    ///
    /// As [`Self::acquire_all`].
    pub async fn try_acquire_all<I>(&self, names: I) -> Result<Option<MultiGuard>>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        crate::primitives::acquire_all(self.engine.clone(), self.options.clone(), names, Wait::No).await
    }

    /// Acquires several mutexes, waiting for all of them together at most this long; `None` if that was not enough.
    ///
    /// # Errors
    ///
    /// As [`Self::acquire_all`].
    ///
    /// # Cancel safety
    ///
    /// As [`Self::acquire_all`].
    ///
    /// # Cost
    ///
    /// As [`Self::acquire_all`].
    pub async fn try_acquire_all_for<I>(&self, names: I, limit: Duration) -> Result<Option<MultiGuard>>
    where
        I: IntoIterator + Send,
        I::Item: AsRef<str>,
    {
        crate::primitives::acquire_all(self.engine.clone(), self.options.clone(), names, limit.into()).await
    }

    /// The backend's technology, such as `"redis"`.
    pub fn backend_kind(&self) -> &'static str {
        self.engine.kind
    }

    /// What the backend can do, as it is configured.
    pub fn capabilities(&self) -> Capabilities {
        self.engine.capabilities.clone()
    }

    /// The options of locks that name none of their own.
    pub fn default_options(&self) -> LockOptions {
        self.options.clone()
    }

    fn target(&self, name: &str, primitive: Primitive) -> Result<Target> {
        let name = Name::new(name).map_err(|error| error.with_backend(self.engine.kind))?;
        Ok(Target { name, primitive })
    }

    /// What a name is called at the backend.
    ///
    /// # Errors
    ///
    /// `InvalidName`, or whatever the backend objects to.
    pub fn physical_name(&self, name: &str, primitive: Primitive) -> Result<String> {
        let target = self.target(name, primitive)?;
        self.engine.backend.physical_name(&target).map_err(|error| self.about(error, name))
    }

    fn about(&self, error: Error, name: &str) -> Error {
        error.with_lock(name).with_backend(self.engine.kind)
    }

    /// Asks whether the backend can be reached and used. Connecting is lazy otherwise.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `NoQuorum` or `Misconfigured`.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// A connection where there is none, and one round trip.
    pub async fn check(&self) -> Result<()> {
        self.engine.check_open()?;
        let backend = self.engine.backend.clone();
        self.ask(async move { backend.check().await }).await
    }

    /// Tells who holds a name, as far as the backend knows.
    ///
    /// # Errors
    ///
    /// `Unsupported`, or whatever keeps the backend from answering.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// One round trip.
    pub async fn inspect(&self, name: &str, primitive: Primitive) -> Result<Inspection> {
        let (target, backend) = (self.target(name, primitive)?, self.engine.backend.clone());
        self.ask(async move { backend.inspect(&target).await }).await.map_err(|error| self.about(error, name))
    }

    /// Lists the locks that the backend knows, held or not.
    ///
    /// # Errors
    ///
    /// `Unsupported`, or whatever keeps the backend from answering.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// Depends on the backend; it may read everything there is.
    pub async fn list(&self) -> Result<Vec<Inspection>> {
        let backend = self.engine.backend.clone();
        self.ask(async move { backend.list().await }).await
    }

    /// Breaks whatever holds there are of a primitive under a name, and returns those that were broken. Their holders
    /// are told as the backend's page says; until then they go on working. Fencing tokens go on increasing.
    ///
    /// # Errors
    ///
    /// `Unsupported`, or whatever keeps the backend from doing it.
    ///
    /// # Cancel safety
    ///
    /// It goes on in the background when the future is dropped.
    ///
    /// # Cost
    ///
    /// One round trip or two.
    pub async fn force_release(&self, name: &str, primitive: Primitive) -> Result<Vec<Holder>> {
        let (target, backend) = (self.target(name, primitive)?, self.engine.backend.clone());
        let broken = self.ask(async move { backend.force_release(&target).await }).await;
        broken.map_err(|error| self.about(error, name))
    }

    /// Looks whether the backend is set up safely, and tells what is not and what to do about it, the worst first. It
    /// changes nothing. What can't be looked at, for lack of rights say, is a note among the findings.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `NoQuorum` or `Misconfigured` if the backend can't be looked at, at all.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// A connection to each server, and some tens of small requests. Not for a program's hot path.
    pub async fn diagnose(&self) -> Result<Vec<Finding>> {
        self.engine.check_open()?;
        let backend = self.engine.backend.clone();
        let mut findings = self.ask(async move { backend.diagnose().await }).await?;
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(findings)
    }

    /// Asks the backend something: here if it is local, on the I/O thread otherwise.
    async fn ask<T: Send + 'static>(&self, question: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let answer = match self.engine.backend.local() {
            Some(_) => question.await,
            None => self.engine.on_io(question).await,
        };
        answer.map_err(|error| error.with_backend(self.engine.kind))
    }

    /// Refuses new acquires, ends waits with `Closed`, and waits until everything is given back that was on its way.
    /// Guards that are still out stay valid and release as ever; connections end with the last of them.
    ///
    /// # Errors
    ///
    /// None: what could not be given back is logged, and ends with its lease or session.
    ///
    /// # Cancel safety
    ///
    /// The locks are closed even if the future is dropped after its first poll; giving back goes on.
    ///
    /// # Cost
    ///
    /// At most 4 s, if the backend hangs; what is left to release otherwise.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("backend", &self.engine.backend).finish_non_exhaustive()
    }
}
