//! Which session an attempt runs on.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{Attempt, AttemptId, BoxFuture, Environment, Grant, Holding, Outcome, Released};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, LossReason, Result};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::SessionOptions;
use crate::driver::{Attempted, Driver, Granted, Session};
use crate::line::{Command, Fit, Line};
use crate::opening::Opening;
use crate::task::Task;

/// Who stands in line for a wait on the server tries without one after this time, and up to twice as long.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// Who finds all sessions with holds waits this long for one that has none.
const FULL: Duration = Duration::from_secs(5);

/// The sessions of one [`Locks`](pilotman_core::Locks). Cheap to clone.
pub struct Sessions<D: Driver>(Arc<Shared<D>>);

/// What the tasks of the sessions know of them all.
pub(crate) struct Shared<D: Driver> {
    driver: D,
    options: SessionOptions,
    environment: OnceLock<Environment>,
    lines: Mutex<Vec<Arc<Line<D::Session>>>>,
    /// Where attempts are that may hold something.
    places: Mutex<HashMap<AttemptId, Arc<Line<D::Session>>>>,
    waiting: Semaphore,
    opening: Opening,
    /// Some session has done something: it may be free now.
    pub(crate) freed: Notify,
    closed: AtomicBool,
}

/// What a hold stands on; a backend finds it in [`Holding::state`].
pub struct SessionHold<S: Session> {
    line: Arc<Line<S>>,
    /// What the driver gave for it.
    pub cookie: S::Cookie,
}

impl<S: Session> fmt::Debug for SessionHold<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHold").field("is_over", &self.line.is_over()).finish_non_exhaustive()
    }
}

impl<D: Driver> Clone for Sessions<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Driver> fmt::Debug for Sessions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("driver", &self.0.driver).field("open", &self.open_sessions()).finish()
    }
}

/// How a question to one session has ended.
enum Told<T> {
    Answer(Result<T>),
    /// The session had ended before it took the question.
    Gone,
}

impl<D: Driver> Sessions<D> {
    /// Sessions of this database; none is opened before one is needed.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the options allow no session, or nobody to wait.
    pub fn new(driver: D, options: SessionOptions) -> Result<Self> {
        let zero = |what: &str| Error::misconfigured(format!("{what} is zero, so nothing could ever be locked"));
        if options.max_sessions == 0 {
            return Err(zero("the number of sessions"));
        }
        if options.max_waiting == 0 {
            return Err(zero("the number of waiting sessions"));
        }
        if options.heartbeat.is_zero() {
            return Err(Error::misconfigured("a heartbeat of zero would never pause"));
        }
        Ok(Self(Arc::new(Shared {
            waiting: Semaphore::new(options.max_waiting.min(options.max_sessions)),
            driver,
            options,
            environment: OnceLock::new(),
            lines: Mutex::default(),
            places: Mutex::default(),
            opening: Opening::default(),
            freed: Notify::new(),
            closed: AtomicBool::new(false),
        })))
    }

    /// As [`Backend::start`](pilotman_core::backend::Backend::start).
    pub fn start(&self, environment: Environment) {
        // A backend belongs to one engine; a second one is none.
        let _ = self.0.environment.set(environment);
    }

    /// The database.
    pub fn driver(&self) -> &D {
        &self.0.driver
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.0.lines().len()
    }

    /// As [`Backend::ready`](pilotman_core::backend::Backend::ready): opens the first session.
    pub fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        let is_there = self.0.lines().iter().any(|line| !line.state().is_reserved());
        (!is_there).then(|| Box::pin(async { self.any().await.map(drop) }) as BoxFuture<'_, Result<()>>)
    }

