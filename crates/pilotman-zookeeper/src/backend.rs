//! ZooKeeper as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Holder, Holding, Inspection, Outcome, Prepared, Released,
    Renewal,
};
use pilotman_core::{
    Capabilities, Error, Fencing, LeaseBounds, LockOptions, LossReason, Primitive, Result, Target, Waiting,
};

use crate::grant;
use crate::layout::{Kind, Layout};
use crate::link::Link;
use crate::options::ZooKeeper;
use crate::place::{Place, Removed, Shape, ZkLock};
use crate::renewal;
use crate::{doctor, failure, inspect, names, observe, owner, path, waiting};

/// Locks on a ZooKeeper ensemble. See the [crate](crate).
pub struct ZooKeeperBackend {
    link: Arc<Link>,
    shape: Arc<Shape>,
}

impl ZooKeeperBackend {
    /// Locks of this ensemble. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the options can't work.
    pub fn new(zookeeper: ZooKeeper) -> Result<Self> {
        zookeeper.check().map_err(|error| error.with_backend("zookeeper"))?;
        let shape = Shape {
            layout: zookeeper.layout,
            acl: zookeeper.acl.iter().map(crate::AccessControl::to_acl).collect(),
            assume_path_exists: zookeeper.assume_path_exists,
            owner: owner::name(),
        };
        Ok(Self { link: Arc::new(Link::new(zookeeper)), shape: Arc::new(shape) })
    }

    /// Whether a session is open at the moment.
    pub fn has_session(&self) -> bool {
        self.link.open_session().is_some()
    }

    fn lock(&self, target: &Target) -> Result<Arc<ZkLock>> {
        if let Some(error) = self.unsupported(target.primitive) {
            return Err(error);
        }
        let unsupported = || Error::unsupported(format!("ZooKeeper has no {} locks", target.primitive));
        let kind = Kind::of(target.primitive).ok_or_else(unsupported)?;
        let ZooKeeper { directory, names: rule, .. } = &self.link.zookeeper;
        let path = path::child(directory, &names::node_name(target.name.as_str(), directory, *rule)?);
        Ok(Arc::new(ZkLock { path, kind, primitive: target.primitive, shape: self.shape.clone() }))
    }
}

impl fmt::Debug for ZooKeeperBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperBackend").field("link", &self.link).finish_non_exhaustive()
    }
}

fn place_of(hold: &Holding) -> Result<&Arc<Place>> {
    hold.state::<Arc<Place>>().ok_or_else(|| Error::lost(LossReason::Gone))
}

impl Backend for ZooKeeperBackend {
    fn kind(&self) -> &'static str {
        "zookeeper"
    }

    fn capabilities(&self) -> Capabilities {
        let timeout = self.link.zookeeper.session_timeout;
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = self.shape.layout == Layout::DotNet;
        capabilities.writer_preference = true;
        capabilities.fifo = true;
        capabilities.fencing = Fencing::Free;
        capabilities.fencing_scope = "Restarts, elections and whatever else the ensemble survives: tokens are numbers of \
                                      its transactions. Not after a restore of a backup, or in another ensemble.";
        capabilities.waiting = Waiting::Queue;
        capabilities.lease = Some(LeaseBounds::new(ZooKeeper::SHORTEST_LEASE, timeout, Some(timeout)));
        capabilities.loss = true;
        capabilities.cross_process = true;
        // The servers end a session up to a tick late, and hear late that it was alive.
        capabilities.frees_dead_holder_within = timeout + Duration::from_secs(4);
        capabilities.inspect = true;
        capabilities.list = true;
        capabilities.force_release = true;
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        match (primitive, self.shape.layout) {
            (Primitive::Permit(_), Layout::Curator) => Some(
                Error::unsupported("there are no semaphores in the layout of Curator")
                    .with_advice("use the layout of the .NET library (layout=dotnet)"),
            ),
            _ => None,
        }
    }

    fn start(&self, environment: Environment) {
        self.link.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        let _ = options;
        Ok(Arc::new(self.lock(target)?))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(self.lock(target)?.path.clone())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let session = self.link.session().await?;
            // A write, which needs a leader and its quorum.
            session.ask_leader().await.map_err(|error| failure::of_request(error, "/").no_effect(true))
        })
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        if self.has_session() {
            return None;
        }
        Some(Box::pin(async { self.link.session().await.map(drop) }))
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(waiting::try_once(&self.link, attempt))
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<pilotman_core::backend::Grant>> {
        Box::pin(waiting::wait(&self.link, attempt))
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(join_all(attempts.iter().map(|attempt| async move {
            let Some(place) = self.link.place(attempt.id) else { return Ok(()) };
            place.remove().await?;
            self.link.note_parent(&place.lock);
            Ok(())
        })))
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(renewal::renew(holds))
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(join_all(holds.iter().map(|hold| async move {
            let place = place_of(hold)?;
            let ended = place.loss();
            Ok(match place.remove().await? {
                Removed::Removed => {
                    self.link.note_parent(&place.lock);
                    Released::Free { others_wait: false }
                }
                Removed::Missing => Released::Gone(ended.or_else(|| place.loss()).unwrap_or(LossReason::Gone)),
            })
        })))
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let place = place_of(hold)?;
            grant::mint(place).await.map_err(|error| match place.loss() {
                Some(reason) => Error::lost(reason),
                None => error,
            })
        })
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        place_of(hold).ok()?.loss()
    }

    fn observe(&self, hold: &Arc<Holding>) {
        if let Ok(place) = place_of(hold) {
            observe::observe(&self.link, place);
        }
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move {
            let lock = self.lock(target)?;
            let session = self.link.session().await?;
            inspect::inspect(&session.client, &lock, target).await
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async {
            let session = self.link.session().await?;
            let ZooKeeper { layout, directory, names, .. } = &self.link.zookeeper;
            inspect::list(&session.client, *layout, directory, *names).await
        })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move {
            let lock = self.lock(target)?;
            let session = self.link.session().await?;
            inspect::force_release(&session.client, &lock).await
        })
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        Box::pin(doctor::diagnose(&self.link))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.link.close())
    }
}
