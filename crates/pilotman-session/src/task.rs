//! The task that runs a session's statements, one after the other.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pilotman_core::backend::{AttemptId, BoxFuture, Environment, Released};
use pilotman_core::clock::{Clock, Sleep, Time};
use pilotman_core::{Error, LossReason, Result};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Attempted, Driver, Granted, Request, Session, Stop};
use crate::line::{Command, Line};
use crate::shared::Shared;

/// A session that holds nothing is looked after this often at most.
const SHORTEST_IDLE: Duration = Duration::from_millis(100);

/// See the [module](self).
pub(crate) struct Task<D: Driver> {
    pub(crate) session: D::Session,
    pub(crate) commands: mpsc::UnboundedReceiver<Command<D::Session>>,
    pub(crate) mourner: Mourner<D>,
    pub(crate) heartbeat: Duration,
    pub(crate) idle: Duration,
}

/// Tells the end of a session to those whom it concerns, also if its task is dropped with its runtime, or panics: the connection
/// goes with it, and the server gives the locks to others.
pub(crate) struct Mourner<D: Driver> {
    line: Arc<Line<D::Session>>,
    shared: Weak<Shared<D>>,
    environment: Environment,
}

impl<D: Driver> Mourner<D> {
    pub(crate) fn new(line: Arc<Line<D::Session>>, shared: Weak<Shared<D>>, environment: Environment) -> Self {
        Self { line, shared, environment }
    }

    fn tell(&self) {
        let lost = self.line.state().end();
        if let Some(shared) = self.shared.upgrade() {
            shared.forget(&self.line);
        }
        if !lost.is_empty() {
            tracing::debug!(lock.count = lost.len(), "a session with holds has ended");
        }
        for id in lost {
            self.environment.events.lost(id, LossReason::SessionEnded);
        }
    }
}

impl<D: Driver> Drop for Mourner<D> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Why a session is given up.
enum Over {
    /// In good order.
    Wanted,
    /// The connection has ended.
    Closed,
    /// A statement has had no answer, or one after which nothing is known.
    Unknown,
}

/// What came first of a statement's answer, its time-out and the end of the connection.
enum Step<T> {
    Answered(Result<T>),
    Over(Over),
}

/// Where a task is: apart from the session, which statements borrow.
struct State {
    clock: Arc<dyn Clock>,
    limit: Duration,
    closed: BoxFuture<'static, ()>,
    /// When the server was last heard.
    heard: Time,
}

impl State {
    /// Runs one statement.
    async fn run<T>(&mut self, work: impl Future<Output = Result<T>>) -> Step<T> {
        let late = Sleep::new(self.clock.clone(), self.limit);
        tokio::select! {
            biased;
            answer = work => {
                if answer.is_ok() {
                    self.heard = self.clock.now();
                }
                Step::Answered(answer)
            }
            () = &mut self.closed => Step::Over(Over::Closed),
            () = late => Step::Over(Over::Unknown),
        }
    }
}

impl<D: Driver> Task<D> {
    pub(crate) async fn run(mut self) {
        let clock = self.mourner.environment.clock.clone();
        let closed = self.session.closed();
        let mut state = State { heard: clock.now(), clock, limit: self.heartbeat, closed };
        let mut backlog = VecDeque::new();
        let mut ends = Vec::new();
        let over = loop {
            let command = match backlog.pop_front() {
                Some(command) => command,
                None => match self.next(&mut state).await {
                    Ok(Some(command)) => command,
                    Ok(None) => continue,
                    Err(over) => break over,
                },
            };
            self.mourner.line.state().begin(state.clock.now());
            let over = match command {
                Command::End { reply } => {
                    ends.push(reply);
                    Some(Over::Wanted)
                }
                command => self.perform(command, &mut state, &mut backlog).await,
            };
            {
                let mut line = self.mourner.line.state();
                line.done();
                if over.is_some() || !self.session.is_usable() {
                    line.close();
                }
            }
            // Only now is anybody woken who looks for a session that has nothing to do.
            if let Some(shared) = self.mourner.shared.upgrade() {
                shared.freed.notify_waiters();
            }
            if let Some(over) = over {
                break over;
            }
            if !self.session.is_usable() {
                break Over::Unknown;
            }
        };
        self.end(over, backlog, ends).await;
    }

