//! Gives back in the background: holds whose guards were dropped, and whatever abandoned attempts were granted. What
//! gathers while the I/O thread is busy goes out together.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tracing::Instrument;

use super::hold::guarded;
use super::select::within;
use super::{Engine, Hold};
use crate::backend::{Attempt, Holding, Released};
use crate::clock::{Sleep, Time};
use crate::primitives::Release;
use crate::sync::lock;
use crate::{Error, ErrorKind, Result};

/// How long giving back is tried where no lease bounds it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is tried at most.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type Reply = Option<oneshot::Sender<Result<Release>>>;

/// See the [module](self).
pub(super) struct Releaser {
    engine: Weak<Engine>,
    queued: Mutex<Jobs>,
    under_way: Arc<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    count: AtomicUsize,
    none: Notify,
}

/// Counts as something under way for as long as it lives.
pub(super) struct Pending(Arc<UnderWay>);

impl Drop for Pending {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[derive(Default)]
struct Jobs {
    releases: Vec<Owed>,
    /// Holds that are lost and accounted for.
    clean_ups: Vec<(Arc<Holding>, Pending)>,
    /// Attempts that may have been granted something.
    abandons: Vec<(Attempt, Pending)>,
}

impl Jobs {
    fn len(&self) -> usize {
        self.releases.len() + self.clean_ups.len() + self.abandons.len()
    }
}

/// A hold that is to be released. If nobody does so, because a task was dropped, it is accounted for all the same.
struct Owed {
    hold: Option<Arc<Hold>>,
    reply: Reply,
    _pending: Pending,
}

impl Owed {
    fn settle(&mut self, released: Result<Released>) {
        let Some(hold) = self.hold.take() else { return };
        let answer = hold.finish(released, false);
        if let Some(reply) = self.reply.take() {
            // Whoever dropped the release future doesn't want to know.
            let _ = reply.send(answer);
        }
    }

    fn lease(&self) -> Option<Duration> {
        self.hold.as_ref().and_then(|hold| hold.slot().spec.lease)
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.settle(Err(
            Error::new(ErrorKind::Closed, "the runtime that should have released the lock has ended").no_effect(false)
        ));
    }
}

impl Releaser {
    pub(super) fn new(engine: Weak<Engine>) -> Self {
        Self { engine, queued: Mutex::default(), under_way: Arc::default() }
    }

    pub(super) fn release(&self, hold: Arc<Hold>, reply: Reply) {
        let owed = Owed { hold: Some(hold), reply, _pending: self.begin() };
        self.push(|jobs| jobs.releases.push(owed));
    }

    pub(super) fn clean_up(&self, hold: &Hold) {
        let job = (hold.holding().clone(), self.begin());
        self.push(|jobs| jobs.clean_ups.push(job));
    }

    pub(super) fn abandon(&self, attempt: Attempt) {
        let job = (attempt, self.begin());
        self.push(|jobs| jobs.abandons.push(job));
    }

    /// Counts something as under way, for [`Self::idle`].
    pub(super) fn begin(&self) -> Pending {
        self.under_way.count.fetch_add(1, Ordering::AcqRel);
        Pending(self.under_way.clone())
    }

    /// How much is under way.
    pub(super) fn pending(&self) -> usize {
        self.under_way.count.load(Ordering::Acquire)
    }

    /// Waits until nothing is under way.
    pub(super) async fn idle(&self) {
        loop {
            let mut none = pin!(self.under_way.none.notified());
            none.as_mut().enable();
            if self.pending() == 0 {
                return;
            }
            none.await;
        }
    }

