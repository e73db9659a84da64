//! A hold: its state, its loss, its way back.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::{Back, Driver};
use super::{Engine, Slot, driver};
use crate::backend::{Attempt, AttemptId, Grant, Holding, Released};
use crate::clock::{Alarm, Time};
use crate::metrics::Stopwatch;
use crate::primitives::{HoldState, Release};
use crate::sync::{Wakers, lock, wake_all};
use crate::{Error, ErrorKind, Fencing, LossReason, Result, Waiting};

/// A hold of this process. It may have several tenants one after the other: each local hand-off begins a new tenancy.
pub(crate) struct Hold {
    slot: Arc<Slot>,
    holding: Arc<Holding>,
    /// The number of the tenancy that is current; a tenant with another number holds nothing any longer.
    tenure: AtomicU32,
    /// The end of the lease less drift, as a [`Time`].
    deadline: AtomicU64,
    at_risk: AtomicBool,
    /// How often the lease was renewed.
    renewals: AtomicU64,
    observed: AtomicBool,
    /// An upgrade was asked for, so that what the next holder would get is not what it asked for.
    upgraded: AtomicBool,
    /// Others are due a turn.
    exhausted: AtomicBool,
    fate: Mutex<Fate>,
}

/// What happened to a hold so far.
#[derive(Default)]
struct Fate {
    loss: Option<LossReason>,
    /// Given back to the backend, or on the way there.
    released: bool,
    /// Those who want to be told of a loss.
    wakers: Wakers,
    /// The end of the tenancy, where the options limit it.
    limit: Option<Alarm>,
}

/// The time by which a lease ends for us before it ends for others: 1 % for clocks that run at different speeds, and
/// 2 ms for their resolution.
pub(super) fn drift(lease: Duration) -> Duration {
    lease / 100 + Duration::from_millis(2)
}

/// Calls a backend on this thread. Its panic is an error like any other: what is to be accounted for afterwards is.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the backend panicked")))
}

/// The right to a hold. Dropping it gives the hold back.
pub(crate) struct Tenancy {
    /// Always there but in the moment of being given back.
    hold: Option<Arc<Hold>>,
    tenure: u32,
    token: Option<u64>,
    since: Stopwatch,
}

/// How a tenancy ended.
pub(crate) enum Ended {
    /// It is known already.
    Now(Result<Release>),
    /// The backend will tell.
    Later(oneshot::Receiver<Result<Release>>),
}

impl Hold {
    /// Makes a hold of what the backend granted to an attempt that was sent at `sent`. The slot's queue must have
    /// counted it already.
    pub(super) fn take(slot: &Arc<Slot>, attempt: Attempt, grant: Grant, sent: Time) -> Result<Tenancy> {
        let engine = &slot.engine;
        let token = grant.token;
        let deadline = match slot.spec.lease {
            Some(lease) => {
                let first = grant.lease.unwrap_or(lease).min(lease);
                grant.valid_from.unwrap_or(sent).after(first).before(drift(first))
            }
            None => Time::NEVER,
        };
        let hold = Arc::new(Self {
            slot: slot.clone(),
            holding: Arc::new(Holding { attempt, state: grant.state }),
            tenure: AtomicU32::new(0),
            deadline: AtomicU64::new(deadline.as_nanos()),
            at_risk: AtomicBool::new(false),
            renewals: AtomicU64::new(0),
            observed: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            fate: Mutex::default(),
        });
        if engine.reports() {
            engine.report_to(&hold);
        }
        let tenancy = Tenancy { hold: Some(hold.clone()), tenure: 0, token, since: Stopwatch::start(&*engine.clock) };
        if token.is_none() && hold.needs_token() {
            return Err(slot.about(Error::new(ErrorKind::Internal, "the backend granted a hold without its token")));
        }
        if let Some(lease) = slot.spec.lease {
            let from = grant.valid_from.unwrap_or(sent);
            if engine.clock.now() >= deadline {
                return Err(slot.about(
                    Error::unavailable("the backend took longer to grant the lock than a hold lasts")
                        .with_advice("ask for a longer lease"),
                ));
            }
            engine.deadlines.watch(&hold, deadline);
            engine.keeper.keep(&hold, from.after(grant.lease.unwrap_or(lease).min(lease) / 3));
        }
        tenancy.begin();
        Ok(tenancy)
    }

    pub(crate) fn id(&self) -> AttemptId {
        self.holding.attempt.id
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.slot.engine
    }

    pub(crate) fn holding(&self) -> &Arc<Holding> {
        &self.holding
    }

