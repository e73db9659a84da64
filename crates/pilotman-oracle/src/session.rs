//! One session of ours.

use std::collections::HashMap;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::clock::Time;
use pilotman_core::{Error, ErrorKind, LossReason, Result};
use pilotman_session::{Attempted, Granted, Session, Stop};

use crate::connect::Connector;
use crate::driver::{After, Call, Failure, Value};
use crate::failure::{self, Answer};
use crate::names::LockName;
use crate::options::Oracle;
use crate::request::{Mode, OracleRequest};
use crate::statements::{self, RELEASED_AT_ONCE, SessionId, number, text};
use crate::worker::Worker;
use crate::{control, tokens};

/// A wait stands in the queue of the database for so many seconds, and then anew: the driver can't be interrupted.
const SLICE: u8 = 1;
/// A session that was killed is told within a second, with time to spare on a busy machine.
const SILENCE: Duration = Duration::from_millis(250);
/// The database may forget a name ten days after somebody has said last that he uses it.
const REFRESH: Duration = Duration::from_secs(12 * 3600);
/// Where that was refused, it is said again after this time.
const REFRESH_AGAIN: Duration = Duration::from_secs(600);
/// So many handles are kept.
const HANDLES: usize = 4096;

/// See the [module](self).
pub(crate) struct OracleSession {
    connector: Arc<Connector>,
    worker: Worker,
    id: Option<SessionId>,
    /// What the database calls locks, and until when it surely knows them.
    handles: HashMap<LockName, Handle>,
    /// What is held.
    held: HashMap<LockName, Handle>,
    /// What is held here is not known any more.
    is_lost: bool,
}

/// What the database calls a lock in this session.
#[derive(Debug, Clone)]
struct Handle {
    text: Arc<str>,
    /// When it is to be told that the name is in use.
    due: Time,
}

impl OracleSession {
    pub(crate) fn new(connector: Arc<Connector>, worker: Worker, id: Option<SessionId>) -> Self {
        Self { connector, worker, id, handles: HashMap::new(), held: HashMap::new(), is_lost: false }
    }

    pub(crate) fn oracle(&self) -> &Oracle {
        &self.connector.oracle
    }

