//! The quorum as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
    Renewal, Spec,
};
use pilotman_core::random::{Random, SystemRandom};
use pilotman_core::{
    Capabilities, Error, Fencing, LeaseBounds, LockOptions, Primitive, Result, Target, Votes, Waiting,
};

use super::hold::{Lost, Nodes, QuorumHold};
use super::lock::{QuorumLock, lease, needed};
use super::options::Redlock;
use super::set::Quorum;
use super::status::QuorumStatus;
use super::{contest, inspect, release, renew, tokens};
use crate::backend::RedisBackend;
use crate::process;
use crate::waiting::OPERATION;

/// Locks on a quorum of independent Redis nodes.
pub struct RedlockBackend {
    quorum: Arc<Quorum>,
    registry: Lost,
}

/// Tells which nodes of a quorum are up; see [`RedlockBackend::watch`].
#[derive(Clone)]
pub struct QuorumWatch(Arc<Quorum>);

impl QuorumWatch {
    /// The state of the nodes, as far as this process knows. Nothing is asked for it.
    pub fn status(&self) -> QuorumStatus {
        self.0.status()
    }
}

impl fmt::Debug for QuorumWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QuorumWatch").field(&self.status()).finish()
    }
}

impl RedlockBackend {
    /// Locks on these nodes. Nothing is connected before the first lock, or [`Locks::check`](pilotman_core::Locks::check).
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `Unsupported` without nodes, with one twice, or with options that contradict each other.
    pub fn new(redlock: Redlock) -> Result<Self> {
        redlock.check().map_err(|error| error.with_backend("redlock"))?;
        let count = redlock.nodes.len();
        if count == 1 {
            tracing::warn!(lock.backend = "redlock", "one node is no quorum: locks end with it");
        } else if count.is_multiple_of(2) {
            tracing::info!(
                lock.backend = "redlock",
                "{count} nodes tolerate no more failures than {} would",
                count - 1
            );
        }
        let process = process::name(SystemRandom::new().next());
        Ok(Self { quorum: Quorum::new(redlock, process), registry: Lost::new() })
    }

    /// Tells which nodes are up, while the locks are in use.
    pub fn watch(&self) -> QuorumWatch {
        QuorumWatch(self.quorum.clone())
    }

    fn limit(lease: Duration) -> Duration {
        OPERATION.min(lease / 6) * 3 / 4
    }

    fn lock(&self, target: &Target) -> QuorumLock {
        QuorumLock::new(&self.quorum.members, target)
    }
}

impl fmt::Debug for RedlockBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedlockBackend").field("options", &self.quorum.options).finish_non_exhaustive()
    }
}

fn hold_of(holding: &Holding) -> Option<&Arc<QuorumHold>> {
    holding.state::<Arc<QuorumHold>>()
}

impl Backend for RedlockBackend {
    fn kind(&self) -> &'static str {
        "redlock"
    }

    fn capabilities(&self) -> Capabilities {
        let longest = self.quorum.options.longest_lease;
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = self.quorum.options.semaphores;
        capabilities.writer_preference = true;
        capabilities.fifo = true;
        capabilities.fencing = Fencing::Free;
        capabilities.fencing_scope = "Restarts, failovers and any rotation of the quorum. After a loss of data on a \
                                      majority of the nodes as long as the nodes' clocks agree, in their middle, to \
                                      within the time between two grants.";
        capabilities.waiting = Waiting::Queue;
        capabilities.lease = Some(LeaseBounds::new(
            RedisBackend::SHORTEST_LEASE,
            longest,
            Some(RedisBackend::DEFAULT_LEASE.min(longest)),
        ));
        capabilities.loss = true;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within = Duration::from_millis(250);
        capabilities.inspect = true;
        capabilities.force_release = true;
        capabilities
    }

    fn start(&self, environment: Environment) {
        self.registry.report_to(environment.events.clone());
        self.quorum.start(environment, self.registry.clone());
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        let _ = options;
        Ok(Arc::new(self.lock(target)))
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        let Primitive::Permit(permits) = primitive else { return None };
        let nodes = self.quorum.members.len();
        let quorum = needed(nodes, primitive);
        Some(
            Error::unsupported(format!(
                "a semaphore of {permits} permits needs {quorum} of {nodes} nodes, so that it would bear {} of them failing \
                 where a mutex bears {}",
                nodes - quorum,
                nodes - self.quorum.majority()
            ))
            .with_advice("allow it all the same with Redlock::semaphores or semaphores=true, or use a single Redis"),
        )
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(self.lock(target).keys[0].lock.clone())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.quorum.check())
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        let nodes: Vec<_> =
            self.quorum.members.iter().map(|member| (member.label.clone(), member.node.clone())).collect();
        Box::pin(async move { crate::doctor::diagnose_quorum(&nodes).await })
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        if self.quorum.is_ready() {
            return None;
        }
        Some(Box::pin(self.quorum.ready()))
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(contest::attempt(&self.quorum, &self.registry, attempt))
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(contest::wait(&self.quorum, &self.registry, attempt))
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(join_all(attempts.iter().map(|attempt| async move {
            let limit = Self::limit(lease(attempt));
            release::everywhere(&self.quorum, attempt, (Nodes::MAX, Nodes::MAX), limit).await.map(drop)
        })))
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(renew::renew(&self.quorum, holds))
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(join_all(holds.iter().map(|holding| async move {
            let touched = hold_of(holding).map_or(Nodes::MAX, |hold| hold.touched());
            let stands = hold_of(holding).map_or(Nodes::MAX, |hold| hold.end());
            let limit = Self::limit(lease(&holding.attempt));
            release::everywhere(&self.quorum, &holding.attempt, (touched, stands), limit).await
        })))
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(tokens::next(&self.quorum, &hold.attempt, Self::limit(lease(&hold.attempt))))
    }

    fn votes(&self, hold: &Holding) -> Option<Votes> {
        Some(hold_of(hold)?.votes(self.quorum.members.iter().map(|member| member.label.clone())))
    }

    fn refusal(&self, spec: &Spec) -> Option<Votes> {
        spec.prepared::<QuorumLock>().refusal()
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(async move { inspect::inspect(&self.quorum, &self.lock(target), target).await })
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(async move { inspect::force_release(&self.quorum, &self.lock(target)).await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.quorum.close())
    }
}
