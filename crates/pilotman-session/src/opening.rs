//! Sessions are opened one at a time: of many that need one at the same moment, the first opens it and the others use it.

use std::sync::{Mutex, PoisonError};

use pilotman_core::Error;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Opening {
    turn: tokio::sync::Mutex<()>,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    count: u64,
    last: Option<Error>,
}

/// The right to open a session.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    opening: &'a Opening,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    /// How many openings had failed when it was asked for.
    before: u64,
}

impl Opening {
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let before = self.failures().count;
        Turn { _turn: self.turn.lock().await, opening: self, before }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Why somebody else's opening failed while this turn was waited for: this one would fail as well, after as long a time.
    pub(crate) fn failed_meanwhile(&self) -> Option<Error> {
        let failures = self.opening.failures();
        failures.last.clone().filter(|_| failures.count > self.before)
    }

    pub(crate) fn failed(&self, error: &Error) {
        let mut failures = self.opening.failures();
        failures.count += 1;
        failures.last = Some(error.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waited_for_an_opening_that_failed_does_not_repeat_it() {
        let opening = Opening::default();
        let first = opening.turn().await;
        assert!(first.failed_meanwhile().is_none());
        let second = opening.turn();
        let mut second = std::pin::pin!(second);
        tokio::select! {
            biased;
            _ = &mut second => panic!("one at a time"),
            () = std::future::ready(()) => {}
        }
        first.failed(&Error::unavailable("down"));
        drop(first);
        assert_eq!(second.await.failed_meanwhile().unwrap().to_string(), Error::unavailable("down").to_string());
        assert!(opening.turn().await.failed_meanwhile().is_none(), "who comes later tries anew");
    }
}