    fn push(&self, add: impl FnOnce(&mut Jobs)) {
        let Some(engine) = self.engine.upgrade() else { return };
        let first = {
            let mut queued = lock(&self.queued);
            add(&mut queued);
            queued.len() == 1
        };
        if !first {
            return;
        }
        let flush = Flush { engine: engine.clone(), ran: false };
        if let Err(error) = engine.spawn(flush.run()) {
            tracing::warn!(%error, lock.backend = engine.kind, "nothing can be given back in the background");
        }
    }
}

/// Sends out what is queued. If it never runs, what is queued is dropped with it and so accounted for.
struct Flush {
    engine: Arc<Engine>,
    ran: bool,
}

impl Flush {
    async fn run(mut self) {
        self.ran = true;
        let engine = self.engine.clone();
        let Jobs { releases, clean_ups, abandons } = std::mem::take(&mut *lock(&engine.releaser.queued));
        drop(self);
        let engine = &engine;
        // By far the most often there is but one release, which needs no task of its own.
        if releases.len() == 1 && clean_ups.is_empty() && abandons.is_empty() {
            let lease = releases[0].lease();
            let span =
                tracing::debug_span!("give_back", lock.backend = engine.kind, lock.count = 1, operation = "release");
            return release_all(engine.clone(), lease, releases).instrument(span).await;
        }
        // Apart by lease and kind: none of them is held up by another, or given less time than it has.
        for (lease, jobs) in grouped(releases, Owed::lease) {
            spawn(engine, "release", jobs.len(), release_all(engine.clone(), lease, jobs));
        }
        for (lease, jobs) in grouped(clean_ups, |(hold, _)| hold.attempt.spec.lease) {
            spawn(engine, "clean_up", jobs.len(), clean_up_all(engine.clone(), lease, jobs));
        }
        for (lease, jobs) in grouped(abandons, |(attempt, _)| attempt.spec.lease) {
            spawn(engine, "abandon", jobs.len(), abandon_all(engine.clone(), lease, jobs));
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if !self.ran {
            let left = std::mem::take(&mut *lock(&self.engine.releaser.queued));
            drop(left);
        }
    }
}

fn grouped<T>(jobs: Vec<T>, lease: impl Fn(&T) -> Option<Duration>) -> HashMap<Option<Duration>, Vec<T>> {
    let mut groups: HashMap<_, Vec<T>> = HashMap::new();
    for job in jobs {
        groups.entry(lease(&job)).or_default().push(job);
    }
    groups
}

fn spawn(engine: &Arc<Engine>, operation: &'static str, count: usize, task: impl Future<Output = ()> + Send + 'static) {
    let span = tracing::debug_span!("give_back", lock.backend = engine.kind, lock.count = count, operation);
    if let Err(error) = engine.spawn(task.instrument(span)) {
        tracing::warn!(%error, lock.backend = engine.kind, "nothing can be given back in the background");
    }
}

async fn release_all(engine: Arc<Engine>, lease: Option<Duration>, mut jobs: Vec<Owed>) {
    let mut effort = Effort::new(&engine, lease);
    loop {
        let holdings: Vec<_> =
            jobs.iter().filter_map(|job| job.hold.as_ref()).map(|hold| hold.holding().clone()).collect();
        let answers = within(&engine.clock, effort.limit, engine.backend.release(&holdings)).await;
        let mut answers = answers.unwrap_or_default().into_iter();
        let mut again = Vec::new();
        for mut job in jobs {
            match answers.next().unwrap_or_else(|| Err(effort.no_answer())) {
                Err(error) if error.is_retryable() && !effort.is_over(&engine) => {
                    // Who waits for the release is told now; giving back goes on behind it.
                    if let (Some(reply), Some(hold)) = (job.reply.take(), &job.hold) {
                        let _ = reply.send(Err(hold.slot().about(error)));
                    }
                    again.push(job);
                }
                answer => job.settle(answer),
            }
        }
        if again.is_empty() {
            return;
        }
        jobs = again;
        effort.pause(&engine).await;
    }
}

/// Once is enough here: what is left, if anything, ends with its lease.
async fn clean_up_all(engine: Arc<Engine>, lease: Option<Duration>, jobs: Vec<(Arc<Holding>, Pending)>) {
    let (holds, _pending): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let Some(local) = engine.backend.local() else {
        within(&engine.clock, engine.operation_limit(lease), engine.backend.release(&holds)).await;
        return;
    };
    for hold in &holds {
        if let Err(error) = guarded(|| local.release(hold)) {
            tracing::debug!(%error, "a lost hold could not be cleaned up");
        }
    }
}

async fn abandon_all(engine: Arc<Engine>, lease: Option<Duration>, jobs: Vec<(Attempt, Pending)>) {
    let mut effort = Effort::new(&engine, lease);
    let (mut attempts, mut pending): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    loop {
        let answers = within(&engine.clock, effort.limit, engine.backend.abandon(&attempts)).await;
        let mut answers = answers.unwrap_or_default().into_iter();
        let mut again = Vec::new();
        for attempt in attempts {
            match answers.next().unwrap_or_else(|| Err(effort.no_answer())) {
                Ok(()) => {}
                Err(error) if error.is_retryable() && !effort.is_over(&engine) => again.push(attempt),
                Err(error) => tracing::warn!(
                    %error,
                    lock.name = attempt.spec.target.name.as_str(),
                    lock.backend = engine.kind,
                    "an abandoned attempt could not be given back; the backend does so itself"
                ),
            }
        }
        pending.truncate(again.len());
        if again.is_empty() {
            return;
        }
        attempts = again;
        effort.pause(&engine).await;
    }
}

/// How long and how often something is tried.
struct Effort {
    limit: Duration,
    until: Time,
    pause: Duration,
}

impl Effort {
    fn new(engine: &Engine, lease: Option<Duration>) -> Self {
        Self {
            limit: engine.operation_limit(lease),
            until: engine.clock.now().after(lease.unwrap_or(PATIENCE).min(LONGEST_PATIENCE)),
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
