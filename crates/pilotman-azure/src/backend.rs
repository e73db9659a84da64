//! Azure Blob Storage as the engine sees it.

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Finding, Grant, Holder, Holding, Inspection, Outcome, Prepared, Released,
    Renewal,
};
use pilotman_core::{
    Capabilities, Error, Fencing, LeaseBounds, LockOptions, LossReason, Primitive, Result, Target, Waiting,
};

use crate::blob::Blob;
use crate::flights::Flights;
use crate::hold::{self, BlobLease, Lock, lease_id};
use crate::options::AzureBlob;
use crate::store::{Store, asked, within};
use crate::{doctor, inspect, tokens, watch};

/// So many requests for holds of one batch are under way at once, each on a connection of its own.
const AT_ONCE: usize = 64;
/// A batch has as much time as one operation.
const OPERATION: Duration = Duration::from_secs(2);
/// How long looking at one lock may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long looking at many may take, and at how the container is set up.
const LONG_LOOK: Duration = Duration::from_secs(60);

/// Locks by blob leases. See the [crate](crate).
pub struct AzureBackend {
    store: Arc<Store>,
    flights: Flights,
}

impl AzureBackend {
    /// The shortest lease that Azure has.
    pub const SHORTEST_LEASE: Duration = Duration::from_secs(15);
    /// The longest lease that Azure has, besides one without an end.
    pub const LONGEST_LEASE: Duration = Duration::from_secs(60);
    /// The lease of locks that name none.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

    /// Locks in this container. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// `Misconfigured` for options that contradict each other, or if nothing shows that the account may be used.
    pub fn new(azure: AzureBlob) -> Result<Self> {
        let store = Store::new(azure).map_err(|error| error.with_backend("azure"))?;
        Ok(Self { store: Arc::new(store), flights: Flights::default() })
    }

    fn lock(&self, target: &Target, token: bool) -> Result<Lock> {
        match target.primitive {
            Primitive::Mutex => {}
            other => return Err(unsupported(other)),
        }
        Ok(Lock { blob: Arc::new(self.store.blob(target.name.as_str())?), token })
    }

    fn blob(&self, target: &Target) -> Result<Arc<Blob>> {
        Ok(self.lock(target, false)?.blob)
    }

    async fn renew_one(&self, hold: &Holding) -> Result<Renewal> {
        // Those that wait for a connection are not sent when the engine makes the call.
        let sent = self.store.environment().map(|environment| environment.clock.now());
        let blob = &lock_of(&hold.attempt).blob;
        Ok(match hold::renew(&self.store, blob, &lease_id(hold.attempt.id)).await? {
            true => Renewal::Renewed { valid_from: sent },
            false => Renewal::Gone(LossReason::Gone),
        })
    }

    async fn release_one(&self, hold: &Holding) -> Result<Released> {
        let blob = &lock_of(&hold.attempt).blob;
        Ok(match hold::release(&self.store, blob, &lease_id(hold.attempt.id), lease_of(hold)?).await? {
            true => Released::Free { others_wait: true },
            false => Released::Gone(LossReason::Gone),
        })
    }
}

fn unsupported(primitive: Primitive) -> Error {
    Error::unsupported(format!(
        "Azure Blob Storage has no {primitive} locks: a blob has one lease, and what a dead process wrote beside it would stay"
    ))
    .with_advice("use a mutex, or a backend that has them (redis, postgres)")
}

impl fmt::Debug for AzureBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AzureBackend").field(&self.store).finish()
    }
}

fn lock_of(attempt: &Attempt) -> &Lock {
    attempt.spec.prepared()
}

/// What was put into the grant.
fn lease_of(hold: &Holding) -> Result<&BlobLease> {
    hold.state().ok_or_else(|| Error::new(pilotman_core::ErrorKind::Internal, "a hold has lost its lease's state"))
}

