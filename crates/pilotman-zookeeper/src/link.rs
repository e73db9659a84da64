//! The one session of a `Locks`, opened when it is needed and again when it has ended.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pilotman_core::backend::{AttemptId, Environment};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};

use crate::options::ZooKeeper;
use crate::parents::Parents;
use crate::place::{Place, ZkLock};
use crate::session::{Session, lock};
use crate::{connect, keeper};

/// How long the end of a `Locks` may take to clear away what is empty.
const LAST: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(crate) struct Link {
    pub(crate) zookeeper: ZooKeeper,
    environment: OnceLock<Environment>,
    current: Mutex<Option<Arc<Session>>>,
    /// Sessions that have ended, or are idle, may still have places that are being given back.
    opening: tokio::sync::Mutex<()>,
    pub(crate) parents: Arc<Parents>,
    closed: AtomicBool,
    /// The one that drives the session, for calls from elsewhere.
    runtime: Mutex<Option<tokio::runtime::Handle>>,
}

impl Link {
    pub(crate) fn new(zookeeper: ZooKeeper) -> Self {
        Self {
            zookeeper,
            environment: OnceLock::new(),
            current: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
            parents: Arc::default(),
            closed: AtomicBool::new(false),
            runtime: Mutex::new(None),
        }
    }

    pub(crate) fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.environment.set(environment);
    }

    pub(crate) fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    /// The session, if one is open.
    pub(crate) fn open_session(&self) -> Option<Arc<Session>> {
        lock(&self.current).as_ref().filter(|session| !session.has_ended()).cloned()
    }

    /// The session; opens it if need be. Whoever is dropped meanwhile leaves that to the next.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Arc<Session>> {
        if let Some(session) = self.open_session() {
            return Ok(session);
        }
        let _opening = self.opening.lock().await;
        if let Some(session) = self.open_session() {
            return Ok(session);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the locks are closed"));
        }
        let session = connect::open(&self.zookeeper, self.environment()?).await?;
        *lock(&self.current) = Some(session.clone());
        *lock(&self.runtime) = Some(tokio::runtime::Handle::current());
        tokio::spawn(keeper::keep(Arc::downgrade(self), session.clone()));
        Ok(session)
    }

    pub(crate) fn runtime(&self) -> Option<tokio::runtime::Handle> {
        lock(&self.runtime).clone()
    }

    /// A place for an attempt, in the session that is open.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        id: AttemptId,
        zk_lock: &Arc<ZkLock>,
        lease: Option<Duration>,
    ) -> Result<Arc<Place>> {
        loop {
            let session = self.session().await?;
            session.allows(lease.unwrap_or(session.asked()))?;
            if let Some(place) = Place::enter(&session, id, zk_lock) {
                return Ok(place);
            }
            self.forget(&session);
        }
    }

    /// The place of an attempt, if it has one.
    pub(crate) fn place(&self, id: AttemptId) -> Option<Arc<Place>> {
        lock(&self.current).as_ref()?.place(id)
    }

    /// This session is no longer to be used.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|other| Arc::ptr_eq(other, session)) {
            *current = None;
        }
    }

    /// Gives back a place's node, and notes what may be empty then.
    pub(crate) fn note_parent(&self, zk_lock: &ZkLock) {
        let shape = &zk_lock.shape;
        if !shape.assume_path_exists
            && shape.layout == crate::Layout::DotNet
            && let Ok(environment) = self.environment()
        {
            self.parents.note(&zk_lock.path, environment.clock.now());
        }
    }

    /// Ends the session, after removing what is empty.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let Some(session) = self.open_session() else { return };
        if let Ok(environment) = self.environment() {
            tokio::select! {
                () = self.parents.remove(&session.client, None, |path| session.uses(path)) => {}
                () = Sleep::new(environment.clock.clone(), LAST) => {
                    tracing::debug!("empty nodes of locks stay, since the servers don't answer");
                }
            }
        }
        self.forget(&session);
        session.closing.notify_one();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(session) = lock(&self.current).take() {
            session.closing.notify_one();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("zookeeper", &self.zookeeper)
            .field("session", &self.open_session())
            .finish_non_exhaustive()
    }
}