    /// Whether each tenant gets a token.
    pub(super) fn needs_token(&self) -> bool {
        self.slot.spec.options.token || self.slot.engine.capabilities.fencing == Fencing::Free
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        lock(&self.fate)
    }

    pub(super) fn deadline(&self) -> Time {
        Time::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// Whether it still has to be renewed and watched.
    pub(super) fn is_live(&self) -> bool {
        let fate = self.fate();
        !fate.released && fate.loss.is_none()
    }

    pub(super) fn set_at_risk(&self, at_risk: bool) {
        if self.at_risk.swap(at_risk, Ordering::AcqRel) != at_risk && self.is_live() {
            let remaining = self.remaining();
            if at_risk {
                tracing::warn!(
                    lock.name = self.slot.spec.target.name.as_str(),
                    lock.backend = self.slot.engine.kind,
                    lock.remaining_ms = remaining.map(|remaining| remaining.as_millis() as u64),
                    "at risk: a renewal failed"
                );
            } else {
                tracing::info!(
                    lock.name = self.slot.spec.target.name.as_str(),
                    lock.backend = self.slot.engine.kind,
                    "held safely again"
                );
            }
        }
    }

    /// The lease was renewed; it counts from `valid_from`.
    pub(super) fn extend(&self, valid_from: Time) {
        let Some(lease) = self.slot.spec.lease else { return };
        let now = self.slot.engine.clock.now();
        let old = self.deadline();
        // What has ended stays ended, however late a good answer comes.
        if now >= old {
            return;
        }
        let deadline = valid_from.after(lease).before(drift(lease));
        if self.deadline.fetch_max(deadline.as_nanos(), Ordering::AcqRel) < deadline.as_nanos() {
            self.renewals.fetch_add(1, Ordering::Relaxed);
            self.set_at_risk(false);
        }
    }

    /// How often the lease was renewed.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    /// How long the hold lasts at least; `None`: it doesn't expire.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let limit = self.fate().limit.map_or(Time::NEVER, |alarm| alarm.at);
        let deadline = self.deadline().min(limit);
        (deadline != Time::NEVER).then(|| deadline.since(self.slot.engine.clock.now()))
    }

    /// The state as the tenant of number `tenure` sees it.
    pub(crate) fn state(self: &Arc<Self>, tenure: u32) -> (HoldState, Option<LossReason>) {
        self.expire_if_due();
        {
            let fate = self.fate();
            if self.tenure.load(Ordering::Acquire) != tenure {
                return (HoldState::Released, None);
            }
            // A loss stays one when the guard is dropped: others who look need to know.
            if let Some(reason) = &fate.loss {
                return (HoldState::Lost, Some(reason.clone()));
            }
        }
        if let Some(reason) = self.slot.engine.backend.verify(&self.holding) {
            self.lose(reason.clone(), None);
            return (HoldState::Lost, Some(reason));
        }
        match self.at_risk.load(Ordering::Acquire) {
            true => (HoldState::AtRisk, None),
            false => (HoldState::Held, None),
        }
    }

    /// Marks the hold lost if its deadline has passed. Timers do this too; who asks need not wait for them.
    pub(super) fn expire_if_due(self: &Arc<Self>) {
        let deadline = self.deadline();
        if deadline != Time::NEVER && self.slot.engine.clock.now() >= deadline {
            self.lose(LossReason::Expired, None);
        }
    }

    /// The hold is lost, for the tenant of this number only if one is given. Lost is final; so is released.
    pub(super) fn lose(self: &Arc<Self>, reason: LossReason, tenure: Option<u32>) {
        let wakers = {
            let mut fate = self.fate();
            let stale = tenure.is_some_and(|tenure| tenure != self.tenure.load(Ordering::Acquire));
            if fate.loss.is_some() || fate.released || stale {
                return;
            }
            fate.loss = Some(reason.clone());
            fate.wakers.take()
        };
        self.slot.labels.lost(reason.as_str());
        tracing::warn!(
            lock.name = self.slot.spec.target.name.as_str(),
            lock.backend = self.slot.engine.kind,
            lock.primitive = self.slot.spec.target.primitive.as_str(),
            lock.loss = reason.as_str(),
            "lost"
        );
        wake_all(wakers);
        self.unregister();
        match reason {
            // Told first, given back second.
            LossReason::HoldLimit => drop(self.give_to_backend(false, false)),
            // Until the lease ends there, nobody else comes in; that is left as it is for a tenant that is slow to stop.
            LossReason::Expired => self.returned(false),
            // The tenant may not know yet, but others of this process may stand in line for the successor, and what is
            // left of the hold must not be in their way.
            _ => {
                if let Some(local) = self.slot.engine.backend.local()
                    && let Err(error) = guarded(|| local.release(&self.holding))
                {
                    tracing::debug!(error = %self.slot.about(error), "a lost hold could not be cleaned up");
                }
                self.returned(false);
            }
        }
    }

