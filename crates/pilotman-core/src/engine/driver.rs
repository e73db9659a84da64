//! Asks the backend on behalf of the first waiter of a slot. Per slot there is one driver at most, and none while
//! nobody waits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::hold::guarded;
use super::queue::{Driver, Ticketed};
use super::releaser::Pending;
use super::select::{Either, either, within};
use super::slot::Waiter;
use super::{Hold, Slot, Tenancy};
use crate::backend::{Attempt, Grant, Outcome, Watch};
use crate::clock::{Sleep, Time};
use crate::{Error, ErrorKind, Result, Waiting};

/// The first pause between attempts where waiting is polling.
const POLL_FIRST: Duration = Duration::from_millis(10);

/// Starts the driver of a slot whose queue said so.
pub(super) fn start(slot: &Arc<Slot>) {
    let driver = Running { _pending: slot.engine.releaser.begin(), slot: slot.clone(), ended: false };
    if let Err(error) = slot.engine.spawn(driver.run()) {
        slot.queue().driver_died();
        slot.refuse(&error);
    }
}

/// To be called when a reservation led to nothing.
pub(super) fn after_reservation(slot: &Arc<Slot>) {
    let driver = slot.queue().unreserve();
    if driver == Driver::Start {
        start(slot);
    }
}

/// A reservation that is given up when it is dropped: the task that has it may panic, or never run.
pub(super) struct Reservation {
    slot: Option<Arc<Slot>>,
    _pending: Pending,
}

impl Reservation {
    /// Of a slot whose queue has just granted one.
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        let pending = slot.engine.releaser.begin();
        Self { slot: Some(slot), _pending: pending }
    }

    /// The attempt led to a hold, which accounts for itself.
    fn keep(mut self) {
        self.slot = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            after_reservation(&slot);
        }
    }
}

/// One attempt on the I/O thread for a caller that does not wait.
pub(super) async fn attempt_once(reservation: Reservation, waiter: Waiter) {
    let Some(slot) = reservation.slot.clone() else { return };
    let engine = &slot.engine;
    let attempt = Abandoned(Some((slot.clone(), engine.attempt(&slot, false))));
    let answer = match ask(&slot, attempt.get()).await {
        Ok((Outcome::Granted(grant), sent)) => {
            reservation.keep();
            attempt.take().and_then(|attempt| Hold::take(&slot, attempt, grant, sent).map(Some))
        }
        Ok((Outcome::Contended { .. }, _)) => {
            attempt.settled();
            drop(reservation);
            Ok(None)
        }
        Err(error) => {
            attempt.settled();
            drop(reservation);
            Err(error)
        }
    };
    // If nobody receives it, what was granted gives itself back.
    let _ = waiter.send(answer);
}

/// An attempt whose outcome is open. If it is dropped as such, whatever was granted is given back.
struct Abandoned(Option<(Arc<Slot>, Attempt)>);

impl Abandoned {
    fn get(&self) -> &Attempt {
        match &self.0 {
            Some((_, attempt)) => attempt,
            None => unreachable!("an open attempt is there until it is taken"),
        }
    }

    fn take(mut self) -> Result<Attempt> {
        self.0.take().map(|(_, attempt)| attempt).ok_or_else(|| Error::new(ErrorKind::Internal, "the attempt is gone"))
    }

    fn settled(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some((slot, attempt)) = self.0.take() {
            slot.engine.releaser.abandon(attempt);
        }
    }
}

/// One bounded attempt, and when it was sent. After an error of unknown effect, what may have been granted is given
/// back at once.
async fn ask(slot: &Slot, attempt: &Attempt) -> Result<(Outcome, Time)> {
    let engine = &slot.engine;
    if let Some(ready) = engine.backend.ready() {
        ready.await.map_err(|error| slot.about(error))?;
    }
    let limit = engine.operation_limit(slot.spec.lease);
    let sent = engine.clock.now();
    let outcome = match engine.backend.local() {
        Some(local) => guarded(|| local.try_acquire(attempt)),
        None => within(&engine.clock, limit, engine.backend.try_acquire(attempt))
            .await
            .unwrap_or_else(|| Err(Error::unavailable(format!("the backend gave no answer within {limit:?}")))),
    };
    slot.labels.attempt(match &outcome {
        Ok(Outcome::Granted(_)) => "acquired",
        Ok(Outcome::Contended { .. }) => "contended",
        Err(error) => error.kind().as_str(),
    });
    outcome.map(|outcome| (outcome, sent)).map_err(|error| {
        if !error.has_no_effect() {
            engine.releaser.abandon(attempt.clone());
        }
        slot.about(error)
    })
}

