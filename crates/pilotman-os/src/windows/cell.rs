//! Where a waiter learns that it has the lock.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use pilotman_core::Result;

use crate::panics::contain;
use crate::sync::lock;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Cell(Mutex<State>);

#[derive(Debug)]
enum State {
    Open(Option<Waker>),
    Done(Result<()>),
    Told,
}

impl Default for Cell {
    fn default() -> Self {
        Self(Mutex::new(State::Open(None)))
    }
}

impl Cell {
    /// The first result is the one that counts.
    pub(super) fn complete(&self, result: Result<()>) {
        let waker = {
            let mut state = lock(&self.0);
            let State::Open(waker) = &mut *state else { return };
            let waker = waker.take();
            *state = State::Done(result);
            waker
        };
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, State::Told) {
            State::Done(result) => Poll::Ready(result),
            _ => {
                *state = State::Open(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}
