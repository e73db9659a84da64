//! The future of an acquire. Dropping it at any point leaves nothing behind.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::hold::guarded;
use super::queue::Driver;
use super::{Hold, Slot, Tenancy, driver};
use crate::backend::Outcome;
use crate::clock::{Sleep, Time};
use crate::metrics::Stopwatch;
use crate::{Error, ErrorKind, Result};

/// How long an acquire waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Exactly one attempt.
    No,
    /// Until this much time has passed.
    For(Duration),
    /// For ever.
    Forever,
}

impl From<Duration> for Wait {
    fn from(limit: Duration) -> Self {
        match limit {
            Duration::ZERO => Self::No,
            Duration::MAX => Self::Forever,
            limit => Self::For(limit),
        }
    }
}

/// See the [module](self). It is for what [`Slot::attempt_here`] has not settled. Completes with `None` when the wait is over and the lock was not to be had.
pub(crate) struct Acquire {
    slot: Arc<Slot>,
    wait: Wait,
    state: State,
}

enum State {
    Start,
    /// In the queue, or just taken out of it to be given a hold.
    Queued {
        ticket: u64,
        receiver: Receiver,
        limit: Option<Sleep>,
        since: Stopwatch,
    },
    /// One attempt is under way on the I/O thread.
    Attempting(Receiver),
    Done,
}

type Receiver = oneshot::Receiver<Result<Option<Tenancy>>>;

impl Acquire {
    pub(crate) fn new(slot: Arc<Slot>, wait: Wait) -> Self {
        Self { slot, wait, state: State::Start }
    }

    /// Asks for the lock and makes ready to wait for the answer.
    fn start(&mut self) -> Result<()> {
        let slot = &self.slot;
        let engine = &slot.engine;
        if self.wait == Wait::No {
            // Who stands in the way now stands in the way of the attempt.
            let (sender, receiver) = oneshot::channel();
            self.state = State::Attempting(receiver);
            if !slot.queue().reserve() {
                let _ = sender.send(Ok(None));
                return Ok(());
            }
            return engine.spawn(driver::attempt_once(driver::Reservation::new(slot.clone()), sender));
        }
        let limit = match self.wait {
            Wait::For(limit) => Some(Sleep::new(engine.clock.clone(), limit)),
            Wait::No | Wait::Forever => None,
        };
        let since = Stopwatch::start(&*engine.clock);
        let (sender, receiver) = oneshot::channel();
        let (ticket, length, driver) = {
            let mut queue = slot.queue();
            let (ticket, driver) = queue.push(sender);
            (ticket, queue.len(), driver)
        };
        slot.labels.queue_length(length);
        tracing::debug!(
            lock.name = slot.spec.target.name.as_str(),
            lock.backend = engine.kind,
            lock.primitive = slot.spec.target.primitive.as_str(),
            lock.queue = length,
            "waiting"
        );
        self.state = State::Queued { ticket, receiver, limit, since };
        // Closed between the check above and the push: nobody would ever answer.
        if let Err(closed) = engine.check_open() {
            slot.refuse(&closed);
        }
        if driver == Driver::Start {
            driver::start(slot);
        }
        Ok(())
    }
}

impl Future for Acquire {
    type Output = Result<Option<Tenancy>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let State::Start = this.state
            && let Err(error) = this.start()
        {
            this.state = State::Done;
            return Poll::Ready(Err(error));
        }
        match &mut this.state {
            State::Queued { ticket, receiver, limit, since } => {
                if let Poll::Ready(answer) = Pin::new(&mut *receiver).poll(cx) {
                    this.slot.labels.waited(*since, &*this.slot.engine.clock);
                    this.state = State::Done;
                    return Poll::Ready(answer.unwrap_or_else(|_| Err(this.slot.about(gone()))));
                }
                let over = limit.as_mut().is_some_and(|limit| Pin::new(limit).poll(cx).is_ready());
                if !over {
                    return Poll::Pending;
                }
                this.slot.cancel(*ticket);
                // A hold that was on its way at this very moment is as good as one that came before it.
                receiver.close();
                let answer = receiver.try_recv().unwrap_or(Ok(None));
                this.slot.labels.waited(*since, &*this.slot.engine.clock);
                this.state = State::Done;
                Poll::Ready(answer)
            }
            State::Attempting(receiver) => {
                let answer = std::task::ready!(Pin::new(receiver).poll(cx));
                this.state = State::Done;
                Poll::Ready(answer.unwrap_or_else(|_| Err(this.slot.about(gone()))))
            }
            State::Start | State::Done => panic!("an acquire was polled after it had completed"),
        }
    }
}

/// Whoever was to answer is gone without an answer: a runtime that was handed in has been shut down.
fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the runtime that should have answered has ended")
}

impl Drop for Acquire {
    fn drop(&mut self) {
        // What was or will be sent to the receiver is a tenancy, which gives itself back.
        if let State::Queued { ticket, .. } = self.state {
            self.slot.cancel(ticket);
        }
    }
}

/// What an attempt on the caller's own thread came to.
pub(crate) enum AtOnce {
    Acquired(Tenancy),
    /// Others have the lock or are before the caller.
    Contended,
    /// The backend can't be asked from here.
    NotAsked,
}

impl Slot {
    /// Attempts to acquire on this thread, if the backend is local. Who would wait if need be does not overtake others.
    pub(crate) fn attempt_here(self: &Arc<Self>, wait: Wait) -> Result<AtOnce> {
        let engine = &*self.engine;
        engine.check_open()?;
        let Some(local) = engine.backend.local() else { return Ok(AtOnce::NotAsked) };
        let yields = wait != Wait::No && self.yields_until(&*engine.clock).is_some();
        if yields || !self.queue().reserve() {
            return Ok(AtOnce::Contended);
        }
        let sent = if self.spec.lease.is_some() { engine.clock.now() } else { Time::ZERO };
        let attempt = engine.attempt(self, false);
        match guarded(|| local.try_acquire(&attempt)) {
            Ok(Outcome::Granted(grant)) => {
                self.labels.attempt("acquired");
                Hold::take(self, attempt, grant, sent).map(AtOnce::Acquired)
            }
            Ok(Outcome::Contended { .. }) => {
                self.labels.attempt("contended");
                driver::after_reservation(self);
                Ok(AtOnce::Contended)
            }
            Err(error) => {
                self.labels.attempt(error.kind().as_str());
                if !error.has_no_effect() {
                    engine.releaser.abandon(attempt);
                }
                driver::after_reservation(self);
                Err(self.about(error))
            }
        }
    }

    fn cancel(&self, ticket: u64) {
        let (cancelled, empty) = {
            let mut queue = self.queue();
            (queue.cancel(ticket), queue.len() == 0)
        };
        if cancelled.is_some() && empty {
            self.changed.notify_one();
        }
    }
}