    /// The next command, or nothing after the session was looked after.
    async fn next(&mut self, state: &mut State) -> Result<Option<Command<D::Session>>, Over> {
        let has_holds = self.mourner.line.state().has_holds();
        let pause = match has_holds {
            // Asked after half of it, and with a whole one to answer, a loss is told within two whatever comes in between.
            true => (self.heartbeat / 2).min(self.session.longest_silence().unwrap_or(Duration::MAX)),
            false => self.idle.max(SHORTEST_IDLE),
        };
        let timer = Sleep::until(state.clock.clone(), state.heard.after(pause));
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map(Some).ok_or(Over::Wanted),
            () = &mut state.closed => Err(Over::Closed),
            () = timer => self.look_after(state, has_holds).await.map(|()| None),
        }
    }

    async fn look_after(&mut self, state: &mut State, has_holds: bool) -> Result<(), Over> {
        if !has_holds && self.mourner.shared.upgrade().is_none_or(|shared| shared.gives_up(&self.mourner.line)) {
            return Err(Over::Wanted);
        }
        match state.run(self.session.ping()).await {
            Step::Answered(Ok(())) => Ok(()),
            Step::Answered(Err(error)) => {
                tracing::debug!(%error, "a session has no heartbeat");
                Err(Over::Unknown)
            }
            Step::Over(over) => Err(over),
        }
    }

    async fn perform(
        &mut self,
        command: Command<D::Session>,
        state: &mut State,
        backlog: &mut VecDeque<Command<D::Session>>,
    ) -> Option<Over> {
        match command {
            Command::Try { id, request, reply } => {
                let (held, can_join) = {
                    let line = self.mourner.line.state();
                    (line.cookies(request.key()), line.can_join(&request))
                };
                if !can_join {
                    // Never so, since such attempts are not sent: the server would grant it twice.
                    self.mourner.line.state().answered(id);
                    let _ = reply.send(Ok(Attempted::Contended));
                    return None;
                }
                let answer = match state.run(self.session.try_lock(&request, &held)).await {
                    Step::Answered(answer) => answer,
                    Step::Over(over) => {
                        self.mourner.line.state().close();
                        let _ = reply.send(Err(ended()));
                        return Some(over);
                    }
                };
                {
                    let mut line = self.mourner.line.state();
                    line.answered(id);
                    match &answer {
                        Ok(Attempted::Granted(granted)) => line.add(id, request, granted.cookie.clone()),
                        // Before whoever asked looks whether it has.
                        Err(_) if !self.session.is_usable() => line.close(),
                        _ => {}
                    }
                }
                // Whoever dropped the attempt abandons it.
                let _ = reply.send(answer);
                None
            }
            Command::Wait { id, request, reply } => {
                let over = self.wait(id, request, reply, state, backlog).await;
                self.mourner.line.state().unreserve();
                over
            }
            Command::Release { ids, reply } => match self.release(&ids, state).await {
                Ok(answers) => {
                    let _ = reply.send(answers);
                    None
                }
                Err(over) => {
                    let _ = reply.send(ids.iter().map(|_| Ok(Released::Gone(LossReason::SessionEnded))).collect());
                    Some(over)
                }
            },
            Command::Abandon { id, reply } => {
                let released = self.release(&[id], state).await;
                let _ = reply.send(());
                released.err()
            }
            Command::Mint { id, reply } => {
                let request = self.mourner.line.state().held(id).map(|held| held.request.clone());
                let Some(request) = request else {
                    let _ = reply.send(Err(Error::lost(LossReason::Gone)));
                    return None;
                };
                match state.run(self.session.mint(&request)).await {
                    Step::Answered(token) => {
                        let _ = reply.send(token);
                        None
                    }
                    Step::Over(over) => {
                        let _ = reply.send(Err(Error::lost(LossReason::SessionEnded)));
                        Some(over)
                    }
                }
            }
            Command::Upgrade { id, waits, reply } => self.upgrade((id, waits), reply, state, backlog).await,
            Command::Visit(visit) => {
                let visited = visit(&mut self.session);
                let visited = async {
                    visited.await;
                    Ok(())
                };
                let over = match state.run(visited).await {
                    Step::Answered(_) => None,
                    Step::Over(over) => Some(over),
                };
                self.mourner.line.state().unreserve();
                over
            }
            Command::End { reply } => {
                let _ = reply.send(());
                Some(Over::Wanted)
            }
        }
    }

    /// Waits on the server for as long as somebody wants it.
    async fn wait(
        &mut self,
        id: AttemptId,
        request: <D::Session as Session>::Request,
        reply: oneshot::Sender<Result<Granted<<D::Session as Session>::Cookie>>>,
        state: &mut State,
        backlog: &mut VecDeque<Command<D::Session>>,
    ) -> Option<Over> {
        let (stopper, stop) = Stop::new();
        let mut abandoned: Vec<oneshot::Sender<()>> = Vec::new();
        let mut until = Time::NEVER;
        let answer = {
            let mut waiting = pin!(self.session.lock(&request, stop));
            loop {
                let late = Sleep::until(state.clock.clone(), until);
                tokio::select! {
                    biased;
                    answer = &mut waiting => break answer,
                    command = self.commands.recv() => {
                        match command {
                            Some(Command::Abandon { id: other, reply }) => {
                                // It is answered here, as part of the wait.
                                self.mourner.line.state().busy -= 1;
                                if other != id {
                                    // A session that waits holds nothing else.
                                    let _ = reply.send(());
                                    continue;
                                }
                                abandoned.push(reply);
                            }
                            Some(Command::End { reply }) => backlog.push_back(Command::End { reply }),
                            Some(command) => {
                                backlog.push_back(command);
                                continue;
                            }
                            None => {}
                        }
                        let _ = stopper.send(true);
                        until = until.min(state.clock.now().after(state.limit));
                    }
                    () = &mut state.closed => {
                        self.mourner.line.state().close();
                        let _ = reply.send(Err(ended()));
                        return Some(Over::Closed);
                    }
                    () = late => {
                        self.mourner.line.state().close();
                        let _ = reply.send(Err(ended()));
                        return Some(Over::Unknown);
                    }
                }
            }
        };
        state.heard = state.clock.now();
        match answer {
            Ok(Some(granted)) => {
                self.mourner.line.state().add(id, request, granted.cookie.clone());
                if !abandoned.is_empty() {
                    return self.release(&[id], state).await.err();
                }
                // Whoever dropped the wait abandons it.
                let _ = reply.send(Ok(granted));
            }
            Ok(None) => {
                let _ = reply.send(Err(ended()));
            }
            Err(error) => {
                if !self.session.is_usable() {
                    // Before whoever asked looks whether it has.
                    self.mourner.line.state().close();
                }
                let _ = reply.send(Err(error));
            }
        }
        None
    }

    /// Upgrades a hold, for as long as somebody wants it and nothing else is asked of the session.
    async fn upgrade(
        &mut self,
        (id, waits): (AttemptId, bool),
        mut reply: oneshot::Sender<Result<bool>>,
        state: &mut State,
        backlog: &mut VecDeque<Command<D::Session>>,
    ) -> Option<Over> {
        let held = self.mourner.line.state().held(id).map(|held| (held.request.clone(), held.cookie.clone()));
        let Some((request, cookie)) = held else {
            let _ = reply.send(Err(Error::lost(LossReason::Gone)));
            return None;
        };
        let lost = || Err(Error::lost(LossReason::SessionEnded));
        if !waits {
            return match state.run(self.session.upgrade(&request, &cookie, None)).await {
                Step::Answered(upgraded) => {
                    self.close_unless_usable();
                    let _ = reply.send(upgraded);
                    None
                }
                Step::Over(over) => {
                    self.mourner.line.state().close();
                    let _ = reply.send(lost());
                    Some(over)
                }
            };
        }
        let (stopper, stop) = Stop::new();
        let (mut until, mut is_wanted) = (Time::NEVER, true);
        let answer = {
            let mut waiting = pin!(self.session.upgrade(&request, &cookie, Some(stop)));
            loop {
                let late = Sleep::until(state.clock.clone(), until);
                tokio::select! {
                    biased;
                    answer = &mut waiting => break answer,
                    () = reply.closed(), if is_wanted => is_wanted = false,
                    command = self.commands.recv(), if is_wanted => {
                        // It is this hold's release, or the end of the session.
                        backlog.extend(command);
                        is_wanted = false;
                    }
                    () = &mut state.closed => {
                        self.mourner.line.state().close();
                        let _ = reply.send(lost());
                        return Some(Over::Closed);
                    }
                    () = late => {
                        self.mourner.line.state().close();
                        let _ = reply.send(lost());
                        return Some(Over::Unknown);
                    }
                }
                let _ = stopper.send(true);
                until = until.min(state.clock.now().after(state.limit));
            }
        };
        state.heard = state.clock.now();
        self.close_unless_usable();
        let _ = reply.send(answer);
        None
    }

    /// Before whoever asked looks whether it has ended.
    fn close_unless_usable(&self) {
        if !self.session.is_usable() {
            self.mourner.line.state().close();
        }
    }

    /// Gives back what these attempts hold here.
    async fn release(&mut self, ids: &[AttemptId], state: &mut State) -> Result<Vec<Result<Released>>, Over> {
        let (mut known, mut holds) = (Vec::new(), Vec::new());
        {
            let mut line = self.mourner.line.state();
            for id in ids {
                let held = line.remove(*id);
                known.push(held.is_some());
                holds.extend(held.map(|held| (held.request, held.cookie)));
            }
        }
        let mut found = Vec::new();
        // Each part has the time of a statement of its own, lest many releases end a session that is only far away.
        for part in holds.chunks(self.session.releases_at_once().max(1)) {
            match state.run(self.session.unlock(part)).await {
                Step::Answered(Ok(answers)) => found.extend(answers),
                Step::Answered(Err(error)) => {
                    tracing::debug!(%error, "a release failed; its session is ended");
                    return Err(Over::Unknown);
                }
                Step::Over(over) => return Err(over),
            }
        }
        let mut found = found.into_iter();
        Ok(known
            .into_iter()
            .map(|known| match known && found.next().unwrap_or(false) {
                true => Ok(Released::Free { others_wait: false }),
                false => Ok(Released::Gone(LossReason::Gone)),
            })
            .collect())
    }

    async fn end(mut self, over: Over, backlog: VecDeque<Command<D::Session>>, mut ends: Vec<oneshot::Sender<()>>) {
        self.mourner.tell();
        self.commands.close();
        let mut left = backlog;
        while let Some(command) = self.commands.recv().await {
            left.push_back(command);
        }
        for command in left {
            if let Some(end) = refuse(command) {
                ends.push(end);
            }
        }
        let remotely = match over {
            Over::Wanted | Over::Closed => None,
            Over::Unknown => Some(self.session.end_remotely()),
        };
        if remotely.is_some() {
            // A farewell would stand behind the statement that has no answer.
            drop(self.session);
        } else {
            // A server that hangs holds nobody up here.
            let limit = Sleep::new(self.mourner.environment.clock.clone(), self.heartbeat);
            tokio::select! {
                () = self.session.end() => {}
                () = limit => {}
            }
        }
        for end in ends {
            let _ = end.send(());
        }
        if let Some(remotely) = remotely {
            remotely.await;
        }
    }
}

/// Answers a command that comes too late.
fn refuse<S: Session>(command: Command<S>) -> Option<oneshot::Sender<()>> {
    match command {
        Command::Try { reply, .. } => drop(reply.send(Err(ended()))),
        Command::Wait { reply, .. } => drop(reply.send(Err(ended()))),
        Command::Release { ids, reply } => {
            drop(reply.send(ids.iter().map(|_| Ok(Released::Gone(LossReason::SessionEnded))).collect()));
        }
        Command::Abandon { reply, .. } => drop(reply.send(())),
        Command::Mint { reply, .. } => drop(reply.send(Err(Error::lost(LossReason::SessionEnded)))),
        Command::Upgrade { reply, .. } => drop(reply.send(Err(Error::lost(LossReason::SessionEnded)))),
        Command::Visit(visit) => drop(visit),
        Command::End { reply } => return Some(reply),
    }
    None
}

/// The session ended before it had answered. Whatever it held has ended with it.
fn ended() -> Error {
    Error::unavailable("the session ended before the server had answered")
        .with_advice("see whether the server was restarted, or something ends its sessions")
}
