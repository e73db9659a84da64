//! One session as the others see it: what it holds, whether it can be used, and what it is asked to do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pilotman_core::Result;
use pilotman_core::backend::{AttemptId, BoxFuture, Released};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Attempted, Granted, Request, Session};

/// See the [module](self).
pub(crate) struct Line<S: Session> {
    commands: mpsc::UnboundedSender<Command<S>>,
    state: Mutex<State<S>>,
}

/// What a session holds for one attempt.
pub(crate) struct Held<S: Session> {
    pub(crate) request: S::Request,
    pub(crate) cookie: S::Cookie,
}

type Key<S> = <<S as Session>::Request as Request>::Key;

pub(crate) struct State<S: Session> {
    /// The session has ended.
    is_over: bool,
    /// It is somebody's who waits, or is about to.
    reserved: bool,
    /// So many commands have not been answered.
    pub(crate) busy: usize,
    holds: HashMap<AttemptId, Held<S>>,
    keys: HashMap<Key<S>, Vec<AttemptId>>,
}

/// What a session is asked to do.
pub(crate) enum Command<S: Session> {
    Try { id: AttemptId, request: S::Request, reply: oneshot::Sender<Result<Attempted<S::Cookie>>> },
    Wait { id: AttemptId, request: S::Request, reply: oneshot::Sender<Result<Granted<S::Cookie>>> },
    Release { ids: Vec<AttemptId>, reply: oneshot::Sender<Vec<Result<Released>>> },
    Abandon { id: AttemptId, reply: oneshot::Sender<()> },
    Mint { id: AttemptId, reply: oneshot::Sender<Result<u64>> },
    Visit(Visit<S>),
    End { reply: oneshot::Sender<()> },
}

/// Something else that is done with the session.
pub(crate) type Visit<S> = Box<dyn for<'a> FnOnce(&'a mut S) -> BoxFuture<'a, ()> + Send>;

/// How a session stands to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It holds other locks.
    Shared,
    /// It holds nothing.
    Empty,
    /// It has such a hold already.
    Joined,
}

impl<S: Session> Line<S> {
    pub(crate) fn new(commands: mpsc::UnboundedSender<Command<S>>, reserved: bool) -> Self {
        let state = State { is_over: false, reserved, busy: 0, holds: HashMap::new(), keys: HashMap::new() };
        Self { commands, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its session has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Sends a command; whether the session is there to take it.
    pub(crate) fn send(&self, command: Command<S>) -> bool {
        let mut state = self.state();
        let sent = !state.is_over && self.commands.send(command).is_ok();
        state.busy += usize::from(sent);
        sent
    }
}

impl<S: Session> State<S> {
    /// Whether it can be asked for a lock without waiting.
    pub(crate) fn fits(&self, request: &S::Request, shares: bool) -> Option<Fit> {
        if self.is_over || self.reserved {
            return None;
        }
        let has_it = self.keys.contains_key(request.key());
        match self.holds.is_empty() {
            true => (self.busy == 0 || shares).then_some(Fit::Empty),
            false if !shares => None,
            false if has_it => request.can_join().then_some(Fit::Joined),
            false => Some(Fit::Shared),
        }
    }

    /// Takes it for a wait, if it holds nothing and nothing is asked of it.
    pub(crate) fn reserve(&mut self) -> bool {
        let free = self.is_idle();
        self.reserved |= free;
        free
    }

    pub(crate) fn unreserve(&mut self) {
        self.reserved = false;
    }

    /// Whether it holds nothing and nothing is asked of it.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_over && !self.reserved && self.busy == 0 && self.holds.is_empty()
    }

    pub(crate) fn is_reserved(&self) -> bool {
        self.reserved
    }

    pub(crate) fn has_holds(&self) -> bool {
        !self.holds.is_empty()
    }

    pub(crate) fn held(&self, id: AttemptId) -> Option<&Held<S>> {
        self.holds.get(&id)
    }

    /// The holds of this key.
    pub(crate) fn cookies(&self, key: &Key<S>) -> Vec<S::Cookie> {
        let ids = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.holds.get(id)).map(|held| held.cookie.clone()).collect()
    }

    pub(crate) fn add(&mut self, id: AttemptId, request: S::Request, cookie: S::Cookie) {
        self.keys.entry(request.key().clone()).or_default().push(id);
        self.holds.insert(id, Held { request, cookie });
    }

    pub(crate) fn remove(&mut self, id: AttemptId) -> Option<Held<S>> {
        let held = self.holds.remove(&id)?;
        if let Some(ids) = self.keys.get_mut(held.request.key()) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.keys.remove(held.request.key());
            }
        }
        Some(held)
    }

    /// The session will end, and takes nothing any more.
    pub(crate) fn close(&mut self) {
        self.is_over = true;
    }

    /// The session has ended; what it held is lost.
    pub(crate) fn end(&mut self) -> Vec<AttemptId> {
        self.is_over = true;
        self.keys.clear();
        self.holds.drain().map(|(id, _)| id).collect()
    }
}