    /// As [`Backend::try_acquire`](pilotman_core::backend::Backend::try_acquire).
    ///
    /// # Errors
    ///
    /// Whatever keeps the attempt from being made.
    pub async fn try_acquire(
        &self,
        attempt: &Attempt,
        request: &<D::Session as Session>::Request,
    ) -> Result<Outcome> {
        let clock = self.0.environment()?.clock.clone();
        let mut tried: Vec<Arc<Line<D::Session>>> = Vec::new();
        let mut silent = 0;
        loop {
            let Opened { line, is_new } = match self.0.choose(request, &tried) {
                Some(line) => Opened { line, is_new: false },
                None => self.0.open(|| self.0.choose(request, &tried), false).await?,
            };
            let begun = clock.now();
            match self.try_on(&line, attempt, request).await {
                Told::Answer(Ok(Attempted::Granted(granted))) => return Ok(Outcome::Granted(grant(&line, granted))),
                Told::Answer(Ok(Attempted::Contended)) => return Ok(Outcome::Contended { retry_after: None }),
                // A session that was broken before is nothing to the caller, who gets another one. Those that don't answer at
                // all are not waited for one after the other.
                Told::Answer(Err(_)) | Told::Gone if line.is_over() && !is_new && silent < 2 => {
                    silent += u32::from(clock.now() >= begun.after(self.0.options.heartbeat));
                }
                Told::Answer(Err(error)) => return Err(error),
                Told::Answer(Ok(Attempted::Elsewhere)) | Told::Gone => {}
            }
            tried.push(line);
        }
    }

    async fn try_on(
        &self,
        line: &Arc<Line<D::Session>>,
        attempt: &Attempt,
        request: &<D::Session as Session>::Request,
    ) -> Told<Attempted<<D::Session as Session>::Cookie>> {
        let (reply, answer) = oneshot::channel();
        let (id, request) = (attempt.id, request.clone());
        let told = self.tell(line, id, Command::Try { id, request, reply }, answer).await;
        if !matches!(told, Told::Answer(Ok(Attempted::Granted(_)))) {
            self.0.places().remove(&id);
        }
        told
    }