/// Does something to each of several, as many at once as there are connections, and for as long as the engine waits for all of
/// them. Those that it doesn't come to fail, and are asked for again.
async fn each<T>(
    store: &Store,
    lease: Option<Duration>,
    mut requests: Vec<impl Future<Output = Result<T>> + Send>,
) -> Vec<Result<T>> {
    if requests.len() == 1
        && let Some(one) = requests.pop()
    {
        return vec![one.await];
    }
    let limit = OPERATION.min(lease.unwrap_or(AzureBackend::LONGEST_LEASE) / 6) * 3 / 4;
    let unanswered = || Err(Error::unavailable(format!("the service did not come to it within {limit:?}")));
    let mut results: Vec<_> = requests.iter().map(|_| unanswered()).collect();
    let numbered = requests.into_iter().enumerate().map(|(at, request)| async move { (at, request.await) });
    let all = stream::iter(numbered).buffer_unordered(AT_ONCE).for_each(|(at, done)| {
        results[at] = done;
        ready(())
    });
    // Whatever was answered by then counts.
    let _ = within(store.environment(), limit, all).await;
    results
}

impl Backend for AzureBackend {
    fn kind(&self) -> &'static str {
        "azure"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.mutex = true;
        capabilities.fencing = Fencing::OnRequest;
        capabilities.fencing_scope = "As durable as the blob: as long as nobody removes it. After a failover to another \
                                      region as far as that had been copied.";
        capabilities.waiting = Waiting::Poll;
        let default = self.store.options.lease;
        capabilities.lease = Some(LeaseBounds::new(Self::SHORTEST_LEASE, Self::LONGEST_LEASE, default));
        capabilities.loss = true;
        capabilities.cross_process = true;
        // Who waits looks as often as that.
        capabilities.frees_dead_holder_within = Duration::from_secs(1);
        capabilities.inspect = true;
        capabilities.list = self.store.container().is_some();
        capabilities.force_release = true;
        capabilities.unverified = Some(
            "Azure itself, and with it soft delete, immutability policies, failovers and the tokens of Entra ID: nothing was \
             tried there. Tried: Azurite 3.35.",
        );
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        (primitive != Primitive::Mutex).then(|| unsupported(primitive))
    }

    fn start(&self, environment: Environment) {
        self.store.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        Ok(Arc::new(self.lock(target, options.token)?))
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        Ok(self.blob(target)?.name.clone())
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(asked(&self.store, LOOK, inspect::check(&self.store)))
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        match self.store.is_ready() {
            true => None,
            false => Some(Box::pin(self.store.prepare())),
        }
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let taken = self.flights.attempt(&self.store, attempt).await?;
            Ok(match taken {
                // The lease counts from when the engine made the call: before its first byte.
                Some(taken) => Outcome::Granted(Grant {
                    token: taken.token,
                    state: Some(Box::new(taken.lease)),
                    ..Grant::default()
                }),
                None => Outcome::Contended { retry_after: None },
            })
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        let lease = attempts.first().and_then(|attempt| attempt.spec.lease);
        let settle = |attempt: &'a Attempt| {
            let is_settled = self.flights.is_settled(attempt);
            async move {
                match is_settled {
                    true => Ok(()),
                    false => self.flights.settle(&self.store, attempt).await,
                }
            }
        };
        Box::pin(each(&self.store, lease, attempts.iter().map(settle).collect()))
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        let lease = holds.first().and_then(|hold| hold.attempt.spec.lease);
        Box::pin(each(&self.store, lease, holds.iter().map(|hold| self.renew_one(hold)).collect()))
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        let lease = holds.first().and_then(|hold| hold.attempt.spec.lease);
        Box::pin(each(&self.store, lease, holds.iter().map(|hold| self.release_one(hold)).collect()))
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let blob = &lock_of(&hold.attempt).blob;
            tokens::next(&self.store, blob, &lease_id(hold.attempt.id), lease_of(hold)?).await
        })
    }

    fn lease_id(&self, hold: &Holding) -> Option<String> {
        Some(lease_id(hold.attempt.id))
    }

    fn observe(&self, hold: &Arc<Holding>) {
        if hold.attempt.spec.lease.is_some() {
            return;
        }
        let (store, lock) = (self.store.clone(), lock_of(&hold.attempt).clone());
        self.flights.spawn(watch::look_after(store, lock, Arc::downgrade(hold)));
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        Box::pin(asked(
            &self.store,
            LOOK,
            async move { inspect::inspect(&self.store, target, &*self.blob(target)?).await },
        ))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(asked(&self.store, LONG_LOOK, inspect::list(&self.store)))
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        Box::pin(asked(
            &self.store,
            LOOK,
            async move { inspect::force_release(&self.store, &*self.blob(target)?).await },
        ))
    }

    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        Box::pin(asked(&self.store, LONG_LOOK, doctor::diagnose(&self.store)))
    }
}
