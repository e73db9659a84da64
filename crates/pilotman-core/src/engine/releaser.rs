//! Gives back in the background: holds whose guards were dropped, and whatever abandoned attempts were granted. What
//! gathers while the I/O thread is busy goes out together.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tracing::Instrument;

use super::select::within;
use super::{Engine, Hold};
use crate::backend::{Attempt, Holding};
use crate::clock::Sleep;
use crate::primitives::Release;
use crate::{Error, Result};

/// How long giving back is tried where no lease bounds it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type Reply = Option<oneshot::Sender<Result<Release>>>;

/// See the [module](self).
pub(super) struct Releaser {
    engine: Weak<Engine>,
    queued: Mutex<Vec<Job>>,
    /// Jobs that are queued or under way.
    pending: AtomicUsize,
    idle: Notify,
}

enum Job {
    /// Release a hold, and account for it.
    Release(Arc<Hold>, Reply),
    /// Release a hold that is lost and accounted for.
    CleanUp(Arc<Holding>),
    /// Give back what an attempt may have been granted.
    Abandon(Attempt),
}

impl Releaser {
    pub(super) fn new(engine: Weak<Engine>) -> Self {
        Self { engine, queued: Mutex::default(), pending: AtomicUsize::new(0), idle: Notify::new() }
    }

    pub(super) fn release(&self, hold: Arc<Hold>, reply: Reply) {
        self.push(Job::Release(hold, reply));
    }

    pub(super) fn clean_up(&self, hold: &Hold) {
        self.push(Job::CleanUp(hold.holding().clone()));
    }

    pub(super) fn abandon(&self, attempt: Attempt) {
        self.push(Job::Abandon(attempt));
    }

    /// How many jobs are not done.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// Waits until every job is done.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.pending() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn push(&self, job: Job) {
        let Some(engine) = self.engine.upgrade() else { return };
        self.pending.fetch_add(1, Ordering::AcqRel);
        let first = {
            let mut queued = self.queued.lock().unwrap();
            queued.push(job);
            queued.len() == 1
        };
        if !first {
            return;
        }
        let for_task = engine.clone();
        let spawned = engine.spawn(async move {
            let jobs = std::mem::take(&mut *for_task.releaser.queued.lock().unwrap());
            let span = tracing::debug_span!("give_back", lock.backend = for_task.kind, lock.count = jobs.len());
            for_task.releaser.work(&for_task, jobs).instrument(span).await;
        });
        if let Err(error) = spawned {
            // Without a thread nothing can be sent; the backend frees the holds itself when they end there.
            let jobs = std::mem::take(&mut *self.queued.lock().unwrap());
            for job in jobs {
                self.done(job, Err(error.clone()));
            }
        }
    }

    async fn work(&self, engine: &Arc<Engine>, jobs: Vec<Job>) {
        let (mut releases, mut clean_ups, mut abandons) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Release(hold, reply) => releases.push((hold, reply)),
                Job::CleanUp(holding) => clean_ups.push(holding),
                Job::Abandon(attempt) => abandons.push(attempt),
            }
        }
        if !releases.is_empty() {
            self.release_all(engine, releases).await;
        }
        if !clean_ups.is_empty() {
            // Once is enough: what is left, if anything, ends with its lease.
            let lease = clean_ups.iter().filter_map(|hold| hold.attempt.spec.lease).min();
            let limit = engine.operation_limit(lease);
            if engine.backend.local().is_none() {
                within(&engine.clock, limit, engine.backend.release(&clean_ups)).await;
            } else if let Some(local) = engine.backend.local() {
                for hold in &clean_ups {
                    if let Err(error) = local.release(hold) {
                        tracing::debug!(%error, "a lost hold could not be cleaned up");
                    }
                }
            }
            clean_ups.iter().for_each(|_| self.one_done());
        }
        if !abandons.is_empty() {
            self.abandon_all(engine, abandons).await;
        }
    }

    async fn release_all(&self, engine: &Arc<Engine>, mut jobs: Vec<(Arc<Hold>, Reply)>) {
        let mut effort = Effort::new(engine, jobs.iter().filter_map(|(hold, _)| hold.slot().spec.lease).min());
        loop {
            let holdings: Vec<_> = jobs.iter().map(|(hold, _)| hold.holding().clone()).collect();
            let answers = within(&engine.clock, effort.limit, engine.backend.release(&holdings)).await;
            let mut answers = answers.unwrap_or_default().into_iter();
            let mut again = Vec::new();
            for (hold, mut reply) in jobs {
                match answers.next().unwrap_or_else(|| Err(effort.no_answer())) {
                    Err(error) if error.is_retryable() && !effort.is_over(engine) => {
                        // Who waits for the release is told now; giving back goes on behind it.
                        if let Some(reply) = reply.take() {
                            let _ = reply.send(Err(hold.slot().about(error)));
                        }
                        again.push((hold, None));
                    }
                    answer => {
                        let answer = hold.finish(answer, false);
                        if let Some(reply) = reply {
                            // Whoever dropped the release future doesn't want to know.
                            let _ = reply.send(answer);
                        }
                        self.one_done();
                    }
                }
            }
            if again.is_empty() {
                return;
            }
            jobs = again;
            effort.pause(engine).await;
        }
    }

    async fn abandon_all(&self, engine: &Arc<Engine>, mut attempts: Vec<Attempt>) {
        let mut effort = Effort::new(engine, attempts.iter().filter_map(|attempt| attempt.spec.lease).min());
        loop {
            let answers = within(&engine.clock, effort.limit, engine.backend.abandon(&attempts)).await;
            let mut answers = answers.unwrap_or_default().into_iter();
            let mut again = Vec::new();
            for attempt in attempts {
                match answers.next().unwrap_or_else(|| Err(effort.no_answer())) {
                    Err(error) if error.is_retryable() && !effort.is_over(engine) => again.push(attempt),
                    answer => self.done(Job::Abandon(attempt), answer),
                }
            }
            if again.is_empty() {
                return;
            }
            attempts = again;
            effort.pause(engine).await;
        }
    }

    /// A job has ended other than by its regular way.
    fn done(&self, job: Job, answer: Result<()>) {
        if let Err(error) = answer {
            match job {
                Job::Release(hold, reply) => {
                    let answer = hold.finish(Err(error), false);
                    if let Some(reply) = reply {
                        let _ = reply.send(answer);
                    }
                }
                Job::CleanUp(_) => tracing::debug!(%error, "a lost hold could not be cleaned up"),
                Job::Abandon(attempt) => tracing::warn!(
                    %error,
                    lock.name = attempt.spec.target.name.as_str(),
                    "an abandoned attempt could not be given back; the backend does so itself"
                ),
            }
        }
        self.one_done();
    }

    fn one_done(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}

/// How long and how often something is tried.
struct Effort {
    limit: Duration,
    until: crate::clock::Time,
    pause: Duration,
}

impl Effort {
    fn new(engine: &Engine, lease: Option<Duration>) -> Self {
        Self {
            limit: engine.operation_limit(lease),
            until: engine.clock.now().after(lease.unwrap_or(PATIENCE).min(PATIENCE * 6)),
            pause: FIRST_PAUSE,
        }
    }

    fn is_over(&self, engine: &Engine) -> bool {
        engine.clock.now() >= self.until
    }

    fn no_answer(&self) -> Error {
        Error::unavailable(format!("the backend gave no answer within {:?}", self.limit))
    }

    async fn pause(&mut self, engine: &Engine) {
        Sleep::new(engine.clock.clone(), self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