    pub(crate) fn driver(&self) -> &'static str {
        self.connector.driver.name()
    }

    pub(crate) fn id(&self) -> Option<SessionId> {
        self.id
    }

    /// What is held here is not known any more.
    pub(crate) fn give_up(&mut self) {
        self.is_lost = true;
    }

    fn now(&self) -> Time {
        self.connector.environment.get().map_or(Time::ZERO, |environment| environment.clock.now())
    }

    fn seen<T>(&mut self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.inspect_err(|failure| self.is_lost |= failure.after != After::Usable)
    }

    /// Runs a block that should be answered at once. The drivers end a call that has no answer in their own time, or never: the time
    /// is watched here.
    pub(crate) async fn run(&mut self, call: Call) -> Result<Vec<Value>, Failure> {
        let limit = self.oracle().sessions.heartbeat;
        let answer = self.connector.answer_within(limit, self.worker.run(call, limit)).await;
        self.seen(answer)
    }

    /// Runs a query.
    pub(crate) async fn query(&mut self, call: Call) -> Result<Vec<Vec<Value>>, Failure> {
        let limit = self.oracle().sessions.heartbeat;
        let answer = self.connector.answer_within(limit, self.worker.query(call, limit)).await;
        self.seen(answer)
    }

    /// Runs a block that the database may take a slice to answer.
    async fn slice(&mut self, call: Call) -> Result<Vec<Value>, Failure> {
        let limit = Duration::from_secs(SLICE.into()) + self.oracle().sessions.heartbeat;
        let answer = self.connector.answer_within(limit, self.worker.run(call, limit)).await;
        self.seen(answer)
    }

    fn error(&self, failure: Failure) -> Error {
        failure::of_statement(self.oracle(), failure)
    }

    fn known(&self, name: &LockName) -> Option<Handle> {
        self.handles.get(name).filter(|handle| self.now() < handle.due).cloned()
    }

    fn know(&mut self, name: &LockName, text: Option<String>) -> Result<Handle> {
        let text = text.ok_or_else(|| Error::new(ErrorKind::Internal, "the database gave no handle for a lock"))?;
        let handle = Handle { text: text.into(), due: self.now().after(REFRESH) };
        if self.handles.len() >= HANDLES {
            self.handles.clear();
        }
        self.handles.insert(name.clone(), handle.clone());
        Ok(handle)
    }

    /// Asks for a lock, for so many seconds.
    async fn request(&mut self, request: &OracleRequest, seconds: u8) -> Result<(Handle, Answer)> {
        let (name, mode) = (&request.name, request.mode);
        if let Some(handle) = self.known(name) {
            let answer = self.slice(statements::request(&handle.text, mode, seconds)).await;
            let answer = self.understood(answer, 0)?;
            if answer != Answer::IllegalHandle {
                return Ok((handle, answer));
            }
            self.handles.remove(name);
        }
        let answer = self.slice(statements::first_request(name.as_str(), mode, seconds)).await;
        let outs = answer.map_err(|failure| self.error(failure))?;
        let answer = self.understood(Ok(outs.clone()), 1)?;
        let handle = self.know(name, text(&outs, 0)).inspect_err(|_| self.is_lost = true)?;
        Ok((handle, answer))
    }

    /// What `DBMS_LOCK` answered. An answer that means nothing leaves a session of which nothing is known.
    fn understood(&mut self, outs: Result<Vec<Value>, Failure>, at: usize) -> Result<Answer> {
        let outs = outs.map_err(|failure| self.error(failure))?;
        let answer = failure::answer(number(&outs, at));
        self.is_lost |= matches!(&answer, Err(error) if !error.has_no_effect());
        answer
    }

    /// The handle is one that the database has just given, or has taken all along.
    fn illegal_handle(&mut self) -> Error {
        self.is_lost = true;
        Error::new(ErrorKind::Internal, "the database does not know a handle that it gave (DBMS_LOCK: 5)")
            .no_effect(true)
    }

    /// Adds the token that was asked for; without one there is no hold.
    async fn granted(&mut self, request: &OracleRequest, handle: Handle) -> Result<Granted<Arc<str>>> {
        let cookie = handle.text.clone();
        let token = match request.token {
            true => match tokens::next(self).await {
                Ok(token) => Some(token),
                Err(error) => {
                    self.undo(&cookie).await;
                    return Err(error);
                }
            },
            false => None,
        };
        self.held.insert(request.name.clone(), handle);
        Ok(Granted { cookie, token })
    }

    /// Gives back what this session was granted and nobody wants.
    async fn undo(&mut self, handle: &str) {
        if self.is_lost {
            return;
        }
        let answer = self.run(statements::release(std::iter::once(handle))).await;
        if !matches!(self.understood(answer, 0), Ok(Answer::Done)) {
            tracing::debug!("nothing more can be known of this session");
            self.is_lost = true;
        }
    }

    /// Says for one of the held names, if it is time, that it is in use. That it was refused is no end of the session: there are ten
    /// days for it.
    async fn refresh(&mut self) -> Result<()> {
        let now = self.now();
        let old = self.held.iter().find(|(_, handle)| now >= handle.due);
        let Some((name, old)) = old.map(|(name, handle)| (name.clone(), handle.text.clone())) else { return Ok(()) };
        let outs = match self.run(statements::refresh(name.as_str())).await {
            Ok(outs) => outs,
            Err(failure) if failure.after == After::Usable => {
                let error = self.error(failure);
                tracing::warn!(
                    lock.backend = "oracle",
                    lock.name = name.as_str(),
                    %error,
                    "the database could not be told that the name of a held lock is in use; this is tried again in 10 minutes"
                );
                let due = self.now().after(REFRESH_AGAIN);
                self.held.entry(name).and_modify(|handle| handle.due = due);
                return Ok(());
            }
            Err(failure) => return Err(self.error(failure)),
        };
        let handle = self.know(&name, text(&outs, 0))?;
        if handle.text != old {
            self.is_lost = true;
            return Err(
                Error::unavailable("the database has forgotten a name while its lock was held").no_effect(false)
            );
        }
        self.held.insert(name, handle);
        Ok(())
    }
}

