//! Who may log in: the driver in Rust waits for an answer without a limit, so no more than a few threads may hang in that.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pilotman_core::clock::{Clock, Sleep, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So long after its limit a log-in that hangs gives its turn back, so that it does not keep others from trying for ever. Its thread
/// still counts.
const GIVEN_BACK: Duration = Duration::from_secs(180);

/// See the [module](self).
pub(crate) struct Logins {
    turns: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    under_way: Mutex<Vec<UnderWay>>,
}

/// One that hangs, maybe.
struct UnderWay {
    due: Time,
    turn: Weak<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// To be kept until the log-in is over.
pub(crate) struct Turn(#[allow(dead_code)] Arc<Mutex<Option<OwnedSemaphorePermit>>>);

/// To be kept until the thread ends.
pub(crate) struct Thread(#[allow(dead_code)] OwnedSemaphorePermit);

impl Logins {
    /// So many log in at the same time, and there are so many threads in all.
    pub(crate) fn new(turns: usize, threads: usize) -> Self {
        Self {
            turns: Semaphore::new(turns).into(),
            threads: Semaphore::new(threads).into(),
            under_way: Mutex::default(),
        }
    }

    /// Waits for a thread and a turn, for a log-in that should be over after `limit`. `None` if there will be no more.
    pub(crate) async fn turn(&self, clock: &Arc<dyn Clock>, limit: Duration) -> Option<(Thread, Turn)> {
        let thread = self.threads.clone().acquire_owned().await.ok()?;
        let mut turn = std::pin::pin!(self.turns.clone().acquire_owned());
        let turn = loop {
            let next = self.give_back(clock.now());
            tokio::select! {
                biased;
                turn = &mut turn => break turn.ok()?,
                () = Sleep::until(clock.clone(), next) => {}
            }
        };
        let turn = Arc::new(Mutex::new(Some(turn)));
        let due = clock.now().after(limit + GIVEN_BACK);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.push(UnderWay { due, turn: Arc::downgrade(&turn) });
        Some((Thread(thread), Turn(turn)))
    }

    /// Takes the turns back of those that hang for too long. When the next one will be so.
    fn give_back(&self, now: Time) -> Time {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|login| {
            let Some(turn) = login.turn.upgrade() else { return false };
            if now < login.due {
                return true;
            }
            tracing::debug!("a log-in hangs, and does not keep others from theirs any longer");
            turn.lock().unwrap_or_else(PoisonError::into_inner).take();
            false
        });
        under_way.iter().map(|login| login.due).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use pilotman_core::clock::ManualClock;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// What is there at once, or nothing.
    async fn now<T>(work: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn a_turn_that_is_over_is_free_at_once() {
        let clock: Arc<dyn Clock> = ManualClock::new();
        let logins = Logins::new(1, 10);
        let first = now(logins.turn(&clock, LIMIT)).await.unwrap();
        assert!(now(logins.turn(&clock, LIMIT)).await.is_none());
        let (thread, turn) = first;
        drop(turn);
        let second = now(logins.turn(&clock, LIMIT)).await;
        assert!(second.is_some());
        drop((thread, second));
        assert_eq!((logins.turns.available_permits(), logins.threads.available_permits()), (1, 10));
    }

    #[tokio::test]
    async fn who_hangs_gives_his_turn_back_and_keeps_his_thread() {
        let clock = ManualClock::new();
        let shown: Arc<dyn Clock> = clock.clone();
        let logins = Logins::new(2, 3);
        let mut hanging =
            vec![now(logins.turn(&shown, LIMIT)).await.unwrap(), now(logins.turn(&shown, LIMIT)).await.unwrap()];
        clock.advance(GIVEN_BACK);
        assert!(now(logins.turn(&shown, LIMIT)).await.is_none(), "they had their limit beside");
        // One that waits is woken for it.
        let logins = &logins;
        let waits = logins.turn(&shown, LIMIT);
        let advances = async {
            tokio::task::yield_now().await;
            clock.advance(LIMIT);
        };
        let (third, ()) = tokio::join!(waits, advances);
        hanging.push(third.unwrap());
        assert!(now(logins.turn(&shown, LIMIT)).await.is_none(), "there are no more threads");
        hanging.clear();
        assert_eq!((logins.turns.available_permits(), logins.threads.available_permits()), (2, 3));
    }
}
