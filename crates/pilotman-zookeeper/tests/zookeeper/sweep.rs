//! What nobody renews and nobody gives back is removed all the same, while its session goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::ready;
use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Grant, Holding, Outcome, Prepared, Released, Renewal,
};
use pilotman_core::{Capabilities, Error, LockOptions, Locks, LossReason, Result, Target};
use pilotman_zookeeper::ZooKeeperBackend;

use crate::common::{LONG, client, eventually, options, queued, shared, unique};

/// Much longer than the lease: it is not the end of the session that frees the lock.
const SESSION: Duration = Duration::from_secs(50);
const LEASE: Duration = Duration::from_secs(1);

/// A backend that gives locks, and neither renews them nor gives them back.
#[derive(Debug)]
struct Careless(Arc<ZooKeeperBackend>);

fn no<T: Send + Sync + 'static>(holds: &[Arc<Holding>]) -> BoxFuture<'_, Vec<Result<T>>> {
    let refused = || Error::unavailable("for a test").retryable(false);
    Box::pin(ready(holds.iter().map(|_| Err(refused())).collect()))
}

impl Backend for Careless {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn start(&self, environment: Environment) {
        self.0.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        self.0.prepare(target, options)
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.0.physical_name(target)
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        self.0.check()
    }

    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        self.0.ready()
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        self.0.try_acquire(attempt)
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        self.0.enqueue(attempt)
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        self.0.abandon(attempts)
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        no(holds)
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        no(holds)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_lease_has_ended_is_swept_while_its_session_goes_on() {
    let (_server, port) = shared();
    let (witness, name) = (client(port).await, unique("sweep"));
    let path = format!("/{name}");
    let backend = Arc::new(ZooKeeperBackend::new(options(port).session_timeout(SESSION)).unwrap());
    let locks = Locks::new(Careless(backend.clone()));
    let start = Instant::now();
    let guard = locks.mutex(&name).lease(LEASE).acquire().await.unwrap();
    queued(&witness, &path, 1).await;
    // One lease of the session's length stays, so that what goes does not go with the session.
    let stays = locks.mutex(format!("{name}-stays")).acquire().await.unwrap();
    let reason = tokio::time::timeout(LONG, guard.lost()).await.expect("the loss is told");
    assert_eq!(reason, LossReason::Expired);
    queued(&witness, &path, 0).await;
    assert!(start.elapsed() < SESSION * 9 / 10, "{:?}", start.elapsed());
    assert!(backend.has_session() && stays.ensure_held().is_ok());
    // Once more, by an attempt that does not wait.
    drop(guard);
    let again = locks.mutex(&name).lease(LEASE);
    // With so short a lease a server on a busy machine may answer too late.
    eventually("it is had", || async { matches!(again.try_acquire().await, Ok(Some(_))) }).await;
    eventually("it is swept again", || async { crate::common::children(&witness, &path).await.is_empty() }).await;
    locks.close().await;
}
