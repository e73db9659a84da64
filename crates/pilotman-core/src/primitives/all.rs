//! Several mutexes at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::guard::{Guard, HoldState, Release};
use super::lock::Mutex;
use crate::engine::{Engine, Wait};
use crate::{Error, LockOptions, LossReason, Result};

/// Several mutexes, held together. Dropping it gives all of them back, in reverse order.
#[derive(Debug)]
#[must_use = "the locks are given back as soon as the guard is dropped"]
pub struct MultiGuard {
    guards: Vec<Guard>,
}

impl MultiGuard {
    /// The guards, sorted by the bytes of their names.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// The names, sorted by their bytes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.guards.iter().map(Guard::name)
    }

    /// The worst state of any of them.
    pub fn state(&self) -> HoldState {
        let rank = |state: &HoldState| match state {
            HoldState::Held => 0,
            HoldState::AtRisk => 1,
            HoldState::Lost => 2,
            HoldState::Released => 3,
        };
        self.guards.iter().map(Guard::state).max_by_key(rank).unwrap_or(HoldState::Held)
    }

    /// How long all of them are held at least; see [`Guard::remaining`].
    pub fn remaining(&self) -> Option<Duration> {
        self.guards.iter().filter_map(Guard::remaining).min()
    }

    /// Fails if any of them is no longer held.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost), for the first one that is lost.
    pub fn ensure_held(&self) -> Result<()> {
        self.guards.iter().try_for_each(Guard::ensure_held)
    }

    /// Completes when the first of them is lost, with its name and the reason. Never completes after a release.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    ///
    /// # Cost
    ///
    /// As [`Guard::lost`], for each.
    pub fn lost(&self) -> impl Future<Output = (String, LossReason)> + Send + 'static {
        let mut all: Vec<_> =
            self.guards.iter().map(|guard| (guard.name().to_owned(), Box::pin(guard.lost()))).collect();
        std::future::poll_fn(move |cx| {
            for (name, lost) in &mut all {
                if let Poll::Ready(reason) = Pin::new(lost).poll(cx) {
                    return Poll::Ready((std::mem::take(name), reason));
                }
            }
            Poll::Pending
        })
    }

    /// Gives all of them back, in reverse order.
    ///
    /// # Errors
    ///
    /// The first error of any [`Guard::release`]; all of them are given back nevertheless.
    ///
    /// # Cancel safety
    ///
    /// As [`Guard::release`].
    ///
    /// # Cost
    ///
    /// That of [`Guard::release`], for each.
    pub async fn release(mut self) -> Result<Release> {
        let mut answer = Ok(Release::Released);
        while let Some(guard) = self.guards.pop() {
            match (guard.release().await, &answer) {
                (Ok(Release::Released), _) | (_, Err(_)) => {}
                (Ok(lost), Ok(_)) => answer = Ok(lost),
                (Err(error), Ok(_)) => answer = Err(error),
            }
        }
        answer
    }
}

impl Drop for MultiGuard {
    fn drop(&mut self) {
        while self.guards.pop().is_some() {}
    }
}

/// Acquires all, sorted and without duplicates, within one time limit. What was acquired is given back if one fails.
pub(crate) async fn acquire_all<I>(
    engine: Arc<Engine>,
    options: LockOptions,
    names: I,
    wait: Wait,
) -> Result<Option<MultiGuard>>
where
    I: IntoIterator + Send,
    I::Item: AsRef<str>,
{
    let mutexes: Vec<_> = {
        let names: BTreeSet<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        names.iter().map(|name| Mutex::new(&engine, &options, name)).collect()
    };
    if mutexes.is_empty() {
        return Err(
            Error::misconfigured("no names were given, so there is nothing to acquire").with_backend(engine.kind)
        );
    }
    // A name that can't be locked is told before the first one is.
    for mutex in &mutexes {
        mutex.prepare()?;
    }
    let start = engine.clock.now();
    let mut all = MultiGuard { guards: Vec::with_capacity(mutexes.len()) };
    for mutex in &mutexes {
        let wait = match wait {
            Wait::For(limit) => match limit.saturating_sub(engine.clock.now().since(start)) {
                Duration::ZERO => return Ok(None),
                rest => Wait::For(rest),
            },
            wait => wait,
        };
        match mutex.tenancy(wait).await? {
            Some(tenancy) => all.guards.push(Guard(tenancy)),
            None => return Ok(None),
        }
    }
    // While one was waited for, another one may have been lost.
    all.ensure_held()?;
    Ok(Some(all))
}
