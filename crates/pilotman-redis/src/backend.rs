//! The backend as the engine sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
    Renewal,
};
use pilotman_core::random::{Random, SystemRandom};
use pilotman_core::{Capabilities, Error, Fencing, LeaseBounds, LockOptions, LossReason, Result, Target, Waiting};
use redis::Value;

use crate::failure::nonsense;
use crate::lock::{Kind, RedisLock, Reply, millis};
use crate::node::Node;
use crate::options::RedisNode;
use crate::waiting::OPERATION;
use crate::{doctor, inspect, process, scripts, waiting};

/// As many holds are renewed by one script at most: it must not keep others from the server for long.
const BATCH: usize = 128;

/// Locks on one Redis or Valkey.
pub struct RedisBackend {
    node: Arc<Node>,
}

impl RedisBackend {
    /// The shortest lease: below it there is no time for renewals on a real network.
    pub const SHORTEST_LEASE: Duration = Duration::from_millis(100);
    /// The longest lease.
    pub const LONGEST_LEASE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// The lease of locks that name none.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// Locks on this Redis. Nothing is connected before the first lock, or [`Locks::check`](pilotman_core::Locks::check).
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `Unsupported` for options that contradict each other.
    pub fn new(node: RedisNode) -> Result<Self> {
        node.check().map_err(|error| error.with_backend("redis"))?;
        let process = process::name(SystemRandom::new().next());
        Ok(Self { node: Node::new(node, process, scripts::all().to_vec()) })
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("node", &self.node.spec).finish_non_exhaustive()
    }
}

/// A hold and its place among those that are to be renewed.
type Nth = (usize, Arc<Holding>);

fn lock_of(attempt: &Attempt) -> &RedisLock {
    attempt.spec.prepared()
}

impl RedisBackend {
    fn lock(&self, target: &Target) -> RedisLock {
        RedisLock::new(&self.node.spec.key_format, self.node.spec.is_clustered(), target)
    }

    /// Bounds one exchange by the response time-out, where one is set; the engine has its own limit.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match self.node.spec.response_timeout {
            Some(limit) if self.node.is_connected() => waiting::within(&self.node, limit, work).await,
            _ => work.await,
        }
    }

    /// Bounds one of several exchanges that the engine asks for at once and whose time it limits together: one server of a
    /// cluster that hangs must not take the answers of the others along.
    async fn apart<T>(&self, lease: Option<Duration>, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let limit = OPERATION.min(lease.unwrap_or(Self::DEFAULT_LEASE) / 6) * 3 / 4;
        let limit = self.node.spec.response_timeout.map_or(limit, |set| set.min(limit));
        waiting::within(&self.node, limit, work).await
    }

    async fn release_one(&self, hold: &Holding) -> Result<Released> {
        let lock = lock_of(&hold.attempt);
        Ok(match self.bounded(lock.release(&self.node, hold.attempt.id, None)).await? {
            // The queue has given it to whoever was first.
            true => Released::Free { others_wait: false },
            false => Released::Gone(LossReason::Gone),
        })
    }

    /// Renews holds of one family in one script; in a cluster, of one slot.
    async fn renew_batch(&self, mutexes: bool, holds: &[Nth]) -> Result<Vec<Renewal>> {
        let Some((_, first)) = holds.first() else { return Ok(Vec::new()) };
        let lease = millis(first.attempt.spec.lease.unwrap_or(Self::DEFAULT_LEASE)).to_string();
        let members: Vec<_> = holds.iter().map(|(_, hold)| lock_of(&hold.attempt).member(hold.attempt.id)).collect();
        let arguments: Vec<&str> = std::iter::once(lease.as_str()).chain(members.iter().map(String::as_str)).collect();
        let mut keys = Vec::with_capacity(2 * holds.len());
        for (_, hold) in holds {
            let of_lock = &lock_of(&hold.attempt).keys;
            keys.push(of_lock.lock.as_str());
            if !mutexes {
                keys.push(of_lock.details.as_str());
            }
        }
        let script = if mutexes { &scripts::MUTEX_RENEW } else { &scripts::SHARED_RENEW };
        let sent = self.node.now();
        let answer = self.node.run(script, lock_of(&first.attempt).keys.slot, &keys, &arguments).await?;
        let Value::Array(parts) = &answer.value else { return Err(nonsense("a renewal", &answer.value)) };
        if parts.len() != holds.len() + 2 {
            return Err(nonsense("a renewal", &answer.value));
        }
        self.node.read_current_clock(&parts[..2], sent);
        self.node.confirm(&answer.live).await?;
        let found = parts[2..].iter().map(|found| match found {
            Value::Int(1) => Renewal::Renewed { valid_from: Some(sent) },
            _ => Renewal::Gone(LossReason::Gone),
        });
        Ok(found.collect())
    }
}

