//! Which session an attempt runs on.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::backend::{Attempt, AttemptId, BoxFuture, Environment, Grant, Holding, Outcome, Released};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, LossReason, Result};
use tokio::sync::{SemaphorePermit, oneshot};

use crate::SessionOptions;
use crate::driver::{Attempted, Driver, Granted, Session};
use crate::line::{Command, Line};
use crate::shared::Shared;

/// What is released is told after this time, whatever hangs; the engine has a little more patience.
const RELEASE: Duration = Duration::from_millis(1500);

/// The sessions of one [`Locks`](pilotman_core::Locks). Cheap to clone.
pub struct Sessions<D: Driver>(Arc<Shared<D>>, Arc<Owner<D>>);

/// Ends all sessions with the last clone of [`Sessions`]: their tasks know of the rest only for moments.
struct Owner<D: Driver>(Arc<Shared<D>>);

impl<D: Driver> Drop for Owner<D> {
    fn drop(&mut self) {
        drop(self.0.end_all());
    }
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
        Self(self.0.clone(), self.1.clone())
    }
}

impl<D: Driver> fmt::Debug for Sessions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("driver", &self.0.driver).field("open", &self.open_sessions()).finish()
    }
}

/// How standing in line for a wait has ended.
enum Turn<'a> {
    Wait(SemaphorePermit<'a>),
    Had(Grant),
}

