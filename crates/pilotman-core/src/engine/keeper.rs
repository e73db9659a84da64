//! Renews leases: one loop per `Locks`, due ones together, from a third of the lease until its end.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::Instrument;

use super::select::{either, within};
use super::{Engine, Hold};
use crate::backend::{AttemptId, Renewal};
use crate::clock::{Sleep, Time};
use crate::sync::lock;
use crate::{Error, Result};

/// The longest pause after a failed renewal.
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Keeper {
    engine: Weak<Engine>,
    due: Mutex<Due>,
    earlier: Notify,
    running: AtomicBool,
    /// The engine is gone.
    ended: AtomicBool,
}

struct Due {
    holds: BTreeMap<(Time, AttemptId), Weak<Hold>>,
    times: HashMap<AttemptId, Time>,
    /// Until when the loop sleeps.
    asleep_until: Time,
}

impl Keeper {
    pub(super) fn new(engine: Weak<Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            due: Mutex::new(Due { holds: BTreeMap::new(), times: HashMap::new(), asleep_until: Time::ZERO }),
            earlier: Notify::new(),
            running: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// Has a hold renewed at `at`.
    pub(super) fn keep(self: &Arc<Self>, hold: &Arc<Hold>, at: Time) {
        {
            let mut due = lock(&self.due);
            if let Some(before) = due.times.insert(hold.id(), at) {
                due.holds.remove(&(before, hold.id()));
            }
            due.holds.insert((at, hold.id()), Arc::downgrade(hold));
            if at < due.asleep_until {
                self.earlier.notify_one();
            }
        }
        if !self.running.swap(true, Ordering::AcqRel) {
            let keeper = self.clone();
            let clock = hold.engine().clock.clone();
            let running = Running(self.clone());
            let spawned = hold.engine().spawn(async move {
                let _running = running;
                while !keeper.ended.load(Ordering::Acquire) {
                    keeper.round(&clock).await;
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "leases can't be renewed");
            }
        }
    }

    pub(super) fn forget(&self, hold: &Hold) {
        let mut due = lock(&self.due);
        if let Some(at) = due.times.remove(&hold.id()) {
            due.holds.remove(&(at, hold.id()));
        }
    }

    async fn round(&self, clock: &Arc<dyn crate::clock::Clock>) {
        let (batches, next) = self.take_due(clock.now());
        if let Some(engine) = self.engine.upgrade() {
            for (lease, batch) in batches {
                // A task each: a renewal that hangs holds up no other.
                let span = tracing::debug_span!("renew", lock.backend = engine.kind, lock.count = batch.len(), lock.lease = ?lease);
                if let Err(error) = engine.spawn(renew(engine.clone(), lease, batch).instrument(span)) {
                    tracing::error!(%error, "leases can't be renewed");
                }
            }
        }
        either(pin!(Sleep::until(clock.clone(), next)), pin!(self.earlier.notified())).await;
    }

    /// What is to be renewed now, by lease, and when to look again. What is due within a thirtieth of its lease goes
    /// along, so that renewals come in batches.
    fn take_due(&self, now: Time) -> (HashMap<Duration, Vec<Arc<Hold>>>, Time) {
        let mut batches: HashMap<Duration, Vec<Arc<Hold>>> = HashMap::new();
        let mut due = lock(&self.due);
        let mut taken = Vec::new();
        let overdue = due.holds.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        if overdue {
            for (&(at, id), weak) in &due.holds {
                let Some(hold) = weak.upgrade() else {
                    taken.push((at, id));
                    continue;
                };
                let Some(lease) = hold.slot().spec.lease else { continue };
                if at > now.after(lease / 30) {
                    break;
                }
                taken.push((at, id));
                if hold.is_live() {
                    batches.entry(lease).or_default().push(hold);
                }
            }
        }
        for (at, id) in taken {
            due.holds.remove(&(at, id));
            due.times.remove(&id);
        }
        let next = due.holds.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at);
        due.asleep_until = next;
        (batches, next)
    }
}

/// Lets the loop be started again if its runtime is shut down under it.
struct Running(Arc<Keeper>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.keeper.ended.store(true, Ordering::Release);
        self.keeper.earlier.notify_one();
    }
}

/// Renews holds that have the same lease, and applies what was found.
async fn renew(engine: Arc<Engine>, lease: Duration, holds: Vec<Arc<Hold>>) {
    let holdings: Vec<_> = holds.iter().map(|hold| hold.holding().clone()).collect();
    let limit = engine.operation_limit(Some(lease));
    let sent = engine.clock.now();
    let answers = within(&engine.clock, limit, engine.backend.renew(&holdings)).await.unwrap_or_default();
    let mut answers = answers.into_iter();
    for hold in holds {
        let answer = answers.next().unwrap_or_else(|| {
            Err(Error::unavailable(format!("the backend gave no answer to a renewal within {limit:?}")))
        });
        apply(&engine, lease, &hold, sent, answer);
    }
}

fn apply(engine: &Arc<Engine>, lease: Duration, hold: &Arc<Hold>, sent: Time, answer: Result<Renewal>) {
    if !hold.is_live() {
        return;
    }
    let labels = hold.slot().labels;
    match answer {
        Ok(Renewal::Renewed { valid_from }) => {
            labels.renewal("renewed", hold.remaining());
            let from = valid_from.unwrap_or(sent);
            hold.extend(from);
            engine.keeper.keep(hold, from.after(lease / 3));
        }
        Ok(Renewal::Gone(reason)) => {
            labels.renewal("gone", None);
            hold.lose(reason, None);
        }
        Err(error) => {
            labels.renewal("failed", None);
            tracing::warn!(error = %hold.slot().about(error), "a renewal failed and will be repeated");
            hold.set_at_risk(true);
            // Up to half as much again, so that many holds don't come back at the same moment.
            let pause = (lease / 12).min(LONGEST_RETRY);
            let jitter = Duration::from_nanos(engine.random.next() % (pause.as_nanos() as u64 / 2).max(1));
            engine.keeper.keep(hold, engine.clock.now().after(pause + jitter));
        }
    }
    // Released or lost meanwhile: what was just scheduled is not wanted.
    if !hold.is_live() {
        engine.keeper.forget(hold);
    }
}