/// A driver that is running. If it ends out of turn (a panic, a runtime that is shut down), its waiters are told.
struct Running {
    slot: Arc<Slot>,
    _pending: Pending,
    ended: bool,
}

/// How one wait for the backend ended.
enum Round {
    Granted(Grant, Time),
    /// Nobody needs the driver any longer.
    Unwanted,
}

impl Running {
    async fn run(mut self) {
        loop {
            if !self.slot.queue().drive() {
                self.ended = true;
                return;
            }
            if let Some(until) = self.slot.yields_until(&*self.slot.engine.clock) {
                Sleep::until(self.slot.engine.clock.clone(), until).await;
            }
            // Whatever way the round ends but by a grant, what the attempt may have been granted is given back, and its
            // place in a queue or at a gate.
            let attempt = Abandoned(Some((self.slot.clone(), self.slot.engine.attempt(&self.slot, true))));
            let round = match self.slot.engine.capabilities.waiting {
                Waiting::Queue => self.enqueue(attempt.get()).await,
                Waiting::Watch | Waiting::Poll => self.repeat(attempt.get()).await,
            };
            match round {
                Ok(Round::Granted(grant, sent)) => match attempt.take() {
                    Ok(attempt) => self.deliver(attempt, grant, sent),
                    Err(error) => self.slot.refuse(&error),
                },
                Ok(Round::Unwanted) => {}
                Err(error) => self.slot.refuse(&error),
            }
        }
    }

    fn deliver(&self, attempt: Attempt, grant: Grant, sent: Time) {
        let waiter = self.slot.queue().grant();
        let answer = Hold::take(&self.slot, attempt, grant, sent).map(Some);
        match waiter {
            // If the waiter is gone, the tenancy comes back and gives the hold to the next one.
            Some(waiter) => drop(waiter.send(answer)),
            None => drop(answer),
        }
    }

    /// Whether somebody still waits and may get another hold.
    fn wanted(&self) -> bool {
        self.slot.queue().wanted()
    }

    async fn enqueue(&self, attempt: &Attempt) -> Result<Round> {
        let slot = &self.slot;
        let engine = &slot.engine;
        let sent = engine.clock.now();
        let mut granted = pin!(engine.backend.enqueue(attempt));
        loop {
            match either(granted.as_mut(), pin!(slot.changed.notified())).await {
                Either::First(Ok(grant)) => {
                    slot.labels.attempt("acquired");
                    return Ok(Round::Granted(grant, sent));
                }
                Either::First(Err(error)) => {
                    slot.labels.attempt(error.kind().as_str());
                    return Err(error);
                }
                Either::Second(()) if self.wanted() => {}
                Either::Second(()) => return Ok(Round::Unwanted),
            }
        }
    }