    /// Asks one session. Until the answer has come, and if nobody waits for it any longer, the attempt is known to be there.
    async fn tell<T>(
        &self,
        line: &Arc<Line<D::Session>>,
        id: AttemptId,
        command: Command<D::Session>,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Told<T> {
        self.0.places().insert(id, line.clone());
        if !line.send(command) {
            self.0.places().remove(&id);
            return Told::Gone;
        }
        answer.await.map_or(Told::Gone, Told::Answer)
    }

    /// As [`Backend::enqueue`](pilotman_core::backend::Backend::enqueue).
    ///
    /// # Errors
    ///
    /// Whatever ends the wait before the lock was had.
    pub async fn enqueue(&self, attempt: &Attempt, request: &<D::Session as Session>::Request) -> Result<Grant> {
        // Of many who come at once the first opens a session, and what is free is had there: else each would open one to wait in.
        if self.0.driver.shares_sessions()
            && let Some(ready) = self.ready()
        {
            ready.await?;
        }
        // A session with holds can be asked, but not wait.
        if let Some(line) = self.0.choose(request, &[])
            && let Told::Answer(Ok(Attempted::Granted(granted))) = self.try_on(&line, attempt, request).await
        {
            return Ok(grant(&line, granted));
        }
        loop {
            let turn = pin!(self.0.waiting.acquire());
            let pause = self.0.pause()?;
            let turn = tokio::select! {
                biased;
                turn = turn => turn.map_err(|_| self.0.closed_error())?,
                () = pause => {
                    // None of those who wait may have what this one is after.
                    match self.try_acquire(attempt, request).await {
                        Ok(Outcome::Granted(grant)) => return Ok(grant),
                        Ok(Outcome::Contended { .. }) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            let reserved = self.0.reserve().await?;
            let (line, is_new) = (reserved.line.clone(), reserved.is_new);
            let (reply, answer) = oneshot::channel();
            let (id, request) = (attempt.id, request.clone());
            let told = {
                // From now on its task unreserves it.
                let command = Command::Wait { id, request, reply };
                reserved.hand_over();
                self.tell(&line, id, command, answer).await
            };
            drop(turn);
            match told {
                Told::Answer(Ok(granted)) => return Ok(grant(&line, granted)),
                // As in an attempt that doesn't wait: it may have been broken before.
                Told::Answer(Err(_)) if line.is_over() && !is_new => {
                    self.0.places().remove(&id);
                }
                Told::Answer(Err(error)) => {
                    self.0.places().remove(&id);
                    return Err(error);
                }
                Told::Gone => {
                    line.state().unreserve();
                    self.0.places().remove(&id);
                }
            }
        }
    }

    /// As [`Backend::abandon`](pilotman_core::backend::Backend::abandon).
    pub async fn abandon(&self, attempts: &[Attempt]) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let line = self.0.places().get(&attempt.id).cloned();
            let (reply, answer) = oneshot::channel();
            answers.push(line.filter(|line| line.send(Command::Abandon { id: attempt.id, reply })).map(|_| answer));
        }
        for (attempt, answer) in attempts.iter().zip(answers) {
            if let Some(answer) = answer {
                // A task that has ended without an answer has given back with its session.
                let _ = answer.await;
            }
            self.0.places().remove(&attempt.id);
        }
        attempts.iter().map(|_| Ok(())).collect()
    }

    /// As [`Backend::release`](pilotman_core::backend::Backend::release).
    pub async fn release(&self, holds: &[Arc<Holding>]) -> Vec<Result<Released>> {
        let gone = || Ok(Released::Gone(LossReason::SessionEnded));
        let mut lines: Vec<(Arc<Line<D::Session>>, Vec<usize>)> = Vec::new();
        for (at, hold) in holds.iter().enumerate() {
            let Some(SessionHold { line, .. }) = hold.state::<SessionHold<D::Session>>() else { continue };
            match lines.iter_mut().find(|(other, _)| Arc::ptr_eq(other, line)) {
                Some((_, of_line)) => of_line.push(at),
                None => lines.push((line.clone(), vec![at])),
            }
        }
        let mut found: Vec<Option<Result<Released>>> = holds.iter().map(|_| None).collect();
        let mut asked = Vec::new();
        for (line, of_line) in lines {
            let ids = of_line.iter().map(|at| holds[*at].attempt.id).collect();
            let (reply, answer) = oneshot::channel();
            if line.send(Command::Release { ids, reply }) {
                asked.push((of_line, answer));
            }
        }
        for (of_line, answer) in asked {
            for (at, released) in of_line.into_iter().zip(answer.await.unwrap_or_default()) {
                found[at] = Some(released);
            }
        }
        let mut places = self.0.places();
        holds.iter().for_each(|hold| drop(places.remove(&hold.attempt.id)));
        found.into_iter().map(|released| released.unwrap_or_else(gone)).collect()
    }

    /// As [`Backend::mint`](pilotman_core::backend::Backend::mint).
    ///
    /// # Errors
    ///
    /// `Lost` if the hold is gone, or what kept the token from being made.
    pub async fn mint(&self, hold: &Holding) -> Result<u64> {
        let gone = || Error::lost(LossReason::SessionEnded);
        let line = &hold.state::<SessionHold<D::Session>>().ok_or_else(gone)?.line;
        let (reply, answer) = oneshot::channel();
        match line.send(Command::Mint { id: hold.attempt.id, reply }) {
            true => answer.await.unwrap_or_else(|_| Err(gone())),
            false => Err(gone()),
        }
    }

    /// As [`Backend::verify`](pilotman_core::backend::Backend::verify): whether the session has ended.
    pub fn verify(&self, hold: &Holding) -> Option<LossReason> {
        let over = hold.state::<SessionHold<D::Session>>().is_none_or(|hold| hold.line.is_over());
        over.then_some(LossReason::SessionEnded)
    }

    /// Does something else with a session: looking at who holds what, say. It must leave the session as it was.
    ///
    /// # Errors
    ///
    /// What `visit` returns, or `Unavailable` if there is no session for it or it ended meanwhile.
    pub async fn visit<T: Send + 'static>(
        &self,
        visit: impl for<'a> FnOnce(&'a mut D::Session) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let line = self.any().await?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Visit(Box::new(move |session| {
            let work = visit(session);
            Box::pin(async move { drop(reply.send(work.await)) })
        }));
        let gone = || Error::unavailable("the session ended meanwhile").no_effect(true);
        match line.send(command) {
            true => answer.await.unwrap_or_else(|_| Err(gone())),
            false => Err(gone()),
        }
    }