    /// Waits for the loss, for the tenant of this number. After a release it waits for ever. `id` is the waiter's own.
    pub(crate) fn poll_lost(
        self: &Arc<Self>,
        tenure: u32,
        id: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<LossReason> {
        let current = |hold: &Self| hold.tenure.load(Ordering::Acquire) == tenure;
        if current(self) && self.is_live() && !self.observed.swap(true, Ordering::AcqRel) {
            self.slot.engine.report_to(self);
            self.slot.engine.backend.observe(&self.holding);
            if !self.is_live() {
                self.slot.engine.forget_report(self);
            }
        }
        self.expire_if_due();
        let mut fate = self.fate();
        if !current(self) {
            return Poll::Pending;
        }
        if let Some(reason) = &fate.loss {
            return Poll::Ready(reason.clone());
        }
        if !fate.released {
            fate.wakers.set(id, cx.waker());
        }
        Poll::Pending
    }

    /// Whoever polled for the loss no longer waits.
    pub(crate) fn forget_waker(&self, id: u64) {
        let waker = self.fate().wakers.remove(id);
        drop(waker);
    }

    /// From now on the hold may be more than what was acquired.
    pub(crate) fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    fn unregister(&self) {
        if self.slot.spec.lease.is_some() {
            self.slot.engine.deadlines.forget(self);
            self.slot.engine.keeper.forget(self);
        }
        if self.slot.engine.reports() || self.observed.load(Ordering::Acquire) {
            self.slot.engine.forget_report(self);
        }
    }

    /// The hold is no longer this process's.
    pub(super) fn returned(&self, others_wait: bool) {
        self.yield_if(others_wait);
        let driver = self.slot.queue().returned();
        self.slot.engine.hold_ended();
        if driver == Driver::Start {
            driver::start(&self.slot);
        }
    }

    /// Lets others go first if they were seen waiting. Those who poll may take half a second to come, so for them only
    /// when they are due a turn.
    fn yield_if(&self, others_wait: bool) {
        let polled = self.slot.engine.capabilities.waiting == Waiting::Poll;
        if others_wait && (!polled || self.exhausted.load(Ordering::Relaxed)) {
            self.slot.let_others_go_first(&*self.slot.engine.clock);
        }
    }

    /// Releases at the backend: at once if that is a local call, in the background otherwise.
    fn give_to_backend(self: &Arc<Self>, answer: bool, accounted: bool) -> Ended {
        if let Some(local) = self.slot.engine.backend.local() {
            return Ended::Now(self.finish(guarded(|| local.release(&self.holding)), accounted));
        }
        let (reply, ended) = if answer {
            let (reply, receiver) = oneshot::channel();
            (Some(reply), Ended::Later(receiver))
        } else {
            (None, Ended::Now(Ok(Release::Released)))
        };
        self.slot.engine.releaser.release(self.clone(), reply);
        ended
    }

    /// The backend has answered a release, for good or ill.
    pub(super) fn finish(self: &Arc<Self>, released: Result<Released>, accounted: bool) -> Result<Release> {
        let others_wait = matches!(released, Ok(Released::Free { others_wait: true }));
        let answer = match released {
            Ok(Released::Free { .. }) => Ok(Release::Released),
            Ok(Released::Gone(reason)) => Ok(Release::AlreadyLost(reason)),
            Err(error) => {
                let error = self.slot.about(error);
                self.slot.labels.background_error("release");
                tracing::warn!(%error, "a release failed; the backend frees the lock itself");
                Err(error)
            }
        };
        if !accounted {
            self.returned(others_wait);
            return answer;
        }
        self.yield_if(others_wait);
        self.slot.engine.hold_ended();
        answer
    }
}

impl Tenancy {
    pub(crate) fn hold(&self) -> &Arc<Hold> {
        self.hold.as_ref().expect("a tenancy has its hold until it ends")
    }

    pub(crate) fn tenure(&self) -> u32 {
        self.tenure
    }

    pub(crate) fn token(&self) -> Option<u64> {
        self.token
    }

    pub(super) fn set_token(&mut self, token: u64) {
        self.token = Some(token);
    }

