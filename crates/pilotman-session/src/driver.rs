//! What a database has to say.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::{Error, Result};
use tokio::sync::watch;

/// How sessions are opened.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// A session of this database.
    type Session: Session;

    /// Opens a session of our own. It bounds the time itself.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `Misconfigured`, with what to do.
    fn connect(&self) -> BoxFuture<'_, Result<Self::Session>>;

    /// Whether one session can carry several holds that are released one by one.
    fn shares_sessions(&self) -> bool {
        true
    }
}

/// What is asked for, as the server knows it.
pub trait Request: Clone + Send + Sync + 'static {
    /// Requests with the same key are for the same lock. A session has such holds twice only by [`Session::try_lock`] with what
    /// it has already.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// The lock.
    fn key(&self) -> &Self::Key;

    /// Whether a session that has a hold of the same key by this other request can be asked for this one as well.
    fn can_join(&self, other: &Self) -> bool;

    /// Whether its hold has a session of its own, with nothing beside it: one that may be upgraded waits there later on.
    fn is_alone(&self) -> bool {
        false
    }
}

/// What the server gave.
#[derive(Debug, Clone)]
pub struct Granted<C> {
    /// What tells the driver what to release: the number of a permit, say.
    pub cookie: C,
    /// The fencing token, where one was asked for.
    pub token: Option<u64>,
}

/// How an attempt that doesn't wait has ended.
#[derive(Debug)]
pub enum Attempted<C> {
    /// The lock is held by this session now.
    Granted(Granted<C>),
    /// Others have it.
    Contended,
    /// This session can't tell; another one may.
    Elsewhere,
}

/// One session. Its methods are called one after the other by one task, and run to their end unless the session is given up.
pub trait Session: Send + 'static {
    /// What is asked for.
    type Request: Request;
    /// What a hold is released by.
    type Cookie: Clone + Send + Sync + 'static;

    /// Attempts to get a lock without waiting. `held` has the holds of the same key that this session has; it is empty unless
    /// the request [can join](Request::can_join).
    ///
    /// # Errors
    ///
    /// Whatever went wrong. Nothing is held then, or the session is not [usable](Self::is_usable) any more.
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip in the common case.
    fn try_lock(
        &mut self,
        request: &Self::Request,
        held: &[Self::Cookie],
    ) -> impl Future<Output = Result<Attempted<Self::Cookie>>> + Send;

    /// Waits for a lock on the server, in a session that holds nothing. `None`: it was stopped, and nothing is held.
    ///
    /// # Errors
    ///
    /// As [`Self::try_lock`].
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip, and the wait.
    fn lock(
        &mut self,
        request: &Self::Request,
        stop: Stop,
    ) -> impl Future<Output = Result<Option<Granted<Self::Cookie>>>> + Send;

    /// Releases holds of this session; whether each was there.
    ///
    /// # Errors
    ///
    /// If that is not known; the session should not be usable then.
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip for all of them.
    fn unlock(&mut self, holds: &[(Self::Request, Self::Cookie)]) -> impl Future<Output = Result<Vec<bool>>> + Send;

    /// Makes a write of an upgradeable read, whose request [is alone](Request::is_alone) and which is all that this session
    /// holds. Without `stop` it doesn't wait; with it, it waits until it is stopped. `false`: the hold is what it was. If the
    /// server gave what was asked for as it was stopped, it is kept, and released with the hold.
    ///
    /// # Errors
    ///
    /// As [`Self::try_lock`]; the hold is what it was, or the session is not [usable](Self::is_usable) any more.
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip, and the wait.
    fn upgrade(
        &mut self,
        request: &Self::Request,
        cookie: &Self::Cookie,
        stop: Option<Stop>,
    ) -> impl Future<Output = Result<bool>> + Send {
        let _ = (request, cookie, stop);
        std::future::ready(Err(Error::unsupported("this database has no upgradeable reads")))
    }

    /// How many holds [`Self::unlock`] is given at a time: as many as it releases within a few round trips, since all of them
    /// together have the time of one statement.
    fn releases_at_once(&self) -> usize {
        usize::MAX
    }

    /// Makes a new fencing token for a hold of this session.
    ///
    /// # Errors
    ///
    /// If it could not be made.
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip.
    fn mint(&mut self, request: &Self::Request) -> impl Future<Output = Result<u64>> + Send;

    /// Asks the server whether it is there.
    ///
    /// # Errors
    ///
    /// If it isn't.
    ///
    /// # Cancel safety
    ///
    /// None: a session whose statement was dropped is given up.
    ///
    /// # Cost
    ///
    /// One round trip.
    fn ping(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Whether statements can still be sent, and what they would find is known.
    fn is_usable(&self) -> bool;

    /// Completes when the connection has ended. A driver that can't watch its socket returns a future that never does.
    fn closed(&self) -> BoxFuture<'static, ()>;

    /// A session with holds that has been silent for this long is asked whether it is there, where that is sooner than half a
    /// heartbeat. For drivers that can't watch their socket: to them, an answer is how they hear of its end.
    fn longest_silence(&self) -> Option<Duration> {
        None
    }

    /// Asks the server, over another connection, to end its side of this session. It is called when the session was given up
    /// with a statement under way; it bounds its time itself, and reports its own failures.
    fn end_remotely(&self) -> BoxFuture<'static, ()>;

    /// Ends the session in an orderly way. One that is dropped instead closes its connection at once.
    ///
    /// # Errors
    ///
    /// None: whoever ends a session can do nothing about it.
    ///
    /// # Cancel safety
    ///
    /// A farewell that was dropped ends the session less politely.
    ///
    /// # Cost
    ///
    /// One message.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// Tells a wait that nobody wants its lock any longer.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Completes when the wait is to end.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    ///
    /// # Cost
    ///
    /// None.
    pub async fn requested(&mut self) {
        // Without a sender nobody is left to want it.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether the wait is to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}
