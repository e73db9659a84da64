//! All sessions of one [`Locks`](pilotman_core::Locks): which there are, which is chosen, and opening more.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{AttemptId, Environment};
use pilotman_core::clock::{Sleep, Time};
use pilotman_core::{Error, ErrorKind, Result};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::SessionOptions;
use crate::driver::{Driver, Session};
use crate::line::{Command, Fit, Line};
use crate::opening::Opening;
use crate::task::{Mourner, Task};

/// Who stands in line for a wait on the server tries without one after this time, and up to twice as long.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// Who finds all sessions with holds waits this long for one that has none.
const FULL: Duration = Duration::from_secs(5);

/// What the tasks of the sessions know of them all.
pub(crate) struct Shared<D: Driver> {
    pub(crate) driver: D,
    pub(crate) options: SessionOptions,
    pub(crate) environment: OnceLock<Environment>,
    lines: Mutex<Vec<Arc<Line<D::Session>>>>,
    /// Where attempts are that may hold something.
    places: Mutex<HashMap<AttemptId, Arc<Line<D::Session>>>>,
    pub(crate) waiting: Semaphore,
    opening: Opening,
    /// Some session has done something: it may be free now.
    pub(crate) freed: Notify,
    pub(crate) closed: AtomicBool,
}

/// What came of opening a session.
pub(crate) enum Opened<T> {
    /// Meanwhile there was one.
    Found(T),
    /// There is one more.
    One,
    /// There may be no more.
    Full,
}

/// A session that is kept for a wait or a visit.
pub(crate) struct Reserved<D: Driver> {
    shared: Arc<Shared<D>>,
    pub(crate) line: Arc<Line<D::Session>>,
    mine: bool,
}

impl<D: Driver> Reserved<D> {
    /// From now on its task unreserves it.
    pub(crate) fn hand_over(mut self) -> Arc<Line<D::Session>> {
        self.mine = false;
        self.line.clone()
    }
}

impl<D: Driver> Drop for Reserved<D> {
    fn drop(&mut self) {
        if self.mine {
            self.line.state().unreserve();
            self.shared.freed.notify_waiters();
        }
    }
}

impl<D: Driver> Shared<D> {
    pub(crate) fn new(driver: D, options: SessionOptions) -> Self {
        Self {
            waiting: Semaphore::new(options.max_waiting.min(options.max_sessions)),
            driver,
            options,
            environment: OnceLock::new(),
            lines: Mutex::default(),
            places: Mutex::default(),
            opening: Opening::default(),
            freed: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn lines(&self) -> MutexGuard<'_, Vec<Arc<Line<D::Session>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn places(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Line<D::Session>>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn environment(&self) -> Result<&Environment> {
        self.environment
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a backend was used before its engine had started it"))
    }

    pub(crate) fn closed_error(&self) -> Error {
        Error::new(ErrorKind::Closed, "the sessions have been closed")
    }

    pub(crate) fn pause(&self) -> Result<Sleep> {
        let environment = self.environment()?;
        let jitter = environment.random.next() % (TRY_AGAIN.as_nanos() as u64);
        Ok(Sleep::new(environment.clock.clone(), TRY_AGAIN + Duration::from_nanos(jitter)))
    }

    pub(crate) fn now(&self) -> Time {
        self.environment.get().map_or(Time::ZERO, |environment| environment.clock.now())
    }

    /// The session for an attempt that doesn't wait: one with other holds rather than an empty one, which is better kept for a
    /// wait; and of those the one that has the least to do.
    pub(crate) fn choose(
        &self,
        request: &<D::Session as Session>::Request,
        tried: &[Arc<Line<D::Session>>],
    ) -> Option<Arc<Line<D::Session>>> {
        let (shares, now) = (self.driver.shares_sessions(), self.now());
        let lines = self.lines();
        let fitting =
            lines.iter().filter(|line| tried.iter().all(|other| !Arc::ptr_eq(line, other))).filter_map(|line| {
                let state = line.state();
                let fit: Fit = state.fits(request, shares, now)?;
                Some(((fit, state.busy), line))
            });
        fitting.min_by_key(|(order, _)| *order).map(|(_, line)| line.clone())
    }

    /// Takes an empty session out of the others' sight, for as long as the caller keeps it.
    fn free(self: &Arc<Self>) -> Option<Reserved<D>> {
        let line = self.lines().iter().find(|line| line.state().reserve()).cloned()?;
        Some(Reserved { shared: self.clone(), line, mine: true })
    }

    /// Opens a session for whoever is faster, unless `found` finds one when it is this caller's turn. It goes on when nobody waits
    /// for it any longer, so that those come to an end who wait for less time than it takes.
    pub(crate) async fn open<T: Send + 'static>(
        self: &Arc<Self>,
        found: impl Fn(&Arc<Self>) -> Option<T> + Send + 'static,
    ) -> Result<Opened<T>> {
        match self.open_unless_full(found).await {
            Ok(Opened::Full) => Err(self.full()),
            opened => opened,
        }
    }

