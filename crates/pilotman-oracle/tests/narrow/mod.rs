//! The backend without what a database's views are needed for.

use std::sync::Arc;

use pilotman_core::backend::{Attempt, Backend, BoxFuture, Environment, Grant, Holding, Outcome, Prepared, Released};
use pilotman_core::{Capabilities, Error, LockOptions, LossReason, Primitive, Result, Target};
use pilotman_oracle::OracleBackend;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Narrow(pub(crate) OracleBackend);

impl Backend for Narrow {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        (capabilities.inspect, capabilities.list, capabilities.force_release) = (false, false, false);
        capabilities
    }

    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        self.0.unsupported(primitive)
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

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        self.0.release(holds)
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        self.0.mint(hold)
    }

    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        self.0.upgrade(hold)
    }

    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        self.0.try_upgrade(hold)
    }

    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        self.0.verify(hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        self.0.observe(hold);
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}
