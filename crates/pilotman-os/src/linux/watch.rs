//! Waiting for a lock to become free.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pilotman_core::Result;
use pilotman_core::backend::{AttemptId, BoxFuture, Watch};
use pilotman_core::clock::Sleep;

use super::latch::{BRIEF, stuck_by};
use super::process::Process;
use super::shared::Shared;
use super::slot::Slot;
use super::wait::Wait;
use crate::sync::lock;

/// The timer behind it all: whoever was to wake us may have been stopped.
const TIMER: Duration = Duration::from_millis(100);
const TIMER_JITTER: Duration = Duration::from_millis(150);

/// How soon to come again when somebody was in the middle of something.
pub(super) const HINDERED: Duration = Duration::from_millis(10);

/// The wait of one attempt.
pub(crate) struct OsWatch {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    id: AttemptId,
    retry: Option<Duration>,
    place: Option<(Arc<Process>, Arc<Wait>)>,
}

impl OsWatch {
    pub(crate) fn new(shared: &Arc<Shared>, slot: Arc<Slot>, id: AttemptId, retry: Option<Duration>) -> Result<Self> {
        let mut watch = Self { shared: shared.clone(), slot, id, retry, place: None };
        match watch.follow() {
            // A place is looked for again before each wait.
            Err(error) if stuck_by(&error).is_some() => {}
            followed => drop(followed?),
        }
        Ok(watch)
    }

    /// Has a place in the table in which attempts are made now. Says whether it is another than before.
    fn follow(&mut self) -> Result<bool> {
        let current = self.shared.current()?;
        if self.place.as_ref().is_some_and(|(process, _)| Arc::ptr_eq(process, &current)) {
            return Ok(false);
        }
        self.leave();
        let wait = current.enrol(&self.slot, self.id)?;
        self.place = Some((current, wait));
        Ok(true)
    }

    fn leave(&mut self) {
        let Some((process, _)) = self.place.take() else { return };
        if !process.is_here() {
            // In a forked child the place is the parent's.
            return std::mem::forget(process);
        }
        lock(&process.waits).remove(&self.id);
        if let Err(error) = process.give_back(&self.slot, self.id, false, BRIEF) {
            tracing::debug!(%error, "a waiter's place can't be given back at the moment; it is as soon as that can be done");
        }
    }

    async fn wait(&mut self) {
        let hindered = match self.follow() {
            // The last attempt was made elsewhere.
            Ok(true) => return,
            Ok(false) => false,
            // The next attempt meets it too, and reports it.
            Err(error) => {
                tracing::debug!(%error, "the lock table can't be watched at the moment");
                stuck_by(&error).is_some()
            }
        };
        let pause = TIMER + Duration::from_nanos(self.shared.random() % TIMER_JITTER.as_nanos() as u64);
        let pause = self.retry.map_or(pause, |retry| pause.min(retry));
        let pause = if hindered { pause.min(HINDERED) } else { pause };
        let mut sleep = Sleep::new(self.shared.clock(), pause);
        let place = &self.place;
        let told = std::future::poll_fn(|cx| {
            if let Some((_, wait)) = place
                && wait.poll(cx).is_ready()
            {
                return Poll::Ready(true);
            }
            Pin::new(&mut sleep).poll(cx).map(|()| false)
        })
        .await;
        if let Some((process, wait)) = place
            && !told
        {
            process.look_for_gone(wait.blockers().into_iter());
        }
    }
}

impl Watch for OsWatch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.wait())
    }
}

impl Drop for OsWatch {
    fn drop(&mut self) {
        self.leave();
    }
}