    async fn open_unless_full<T: Send + 'static>(
        self: &Arc<Self>,
        found: impl Fn(&Arc<Self>) -> Option<T> + Send + 'static,
    ) -> Result<Opened<T>> {
        let shared = self.clone();
        let opening = tokio::spawn(async move {
            let turn = shared.opening.turn().await;
            if let Some(found) = found(&shared) {
                return Ok(Opened::Found(found));
            }
            if let Some(error) = turn.failed_meanwhile() {
                return Err(error);
            }
            if shared.closed.load(Ordering::Acquire) {
                return Err(shared.closed_error());
            }
            if shared.is_full() {
                return Ok(Opened::Full);
            }
            let session = shared.driver.connect().await.inspect_err(|error| turn.failed(error))?;
            shared.add(session).map(|()| Opened::One)
        });
        opening.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "opening a session was cut off")))
    }

    /// Whether there are as many sessions as there may be.
    pub(crate) fn is_full(&self) -> bool {
        self.lines().iter().filter(|line| !line.is_over()).count() >= self.options.max_sessions
    }

    pub(crate) fn full(&self) -> Error {
        Error::unavailable(format!("all {} sessions are in use", self.options.max_sessions))
            .with_advice("allow more sessions (max-sessions), or hold fewer locks at the same time")
            .no_effect(true)
    }

    fn add(self: &Arc<Self>, session: D::Session) -> Result<()> {
        let (sender, commands) = mpsc::unbounded_channel();
        let line = Arc::new(Line::new(sender));
        let task = Task {
            session,
            commands,
            mourner: Mourner::new(line.clone(), Arc::downgrade(self), self.environment()?.clone()),
            heartbeat: self.options.heartbeat,
            idle: self.options.idle,
        };
        self.lines().push(line);
        // It lives as long as its session; nobody waits for its end.
        drop(tokio::spawn(task.run()));
        // Closed between the look above and now: nobody else would end it.
        if self.closed.load(Ordering::Acquire) {
            self.end_all();
            return Err(self.closed_error());
        }
        self.freed.notify_waiters();
        Ok(())
    }

    /// An empty session that is for one wait or visit only.
    pub(crate) async fn reserve(self: &Arc<Self>) -> Result<Reserved<D>> {
        let clock = self.environment()?.clock.clone();
        let mut patience = pin!(Sleep::new(clock, FULL));
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            let found = match self.free() {
                Some(reserved) => Some(reserved),
                None => match self.open_unless_full(Self::free).await? {
                    Opened::Found(reserved) => Some(reserved),
                    Opened::One => self.free(),
                    // Most of them have something to do only for a moment.
                    Opened::Full => {
                        tokio::select! {
                            () = freed => {}
                            () = &mut patience => return Err(self.full()),
                        }
                        None
                    }
                },
            };
            if let Some(reserved) = found {
                return Ok(reserved);
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

    pub(crate) fn end_all(&self) -> Vec<oneshot::Receiver<()>> {
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