    /// A session that can be asked something.
    async fn any(&self) -> Result<Arc<Line<D::Session>>> {
        let usable = || self.0.lines().iter().find(|line| !line.state().is_reserved()).cloned();
        match usable() {
            Some(line) => Ok(line),
            None => self.0.open(usable, false).await.map(|opened| opened.line),
        }
    }

    /// As [`Backend::close`](pilotman_core::backend::Backend::close).
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waiting.close();
        for ended in self.0.end_all() {
            let _ = ended.await;
        }
    }
}

fn grant<S: Session>(line: &Arc<Line<S>>, granted: Granted<S::Cookie>) -> Grant {
    let mut grant = Grant::default();
    grant.token = granted.token;
    grant.state = Some(Box::new(SessionHold { line: line.clone(), cookie: granted.cookie }));
    grant
}

/// A session, and whether it was opened just now: then it was not broken before.
struct Opened<S: Session> {
    line: Arc<Line<S>>,
    is_new: bool,
}

/// A session that is kept for a wait.
struct Reserved<'a, D: Driver> {
    shared: &'a Shared<D>,
    line: Arc<Line<D::Session>>,
    is_new: bool,
    mine: bool,
}

impl<D: Driver> Reserved<'_, D> {
    fn hand_over(mut self) {
        self.mine = false;
    }
}

impl<D: Driver> Drop for Reserved<'_, D> {
    fn drop(&mut self) {
        if self.mine {
            self.line.state().unreserve();
            self.shared.freed.notify_waiters();
        }
    }
}