    /// Attempt after attempt, when the watch says so or after a pause.
    async fn repeat(&self, attempt: &Attempt) -> Result<Round> {
        let slot = &self.slot;
        let engine = &slot.engine;
        // A local attempt has just been made; a remote one is worth making before anything is set up to wait.
        let mut watch = match engine.backend.local() {
            Some(_) => self.watch(attempt).await?,
            None => None,
        };
        let watches = engine.capabilities.waiting == Waiting::Watch;
        let mut pause = POLL_FIRST;
        loop {
            let retry_after = match ask(slot, attempt).await? {
                (Outcome::Granted(grant), sent) => return Ok(Round::Granted(grant, sent)),
                // What changed before the watch was there is not told by it.
                (Outcome::Contended { .. }, _) if watches && watch.is_none() => {
                    watch = self.watch(attempt).await?;
                    continue;
                }
                (Outcome::Contended { retry_after }, _) => retry_after,
            };
            let until = match &watch {
                Some(_) => retry_after.map_or(Time::NEVER, |after| engine.clock.now().after(after)),
                None => {
                    pause = self.next_pause(pause);
                    engine.clock.now().after(retry_after.map_or(pause, |after| pause.min(after)))
                }
            };
            let mut timer = pin!(Sleep::until(engine.clock.clone(), until));
            loop {
                let changed = async {
                    match &mut watch {
                        Some(watch) => watch.changed().await,
                        None => std::future::pending().await,
                    }
                };
                let woken = pin!(async {
                    either(pin!(changed), timer.as_mut()).await;
                });
                match either(woken, pin!(slot.changed.notified())).await {
                    Either::First(()) => break,
                    Either::Second(()) if self.wanted() => {}
                    Either::Second(()) => return Ok(Round::Unwanted),
                }
            }
            if !self.wanted() {
                return Ok(Round::Unwanted);
            }
        }
    }

    async fn watch(&self, attempt: &Attempt) -> Result<Option<Box<dyn Watch>>> {
        if self.slot.engine.capabilities.waiting != Waiting::Watch {
            return Ok(None);
        }
        let limit = self.slot.engine.operation_limit(self.slot.spec.lease);
        let watch = within(&self.slot.engine.clock, limit, self.slot.engine.backend.watch(attempt)).await;
        watch
            .unwrap_or_else(|| Err(Error::unavailable(format!("the backend gave no watch within {limit:?}"))))
            .map(Some)
    }

    /// Decorrelated jitter: between the first pause and three times the last one, up to the longest.
    fn next_pause(&self, last: Duration) -> Duration {
        let longest = self.slot.longest_pause();
        let first = POLL_FIRST.min(longest);
        let span = (last * 3).min(longest).saturating_sub(first).as_nanos().max(1) as u64;
        first + Duration::from_nanos(self.slot.engine.random.next() % span)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.slot.queue().driver_died();
            let error = if std::thread::panicking() {
                Error::new(ErrorKind::Internal, "the backend panicked")
            } else {
                Error::new(ErrorKind::Closed, "the runtime that drives the backend has ended")
            };
            self.slot.refuse(&error);
        }
    }
}

/// Gives a hold that comes back to the next waiter of this process.
pub(super) fn hand_on(tenancy: Tenancy, (ticket, waiter): Ticketed<Waiter>) {
    let hold = tenancy.hold().clone();
    let engine = hold.engine().clone();
    if !hold.needs_token() {
        return drop(waiter.send(Ok(Some(tenancy))));
    }
    let minted = move |mut tenancy: Tenancy, token: Result<u64>| {
        let answer = match token {
            Ok(token) => {
                tenancy.set_token(token);
                Ok(Some(tenancy))
            }
            Err(error) => {
                let slot = tenancy.hold().slot().clone();
                if let Some(reason) = error.loss() {
                    // There was no hold to be had; that is not this waiter's loss, and it goes on waiting.
                    tenancy.hold().lose(reason.clone(), None);
                    let driver = slot.queue().put_back((ticket, waiter));
                    if driver == Driver::Start {
                        start(&slot);
                    }
                    return;
                }
                // Without a token of its own the waiter can't have the hold; the tenancy gives it back.
                Err(slot.about(error))
            }
        };
        drop(waiter.send(answer));
    };
    if let Some(local) = engine.backend.local() {
        let token = guarded(|| local.mint(hold.holding()));
        return minted(tenancy, token);
    }
    let for_task = engine.clone();
    let spawned = engine.spawn(async move {
        let limit = for_task.operation_limit(hold.slot().spec.lease);
        let token = within(&for_task.clock, limit, for_task.backend.mint(hold.holding())).await;
        minted(
            tenancy,
            token.unwrap_or_else(|| Err(Error::unavailable(format!("the backend made no token within {limit:?}")))),
        );
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "a hold could not be handed on");
    }
}