impl Session for OracleSession {
    type Request = OracleRequest;
    type Cookie = Arc<str>;

    async fn try_lock(&mut self, request: &OracleRequest, _: &[Arc<str>]) -> Result<Attempted<Arc<str>>> {
        match self.request(request, 0).await? {
            (handle, Answer::Done) => self.granted(request, handle).await.map(Attempted::Granted),
            (_, Answer::TimedOut) => Ok(Attempted::Contended),
            // It has what it was not asked for under this name: another one can tell.
            (_, Answer::Owned) => Ok(Attempted::Elsewhere),
            (_, Answer::IllegalHandle) => Err(self.illegal_handle()),
        }
    }

    async fn lock(&mut self, request: &OracleRequest, stop: Stop) -> Result<Option<Granted<Arc<str>>>> {
        while !stop.is_requested() {
            match self.request(request, SLICE).await? {
                (handle, Answer::Done) if stop.is_requested() => self.undo(&handle.text).await,
                (handle, Answer::Done) => return self.granted(request, handle).await.map(Some),
                (_, Answer::TimedOut) => {}
                (_, Answer::Owned) => {
                    self.is_lost = true;
                    return Err(failure::has_it_already(request.mode));
                }
                (_, Answer::IllegalHandle) => return Err(self.illegal_handle()),
            }
        }
        Ok(None)
    }

    async fn unlock(&mut self, holds: &[(OracleRequest, Arc<str>)]) -> Result<Vec<bool>> {
        let mut found = Vec::with_capacity(holds.len());
        for part in holds.chunks(RELEASED_AT_ONCE) {
            let call = statements::release(part.iter().map(|(_, handle)| &**handle));
            let outs = self.run(call).await.map_err(|failure| self.error(failure))?;
            for (at, (request, _)) in part.iter().enumerate() {
                self.held.remove(&request.name);
                found.push(self.understood(Ok(outs.clone()), at)? == Answer::Done);
            }
        }
        Ok(found)
    }

    fn releases_at_once(&self) -> usize {
        4 * RELEASED_AT_ONCE
    }

    async fn upgrade(&mut self, _: &OracleRequest, handle: &Arc<str>, stop: Option<Stop>) -> Result<bool> {
        let seconds = if stop.is_some() { SLICE } else { 0 };
        loop {
            let answer = self.slice(statements::convert(handle, Mode::Exclusive, seconds)).await;
            match self.understood(answer, 0)? {
                Answer::Done => return Ok(true),
                Answer::TimedOut if stop.as_ref().is_some_and(|stop| !stop.is_requested()) => {}
                Answer::TimedOut => return Ok(false),
                Answer::Owned => {
                    self.is_lost = true;
                    return Err(Error::lost(LossReason::Gone));
                }
                Answer::IllegalHandle => return Err(self.illegal_handle()),
            }
        }
    }

    async fn mint(&mut self, _: &OracleRequest) -> Result<u64> {
        match self.is_usable() {
            true => tokens::next(self).await,
            false => Err(Error::lost(LossReason::SessionEnded)),
        }
    }

    async fn ping(&mut self) -> Result<()> {
        let limit = self.oracle().sessions.heartbeat;
        let answer = self.connector.answer_within(limit, self.worker.ping(limit)).await;
        self.seen(answer).map_err(|failure| self.error(failure))?;
        self.refresh().await
    }

    fn is_usable(&self) -> bool {
        !self.is_lost
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        // The drivers keep their sockets to themselves.
        Box::pin(future::pending())
    }

    fn longest_silence(&self) -> Option<Duration> {
        Some(SILENCE)
    }

    fn end_remotely(&self) -> BoxFuture<'static, ()> {
        match self.id {
            Some(id) => Box::pin(control::end_session(self.connector.clone(), id)),
            None => Box::pin(future::ready(())),
        }
    }

    async fn end(self) {
        if self.is_usable() {
            self.worker.close().await;
        }
    }
}