impl<D: Driver> Shared<D> {
    fn lines(&self) -> MutexGuard<'_, Vec<Arc<Line<D::Session>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Line<D::Session>>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    fn closed_error(&self) -> Error {
        Error::new(ErrorKind::Closed, "the sessions have been closed")
    }

    fn pause(&self) -> Result<Sleep> {
        let environment = self.environment()?;
        let jitter = environment.random.next() % (TRY_AGAIN.as_nanos() as u64);
        Ok(Sleep::new(environment.clock.clone(), TRY_AGAIN + Duration::from_nanos(jitter)))
    }

    /// The session for an attempt that doesn't wait: one with other holds rather than an empty one, which is better kept for a
    /// wait; and of those the one that has the least to do.
    fn choose(
        &self,
        request: &<D::Session as Session>::Request,
        tried: &[Arc<Line<D::Session>>],
    ) -> Option<Arc<Line<D::Session>>> {
        let shares = self.driver.shares_sessions();
        let lines = self.lines();
        let fitting = lines.iter().filter(|line| tried.iter().all(|other| !Arc::ptr_eq(line, other))).filter_map(|line| {
            let state = line.state();
            let fit: Fit = state.fits(request, shares)?;
            Some(((fit, state.busy), line))
        });
        fitting.min_by_key(|(order, _)| *order).map(|(_, line)| line.clone())
    }

    /// Opens a session, unless `found` finds one when it is this caller's turn.
    async fn open(
        self: &Arc<Self>,
        found: impl Fn() -> Option<Arc<Line<D::Session>>>,
        reserved: bool,
    ) -> Result<Opened<D::Session>> {
        let turn = self.opening.turn().await;
        if let Some(line) = found() {
            return Ok(Opened { line, is_new: false });
        }
        if let Some(error) = turn.failed_meanwhile() {
            return Err(error);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(self.closed_error());
        }
        if self.count() >= self.options.max_sessions {
            return Err(self.full());
        }
        let session = self.driver.connect().await.inspect_err(|error| turn.failed(error))?;
        self.add(session, reserved).map(|line| Opened { line, is_new: true })
    }

    /// How many sessions there are that have not ended.
    fn count(&self) -> usize {
        self.lines().iter().filter(|line| !line.is_over()).count()
    }

    fn full(&self) -> Error {
        Error::unavailable(format!("all {} sessions are in use", self.options.max_sessions))
            .with_advice("allow more sessions (max-sessions), or hold fewer locks at the same time")
            .no_effect(true)
    }

    fn add(self: &Arc<Self>, session: D::Session, reserved: bool) -> Result<Arc<Line<D::Session>>> {
        let (sender, commands) = mpsc::unbounded_channel();
        let line = Arc::new(Line::new(sender, reserved));
        let task = Task {
            session,
            line: line.clone(),
            commands,
            shared: Arc::downgrade(self),
            environment: self.environment()?.clone(),
            heartbeat: self.options.heartbeat,
            idle: self.options.idle,
        };
        self.lines().push(line.clone());
        // It lives as long as its session; nobody waits for its end.
        drop(tokio::spawn(task.run()));
        // Closed between the look above and now: nobody else would end it.
        if self.closed.load(Ordering::Acquire) {
            self.end_all();
            return Err(self.closed_error());
        }
        Ok(line)
    }

    /// An empty session that is for one wait only.
    async fn reserve(self: &Arc<Self>) -> Result<Reserved<'_, D>> {
        let clock = self.environment()?.clock.clone();
        let mut patience = pin!(Sleep::new(clock, FULL));
        let free = || self.lines().iter().find(|line| line.state().reserve()).cloned();
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let opened = match free() {
                Some(line) => Ok(Opened { line, is_new: false }),
                None => self.open(free, true).await,
            };
            match opened {
                Ok(Opened { line, is_new }) => return Ok(Reserved { shared: self, line, is_new, mine: true }),
                Err(error) if self.count() < self.options.max_sessions => return Err(error),
                // Most of them have something to do only for a moment.
                Err(error) => tokio::select! {
                    () = freed => {}
                    () = &mut patience => return Err(error),
                },
            }
        }
    }

    /// A session has ended.
    pub(crate) fn forget(&self, line: &Arc<Line<D::Session>>) {
        self.lines().retain(|other| !Arc::ptr_eq(other, line));
        self.places().retain(|_, other| !Arc::ptr_eq(other, line));
        self.freed.notify_waiters();
    }

    /// Whether this session, which has been idle for long, is not needed; it is taken from the others then.
    pub(crate) fn gives_up(&self, line: &Arc<Line<D::Session>>) -> bool {
        let lines = self.lines();
        let idle = lines.iter().filter(|line| line.state().is_idle()).count();
        // Whoever chooses it now finds it reserved; whoever has chosen it already has made it busy, or finds it gone.
        idle > self.options.warm && line.state().reserve()
    }

    fn end_all(&self) -> Vec<oneshot::Receiver<()>> {
        let lines: Vec<_> = self.lines().clone();
        let mut ended = Vec::new();
        for line in lines {
            let (reply, answer) = oneshot::channel();
            if line.send(Command::End { reply }) {
                ended.push(answer);
            }
        }
        ended
    }
}

impl<D: Driver> Drop for Sessions<D> {
    fn drop(&mut self) {
        // The last of the clones; tasks only have weak references.
        if Arc::strong_count(&self.0) == 1 {
            self.0.end_all();
        }
    }
}

#[allow(dead_code, reason = "a compile-time check")]
fn futures_are_send<D: Driver>(sessions: &Sessions<D>, attempt: &Attempt, request: &<D::Session as Session>::Request) {
    fn check(_: impl Future + Send) {}
    check(sessions.try_acquire(attempt, request));
    check(sessions.enqueue(attempt, request));
}
