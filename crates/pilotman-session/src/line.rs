//! One session as the others see it: what it holds, whether it can be used, and what it is asked to do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use pilotman_core::Result;
use pilotman_core::backend::{AttemptId, BoxFuture, Released};
use pilotman_core::clock::Time;
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Attempted, Granted, Request, Session};

/// A session that has been busy with one command for so long is passed over: it may hang.
const HANGS: Duration = Duration::from_millis(500);

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
    /// Attempts that were sent and are not answered: each may become a hold.
    open: Vec<(AttemptId, S::Request)>,
    /// Since when it has been busy with one command.
    since: Option<Time>,
}

/// What a session is asked to do.
pub(crate) enum Command<S: Session> {
    Try { id: AttemptId, request: S::Request, reply: oneshot::Sender<Result<Attempted<S::Cookie>>> },
    Wait { id: AttemptId, request: S::Request, reply: oneshot::Sender<Result<Granted<S::Cookie>>> },
    Release { ids: Vec<AttemptId>, reply: oneshot::Sender<Vec<Result<Released>>> },
    Abandon { id: AttemptId, reply: oneshot::Sender<()> },
    Mint { id: AttemptId, reply: oneshot::Sender<Result<u64>> },
    Upgrade { id: AttemptId, waits: bool, reply: oneshot::Sender<Result<bool>> },
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
    pub(crate) fn new(commands: mpsc::UnboundedSender<Command<S>>) -> Self {
        let state = State {
            is_over: false,
            reserved: false,
            busy: 0,
            holds: HashMap::new(),
            keys: HashMap::new(),
            open: Vec::new(),
            since: None,
        };
        Self { commands, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its session has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Sends a command that is no attempt; whether the session is there to take it.
    pub(crate) fn send(&self, command: Command<S>) -> bool {
        let mut state = self.state();
        self.send_in(&mut state, command)
    }

    /// Sends an attempt, if the session still fits: what others sent meanwhile counts as well, answered or not.
    pub(crate) fn offer(
        &self,
        (id, request): (AttemptId, S::Request),
        (shares, now): (bool, Time),
        reply: oneshot::Sender<Result<Attempted<S::Cookie>>>,
    ) -> bool {
        let mut state = self.state();
        if state.fits(&request, shares, now).is_none() {
            return false;
        }
        state.open.push((id, request.clone()));
        let sent = self.send_in(&mut state, Command::Try { id, request, reply });
        if !sent {
            state.open.pop();
        }
        sent
    }

    fn send_in(&self, state: &mut State<S>, command: Command<S>) -> bool {
        let sent = !state.is_over && self.commands.send(command).is_ok();
        state.busy += usize::from(sent);
        sent
    }
}

impl<S: Session> State<S> {
    /// Whether it can be asked for a lock without waiting.
    pub(crate) fn fits(&self, request: &S::Request, shares: bool, now: Time) -> Option<Fit> {
        let hangs = self.since.is_some_and(|since| now >= since.after(HANGS));
        if self.is_over || self.reserved || hangs {
            return None;
        }
        let is_empty = self.holds.is_empty() && self.open.is_empty();
        if is_empty {
            return (self.busy == 0 || shares).then_some(Fit::Empty);
        }
        if !shares || request.is_alone() || self.is_taken_alone() {
            return None;
        }
        let open = || self.open.iter().map(|(_, other)| other).filter(|other| other.key() == request.key());
        match self.keys.contains_key(request.key()) || open().next().is_some() {
            false => Some(Fit::Shared),
            true => (self.can_join(request) && open().all(|other| request.can_join(other))).then_some(Fit::Joined),
        }
    }

    /// Whether what it holds, or may come to hold, bears nothing beside it.
    pub(crate) fn is_taken_alone(&self) -> bool {
        let mut requests = self.holds.values().map(|held| &held.request).chain(self.open.iter().map(|(_, open)| open));
        // There is one only, if so.
        requests.next().is_some_and(Request::is_alone)
    }

    /// Whether all holds of its key bear another one by this request.
    pub(crate) fn can_join(&self, request: &S::Request) -> bool {
        let ids = self.keys.get(request.key()).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.holds.get(id)).all(|held| request.can_join(&held.request))
    }

    /// An attempt is answered.
    pub(crate) fn answered(&mut self, id: AttemptId) {
        self.open.retain(|(other, _)| *other != id);
    }

    /// A command is begun, or done.
    pub(crate) fn begin(&mut self, now: Time) {
        self.since = Some(now);
    }

    pub(crate) fn done(&mut self) {
        self.since = None;
        self.busy -= 1;
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

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
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