impl Backend for RedisBackend {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.rw_lock = true;
        capabilities.semaphore = true;
        capabilities.writer_preference = true;
        capabilities.fifo = true;
        capabilities.fencing = Fencing::Free;
        capabilities.fencing_scope = "Restarts, failovers and loss of data included, as long as the servers' clocks \
                                      agree to within the time between two grants.";
        capabilities.waiting = Waiting::Queue;
        capabilities.lease =
            Some(LeaseBounds::new(Self::SHORTEST_LEASE, Self::LONGEST_LEASE, Some(Self::DEFAULT_LEASE)));
        capabilities.loss = true;
        capabilities.cross_process = true;
        capabilities.frees_dead_holder_within = Duration::from_millis(250);
        capabilities.inspect = true;
        capabilities.list = !self.node.spec.is_clustered();
        capabilities.force_release = true;
        capabilities
    }

    fn start(&self, environment: Environment) {
        let events = environment.events.clone();
        self.node.start(environment, move |id| events.lost(id, LossReason::Gone));
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        let _ = options;
        Ok(Arc::new(self.lock(target)))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(self.lock(target).keys.lock)
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { waiting::asked(&self.node, self.node.command(&redis::cmd("PING"))).await.map(drop) })
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        if self.node.is_connected() {
            return None;
        }
        Some(Box::pin(async { self.node.live().await.map(drop) }))
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let sent = self.node.now();
            match self.bounded(lock_of(attempt).acquire(&self.node, attempt, None)).await? {
                (Reply::Ours { token }, live) => {
                    self.node.confirm(&live).await?;
                    Ok(Outcome::Granted(Grant { token: Some(token), valid_from: Some(sent), ..Grant::default() }))
                }
                (Reply::Others { left, .. }, _) => Ok(Outcome::Contended { retry_after: left }),
            }
        })
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(waiting::wait(&self.node, lock_of(attempt), attempt))
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(join_all(attempts.iter().map(|attempt| async move {
            let lock = lock_of(attempt);
            let place = lock.place(attempt, &self.node.process);
            self.apart(attempt.spec.lease, lock.release(&self.node, attempt.id, place.as_ref())).await.map(drop)
        })))
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(async move {
            let clustered = self.node.spec.is_clustered();
            let mut groups: BTreeMap<(bool, u16), Vec<Nth>> = BTreeMap::new();
            for (at, hold) in holds.iter().enumerate() {
                let lock = lock_of(&hold.attempt);
                let slot = if clustered { lock.keys.slot } else { 0 };
                groups.entry((lock.kind == Kind::Mutex, slot)).or_default().push((at, hold.clone()));
            }
            let batches: Vec<_> = groups
                .iter()
                .flat_map(|((mutexes, _), group)| group.chunks(BATCH).map(|batch| (*mutexes, batch)))
                .collect();
            // All at once: they go out one behind the other on the same connection.
            let renewals = batches.iter().map(|&(mutexes, batch)| {
                let lease = batch.first().and_then(|(_, hold)| hold.attempt.spec.lease);
                self.apart(lease, self.renew_batch(mutexes, batch))
            });
            let answers = join_all(renewals).await;
            let mut results: Vec<Result<Renewal>> = Vec::new();
            results.resize_with(holds.len(), || Err(nonsense("a renewal", &Value::Nil)));
            for ((_, batch), answer) in batches.iter().zip(answers) {
                for (nth, (at, _)) in batch.iter().enumerate() {
                    results[*at] = answer.as_ref().map(|found| found[nth].clone()).map_err(Error::clone);
                }
            }
            results
        })
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move {
            match holds {
                [one] => vec![self.release_one(one).await],
                many => {
                    join_all(many.iter().map(|hold| self.apart(hold.attempt.spec.lease, self.release_one(hold)))).await
                }
            }
        })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let minted = self.bounded(lock_of(&hold.attempt).mint(&self.node, hold.attempt.id)).await?;
            let (token, live) = minted.ok_or_else(|| Error::lost(LossReason::Gone))?;
            self.node.confirm(&live).await?;
            Ok(token)
        })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(waiting::asked(&self.node, inspect::inspect(&self.node, self.lock(target), target)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(inspect::list(&self.node))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(waiting::asked(&self.node, inspect::force_release(&self.node, self.lock(target))))
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        Box::pin(doctor::diagnose(&self.node))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.node.close() })
    }
}