type OfLine<S> = (Arc<Line<S>>, Vec<usize>);

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
        let shared = Arc::new(Shared::new(driver, options));
        Ok(Self(shared.clone(), Arc::new(Owner(shared))))
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
        let is_there = |shared: &Arc<Shared<D>>| shared.lines().iter().any(|line| !line.is_over()).then_some(());
        let open = async move { self.0.open(is_there).await.map(drop) };
        is_there(&self.0).is_none().then(|| Box::pin(open) as BoxFuture<'_, Result<()>>)
    }

    /// As [`Backend::try_acquire`](pilotman_core::backend::Backend::try_acquire).
    ///
    /// # Errors
    ///
    /// Whatever keeps the attempt from being made.
    ///
    /// # Cancel safety
    ///
    /// What the attempt was granted, or will be, is given back by [`Self::abandon`].
    ///
    /// # Cost
    ///
    /// One statement of the driver; a session where there is none for it.
    pub async fn try_acquire(&self, attempt: &Attempt, request: &<D::Session as Session>::Request) -> Result<Outcome> {
        let clock = self.0.environment()?.clock.clone();
        let mut tried: Vec<Arc<Line<D::Session>>> = Vec::new();
        // All that there were may be broken, but not all that are opened then.
        let (mut silent, most) = (0, self.0.options.max_sessions + 2);
        loop {
            let Some(line) = self.0.choose(request, &tried) else {
                let (wanted, known) = (request.clone(), tried.clone());
                self.0.open(move |shared| shared.choose(&wanted, &known).map(drop)).await?;
                continue;
            };
            let begun = clock.now();
            match self.try_on(&line, attempt, request).await {
                Told::Answer(Ok(Attempted::Granted(granted))) => return Ok(Outcome::Granted(grant(&line, granted))),
                Told::Answer(Ok(Attempted::Contended)) => return Ok(Outcome::Contended { retry_after: None }),
                // A session that was broken before is nothing to the caller, who gets another one. Those that don't answer at
                // all are not waited for one after the other.
                Told::Answer(Err(_)) | Told::Gone if line.is_over() && silent < 2 && tried.len() < most => {
                    silent += u32::from(clock.now() >= begun.after(self.0.options.heartbeat));
                }
                Told::Answer(Err(error)) => return Err(error),
                Told::Answer(Ok(Attempted::Elsewhere)) => {}
                // Somebody was faster; it may fit again.
                Told::Gone => {
                    tokio::task::yield_now().await;
                    continue;
                }
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
        let id = attempt.id;
        let how = (self.0.driver.shares_sessions(), self.0.now());
        let told = self.tell(line, id, answer, |line| line.offer((id, request.clone()), how, reply)).await;
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
        answer: oneshot::Receiver<Result<T>>,
        send: impl FnOnce(&Line<D::Session>) -> bool,
    ) -> Told<T> {
        self.0.places().insert(id, line.clone());
        if !send(line) {
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
    ///
    /// # Cancel safety
    ///
    /// What the attempt was granted, or will be, is given back by [`Self::abandon`], which also ends its wait on the server.
    ///
    /// # Cost
    ///
    /// One attempt where a session has other holds, and one wait of the driver.
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
        let mut broken = 0;
        loop {
            let _turn = match self.turn(attempt, request).await? {
                Turn::Wait(turn) => turn,
                Turn::Had(grant) => return Ok(grant),
            };
            let reserved = match self.0.reserve().await {
                Ok(reserved) => reserved,
                // All have holds; but those can be asked again and again.
                Err(_) if self.0.driver.shares_sessions() && self.0.is_full() => {
                    self.0.pause()?.await;
                    match self.try_acquire(attempt, request).await? {
                        Outcome::Granted(grant) => return Ok(grant),
                        Outcome::Contended { .. } => continue,
                    }
                }
                Err(error) => return Err(error),
            };
            let (reply, answer) = oneshot::channel();
            let (id, request) = (attempt.id, request.clone());
            let line = reserved.line.clone();
            let told = self
                .tell(&line, id, answer, |line| {
                    let sent = line.send(Command::Wait { id, request, reply });
                    if sent {
                        reserved.hand_over();
                    }
                    sent
                })
                .await;
            match told {
                Told::Answer(Ok(granted)) => return Ok(grant(&line, granted)),
                // As in an attempt that doesn't wait: it may have been broken before, and another one goes on waiting.
                Told::Answer(Err(_)) if line.is_over() && broken < self.0.options.max_sessions + 2 => {
                    self.0.places().remove(&id);
                    broken += 1;
                }
                Told::Answer(Err(error)) => {
                    self.0.places().remove(&id);
                    return Err(error);
                }
                // It had ended before: another one.
                Told::Gone => {
                    self.0.places().remove(&id);
                }
            }
        }
    }

    /// The right to wait on the server. While others have them all, what is free is had all the same: none of those who wait may
    /// be after it.
    async fn turn(&self, attempt: &Attempt, request: &<D::Session as Session>::Request) -> Result<Turn<'_>> {
        let mut turn = pin!(self.0.waiting.acquire());
        loop {
            let pause = self.0.pause()?;
            tokio::select! {
                biased;
                turn = &mut turn => return turn.map(Turn::Wait).map_err(|_| self.0.closed_error()),
                () = pause => {}
            }
            match self.try_acquire(attempt, request).await {
                Ok(Outcome::Granted(grant)) => return Ok(Turn::Had(grant)),
                Ok(Outcome::Contended { .. }) => {}
                // Sessions come free, too.
                Err(_) if self.0.is_full() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Backend::abandon`](pilotman_core::backend::Backend::abandon).
    ///
    /// # Errors
    ///
    /// None: a session that can't give back is ended.
    ///
    /// # Cancel safety
    ///
    /// What was asked of the sessions is done in any case.
    ///
    /// # Cost
    ///
    /// One statement for each attempt that has something, none for others.
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
    ///
    /// # Errors
    ///
    /// None: where the session ended instead, the hold has ended with it and is *gone*.
    ///
    /// # Cancel safety
    ///
    /// What was asked of the sessions is done in any case.
    ///
    /// # Cost
    ///
    /// One statement for each session.
    pub async fn release(&self, holds: &[Arc<Holding>]) -> Vec<Result<Released>> {
        let gone = || Ok(Released::Gone(LossReason::SessionEnded));
        // The sessions, each with the positions of its holds.
        let mut lines: Vec<OfLine<D::Session>> = Vec::new();
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
        // One session that hangs must not keep back what the others say.
        let clock = self.0.environment.get().map(|environment| environment.clock.clone());
        let mut late = pin!(clock.map(|clock| Sleep::new(clock, RELEASE)));
        let mut is_late = false;
        for (of_line, mut answer) in asked {
            let answer = match late.as_mut().as_pin_mut() {
                Some(late) if !is_late => tokio::select! {
                    biased;
                    answer = &mut answer => Some(answer),
                    () = late => {
                        is_late = true;
                        None
                    }
                },
                Some(_) => answer.try_recv().ok().map(Ok),
                None => Some(answer.await),
            };
            let silent = || Err(Error::unavailable("the server has not answered a release yet"));
            for (at, released) in of_line.iter().zip(answer.map(Result::unwrap_or_default).unwrap_or_default()) {
                found[*at] = Some(released);
            }
            if is_late {
                of_line.into_iter().filter(|at| found[*at].is_none()).collect::<Vec<_>>().into_iter().for_each(|at| {
                    found[at] = Some(silent());
                });
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
    ///
    /// # Cancel safety
    ///
    /// A token that nobody waits for is made all the same.
    ///
    /// # Cost
    ///
    /// One statement of the driver.
    pub async fn mint(&self, hold: &Holding) -> Result<u64> {
        let gone = || Error::lost(LossReason::SessionEnded);
        let line = &hold.state::<SessionHold<D::Session>>().ok_or_else(gone)?.line;
        let (reply, answer) = oneshot::channel();
        match line.send(Command::Mint { id: hold.attempt.id, reply }) {
            true => answer.await.unwrap_or_else(|_| Err(gone())),
            false => Err(gone()),
        }
    }

    /// As [`Backend::upgrade`](pilotman_core::backend::Backend::upgrade).
    ///
    /// # Errors
    ///
    /// `Lost` if the hold is gone, or whatever ended the wait.
    ///
    /// # Cancel safety
    ///
    /// Its wait on the server is ended. If the upgrade was given just then it stays in force until the hold is released.
    ///
    /// # Cost
    ///
    /// One wait of the driver.
    pub async fn upgrade(&self, hold: &Holding) -> Result<()> {
        match self.ask_upgrade(hold, true).await? {
            true => Ok(()),
            // Only who has gone stops it, or who ends the session.
            false => Err(Error::lost(LossReason::SessionEnded)),
        }
    }

    /// As [`Backend::try_upgrade`](pilotman_core::backend::Backend::try_upgrade).
    ///
    /// # Errors
    ///
    /// `Lost` if the hold is gone, or what kept the attempt from being made.
    ///
    /// # Cancel safety
    ///
    /// What was asked of the session is done in any case.
    ///
    /// # Cost
    ///
    /// One statement of the driver.
    pub async fn try_upgrade(&self, hold: &Holding) -> Result<bool> {
        self.ask_upgrade(hold, false).await
    }

    async fn ask_upgrade(&self, hold: &Holding, waits: bool) -> Result<bool> {
        let gone = || Error::lost(LossReason::SessionEnded);
        let line = &hold.state::<SessionHold<D::Session>>().ok_or_else(gone)?.line;
        let (reply, answer) = oneshot::channel();
        match line.send(Command::Upgrade { id: hold.attempt.id, waits, reply }) {
            true => answer.await.unwrap_or_else(|_| Err(gone())),
            false => Err(gone()),
        }
    }

    /// As [`Backend::verify`](pilotman_core::backend::Backend::verify): whether the session has ended.
    pub fn verify(&self, hold: &Holding) -> Option<LossReason> {
        let over = hold.state::<SessionHold<D::Session>>().is_none_or(|hold| hold.line.is_over());
        over.then_some(LossReason::SessionEnded)
    }

    /// As [`Backend::observe`](pilotman_core::backend::Backend::observe): a session may have ended between its grant and the
    /// moment when the engine knew of the hold.
    pub fn observe(&self, hold: &Holding) {
        if let (Some(reason), Some(environment)) = (self.verify(hold), self.0.environment.get()) {
            environment.events.lost(hold.attempt.id, reason);
        }
    }

    /// Does something else with a session: looking at who holds what, say. It must leave the session as it was. One that was ended
    /// while nobody used it is passed over.
    ///
    /// # Errors
    ///
    /// What `visit` returns, or `Unavailable` if there is no session for it or it ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// What was begun is done in any case.
    ///
    /// # Cost
    ///
    /// A round trip, and what `visit` costs.
    pub async fn visit<T, F>(&self, visit: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut D::Session) -> BoxFuture<'a, Result<T>> + Send + 'static,
    {
        let mut visit = visit;
        let mut passed_over = 0;
        loop {
            let line = self.line_to_visit().await?;
            let (reply, answer) = oneshot::channel();
            let command = Command::Visit(Box::new(move |session: &mut D::Session| {
                Box::pin(async move {
                    let answer = match session.ping().await {
                        Ok(()) => Ok(visit(session).await),
                        Err(error) => Err((visit, error)),
                    };
                    drop(reply.send(answer));
                })
            }));
            let sent = line.send(command);
            match answer.await {
                Ok(Ok(visited)) => return visited,
                Ok(Err((back, _))) if passed_over < self.0.options.max_sessions => {
                    visit = back;
                    passed_over += 1;
                }
                Ok(Err((_, error))) => return Err(error),
                Err(_) => {
                    return Err(Error::unavailable("the session ended meanwhile").no_effect(!sent));
                }
            }
        }
    }

    /// A session without holds: what goes wrong there costs none.
    async fn line_to_visit(&self) -> Result<Arc<Line<D::Session>>> {
        match self.0.reserve().await {
            Ok(reserved) => Ok(reserved.hand_over()),
            Err(error) if self.0.driver.shares_sessions() && self.0.is_full() => {
                let lines = self.0.lines().clone();
                // Not in a session whose only hold may be waiting for its upgrade: a visit would end that wait.
                let can_be_asked = |line: &Arc<Line<D::Session>>| {
                    let state = line.state();
                    !state.is_over() && !state.is_reserved() && !state.is_taken_alone()
                };
                lines.into_iter().find(can_be_asked).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Backend::close`](pilotman_core::backend::Backend::close).
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Cancel safety
    ///
    /// The sessions end in any case.
    ///
    /// # Cost
    ///
    /// A farewell to each session.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waiting.close();
        for ended in self.0.end_all() {
            let _ = ended.await;
        }
    }
}

fn grant<S: Session>(line: &Arc<Line<S>>, granted: Granted<S::Cookie>) -> Grant {
    let hold = SessionHold { line: line.clone(), cookie: granted.cookie };
    Grant { token: granted.token, state: Some(Box::new(hold)), ..Grant::default() }
}

#[allow(dead_code, reason = "a compile-time check")]
fn futures_are_send<D: Driver>(sessions: &Sessions<D>, attempt: &Attempt, request: &<D::Session as Session>::Request) {
    fn check(_: impl Future + Send) {}
    check(sessions.try_acquire(attempt, request));
    check(sessions.enqueue(attempt, request));
}