    /// Starts what is counted per tenant.
    fn begin(&self) {
        let hold = self.hold();
        let spec = &hold.slot.spec;
        if let Some(limit) = spec.options.hold_at_most {
            let waker = Waker::from(Arc::new(Limit { hold: Arc::downgrade(hold), tenure: self.tenure }));
            let alarm = hold.slot.engine.clock.arm(hold.slot.engine.clock.now().after(limit), waker);
            hold.fate().limit = Some(alarm);
        }
        tracing::debug!(
            lock.name = spec.target.name.as_str(),
            lock.backend = hold.slot.engine.kind,
            lock.primitive = spec.target.primitive.as_str(),
            lock.token = self.token,
            "acquired"
        );
    }

    /// Ends the tenancy: the next waiter of this process or the backend gets the hold.
    pub(crate) fn end(mut self) -> Ended {
        self.give_back(true)
    }

    /// As [`Self::end`]; who wants no answer is spared its cost.
    fn give_back(&mut self, answer: bool) -> Ended {
        let Some(hold) = self.hold.take() else { return Ended::Now(Ok(Release::Released)) };
        let slot = &*hold.slot;
        let engine = &*slot.engine;
        if engine.is_forked() {
            // The hold is the parent's. Not even its memory may be freed: that could close what the parent shares.
            std::mem::forget(hold);
            return Ended::Now(Err(Error::new(ErrorKind::Closed, "the hold is the parent process's, not this one's")));
        }
        slot.labels.held(self.since, &*engine.clock);
        hold.expire_if_due();
        let begun = Stopwatch::start(&*engine.clock);
        let healthy = !hold.at_risk.load(Ordering::Acquire) && !hold.upgraded.load(Ordering::Acquire);
        let mut verified = false;
        let (mut fate, mut queue) = loop {
            let mut fate = hold.fate();
            if let Some(reason) = fate.loss.clone() {
                let released = std::mem::replace(&mut fate.released, true);
                let (limit, wakers) = (fate.limit.take(), fate.wakers.take());
                drop(fate);
                drop(wakers);
                if let Some(alarm) = limit {
                    engine.clock.disarm(alarm);
                }
                tracing::debug!(lock.name = slot.spec.target.name.as_str(), "released after its loss");
                if !released && reason != LossReason::HoldLimit {
                    // Harmless if nothing is there any longer, and it frees what is: a release removes only its own
                    // hold.
                    engine.releaser.clean_up(&hold);
                }
                return Ended::Now(Ok(Release::AlreadyLost(reason)));
            }
            let queue = slot.queue();
            if verified || queue.len() == 0 {
                break (fate, queue);
            }
            drop((queue, fate));
            // What is gone must not be handed on. Where nobody waits, that is for the release to find out.
            verified = true;
            if let Some(reason) = engine.backend.verify(&hold.holding) {
                hold.lose(reason, None);
            }
        };
        let tenure = self.tenure.wrapping_add(1);
        if queue.is_exhausted() {
            hold.exhausted.store(true, Ordering::Relaxed);
        }
        let back = match (healthy, engine.backend.local()) {
            (false, _) => Back::Owed,
            (true, Some(_)) => queue.hand_on_or_return(),
            (true, None) => queue.hand_on().map_or(Back::Owed, Back::Next),
        };
        if matches!(back, Back::Next(_)) && !queue.wanted() {
            slot.changed.notify_one();
        }
        drop(queue);
        let (limit, wakers) = (fate.limit.take(), fate.wakers.take());
        hold.tenure.store(tenure, Ordering::Release);
        fate.released = !matches!(back, Back::Next(_));
        drop(fate);
        // Wakers are foreign code, and so is whoever listens to events: no mutex is held.
        drop(wakers);
        if let Some(alarm) = limit {
            engine.clock.disarm(alarm);
        }
        tracing::debug!(
            lock.name = slot.spec.target.name.as_str(),
            lock.backend = engine.kind,
            lock.local_hand_off = matches!(back, Back::Next(_)),
            "released"
        );
        let waiter = match back {
            Back::Next(waiter) => waiter,
            Back::Owed | Back::Settled => {
                hold.unregister();
                return hold.give_to_backend(answer, matches!(back, Back::Settled));
            }
        };
        slot.labels.handed_off(begun, &*engine.clock);
        let tenancy = Tenancy { hold: Some(hold), tenure, token: self.token, since: begun };
        tenancy.begin();
        driver::hand_on(tenancy, waiter);
        Ended::Now(Ok(Release::Released))
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

/// Ends a tenancy that has lasted for as long as its options allow.
struct Limit {
    hold: std::sync::Weak<Hold>,
    tenure: u32,
}

impl Wake for Limit {
    fn wake(self: Arc<Self>) {
        if let Some(hold) = self.hold.upgrade() {
            hold.lose(LossReason::HoldLimit, Some(self.tenure));
        }
    }
}
