//! One way to write a case for both surfaces: plain calls that block the case's thread. On the async surface each call
//! is a task on a multi-threaded runtime, on the blocking surface a call of [`pilotman_core::blocking`].

use std::fmt;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use pilotman_core::blocking::CancelToken;
use pilotman_core::{Error, HoldState, Locks, LossReason, Primitive, Release, Result};
use tokio::runtime::Handle;

mod hold;

pub(crate) use hold::Hold;
use hold::Inner;

/// The surface that a case runs on.
#[derive(Debug, Clone)]
pub(crate) enum Surface {
    Async(Handle),
    Blocking,
}

/// A surface to put into a case's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Async,
    Blocking,
}

impl Form {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Blocking => "blocking",
        }
    }
}

/// How long an acquire waits, as one of the four methods.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// `try_acquire`.
    Try,
    /// `try_acquire_for`.
    For(Duration),
    /// `acquire_timeout`.
    Timeout(Duration),
    /// `acquire`.
    Forever,
}

/// What is acquired.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Mutex,
    Reader,
    Writer,
    Upgradeable,
    Permit(u32),
    /// The mutexes of the lock's name and of these.
    All(Vec<String>),
}

impl Kind {
    pub(crate) fn primitive(&self) -> Primitive {
        match self {
            Self::Mutex | Self::All(_) => Primitive::Mutex,
            Self::Reader => Primitive::Read,
            Self::Writer => Primitive::Write,
            Self::Upgradeable => Primitive::UpgradeableRead,
            Self::Permit(permits) => {
                Primitive::Permit(std::num::NonZeroU32::new(*permits).unwrap_or(std::num::NonZeroU32::MIN))
            }
        }
    }
}

/// What is asked for: everything but the wait.
#[derive(Debug, Clone)]
struct Plan {
    name: String,
    kind: Kind,
    lease: Option<Duration>,
    hold_at_most: Option<Duration>,
    fenced: bool,
    cancel: Option<CancelToken>,
}

macro_rules! options {
    ($plan:expr, $lock:expr) => {{
        let mut lock = $lock;
        if let Some(lease) = $plan.lease {
            lock = lock.lease(lease);
        }
        if let Some(limit) = $plan.hold_at_most {
            lock = lock.hold_at_most(limit);
        }
        lock
    }};
}

/// The four acquire methods of anything that has them under these names.
macro_rules! four {
    ($wait:expr, $lock:expr, [$($await:tt)*], $try:ident, $within:ident, $ever:ident, $timeout:ident) => {
        match $wait {
            Wait::Try => $lock.$try()$($await)*?,
            Wait::For(limit) => $lock.$within(limit)$($await)*?,
            Wait::Timeout(limit) => Some($lock.$timeout(limit)$($await)*?),
            Wait::Forever => Some($lock.$ever()$($await)*?),
        }
    };
}

/// Both surfaces have the same methods, one with `async` and `await`.
macro_rules! form {
    ($module:ident, [$($root:tt)*], [$($async:ident)?], [$($await:tt)*], $cancellable:ident) => {
        mod $module {
            use super::*;

            pub(super) enum Hold {
                Plain($($root)*::Guard),
                Fenced($($root)*::FencedGuard),
                Upgradeable($($root)*::UpgradeableGuard),
                Multi($($root)*::MultiGuard),
            }

            macro_rules! take {
                ($plan:ident, $wait:ident, $lock:expr) => {{
                    let lock = $lock;
                    if $plan.fenced {
                        let lock = lock.fenced()?;
                        four!($wait, lock, [$($await)*], try_acquire, try_acquire_for, acquire, acquire_timeout)
                            .map(Hold::Fenced)
                    } else {
                        four!($wait, lock, [$($await)*], try_acquire, try_acquire_for, acquire, acquire_timeout)
                            .map(Hold::Plain)
                    }
                }};
            }

            pub(super) $($async)? fn acquire(locks: &$($root)*::Locks, plan: &Plan, wait: Wait) -> Result<Option<Hold>> {
                Ok(match &plan.kind {
                    Kind::Mutex => take!(plan, wait, $cancellable!(plan, options!(plan, locks.mutex(&plan.name)))),
                    Kind::Permit(permits) => {
                        take!(plan, wait, $cancellable!(plan, options!(plan, locks.semaphore(&plan.name, *permits))))
                    }
                    Kind::Reader => {
                        let lock = $cancellable!(plan, options!(plan, locks.rw_lock(&plan.name)));
                        match plan.fenced {
                            true => take!(plan, wait, lock.reader()),
                            false => four!(wait, lock, [$($await)*], try_read, try_read_for, read, read_timeout)
                                .map(Hold::Plain),
                        }
                    }
                    Kind::Writer => {
                        let lock = $cancellable!(plan, options!(plan, locks.rw_lock(&plan.name)));
                        match plan.fenced {
                            true => take!(plan, wait, lock.writer()),
                            false => four!(wait, lock, [$($await)*], try_write, try_write_for, write, write_timeout)
                                .map(Hold::Plain),
                        }
                    }
                    Kind::Upgradeable => {
                        let lock = $cancellable!(plan, options!(plan, locks.rw_lock(&plan.name)));
                        four!(
                            wait, lock, [$($await)*],
                            try_upgradeable_read, try_upgradeable_read_for, upgradeable_read, upgradeable_read_timeout
                        )
                        .map(Hold::Upgradeable)
                    }
                    Kind::All(others) => all(locks, plan, others, wait)$($await)*?.map(Hold::Multi),
                })
            }

            $($async)? fn all(
                locks: &$($root)*::Locks,
                plan: &Plan,
                others: &[String],
                wait: Wait,
            ) -> Result<Option<$($root)*::MultiGuard>> {
                let names = || others.iter().chain([&plan.name]).map(String::as_str).collect::<Vec<_>>();
                Ok(match wait {
                    Wait::Try => locks.try_acquire_all(names())$($await)*?,
                    Wait::Forever if plan.cancel.is_none() => Some(locks.acquire_all(names())$($await)*?),
                    wait => {
                        let limit = match wait {
                            Wait::For(limit) | Wait::Timeout(limit) => limit,
                            Wait::Try | Wait::Forever => Duration::MAX,
                        };
                        let all = $cancellable!(all plan, locks, names(), limit)$($await)*?;
                        if all.is_none() && matches!(wait, Wait::Timeout(_)) {
                            return Err(Error::new(pilotman_core::ErrorKind::TimedOut, "not all within the limit"));
                        }
                        all
                    }
                })
            }

            impl Hold {
                pub(super) $($async)? fn release(self) -> Result<Release> {
                    match self {
                        Self::Plain(guard) => guard.release()$($await)*,
                        Self::Fenced(guard) => guard.release()$($await)*,
                        Self::Upgradeable(guard) => guard.release()$($await)*,
                        Self::Multi(guard) => guard.release()$($await)*,
                    }
                }

                pub(super) $($async)? fn upgrade(&mut self, wait: Wait) -> Result<bool> {
                    let Self::Upgradeable(guard) = self else { panic!("not an upgradeable read") };
                    match wait {
                        Wait::Try => guard.try_upgrade()$($await)*,
                        Wait::For(limit) | Wait::Timeout(limit) => guard.try_upgrade_for(limit)$($await)*,
                        Wait::Forever => guard.upgrade()$($await)*.map(|()| true),
                    }
                }

                /// The guard, of several the first.
                pub(super) fn plain(&self) -> &pilotman_core::Guard {
                    match self {
                        Self::Plain(guard) => guard,
                        Self::Fenced(guard) => guard,
                        Self::Upgradeable(guard) => guard,
                        Self::Multi(guard) => &guard.guards()[0],
                    }
                }

                pub(super) fn state(&self) -> HoldState {
                    match self {
                        Self::Multi(guard) => guard.state(),
                        Self::Upgradeable(guard) => guard.state(),
                        other => other.plain().state(),
                    }
                }
            }
        }
    };
}

macro_rules! with_cancel {
    (all $plan:expr, $locks:expr, $names:expr, $limit:expr) => {
        $locks.try_acquire_all_for($names, $limit, $plan.cancel.as_ref())
    };
    ($plan:expr, $lock:expr) => {{
        let lock = $lock;
        match &$plan.cancel {
            Some(cancel) => lock.with_cancel(cancel),
            None => lock,
        }
    }};
}

/// Futures are cancelled by dropping them.
macro_rules! without_cancel {
    (all $plan:expr, $locks:expr, $names:expr, $limit:expr) => {
        $locks.try_acquire_all_for($names, $limit)
    };
    ($plan:expr, $lock:expr) => {
        $lock
    };
}

form!(asynchronous, [pilotman_core], [async], [.await], without_cancel);
form!(blocking, [pilotman_core::blocking], [], [], with_cancel);

/// A [`Locks`] of its own, as another process would have, on one surface.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) locks: Locks,
    pub(crate) surface: Surface,
}

impl Client {
    pub(crate) fn lock(&self, kind: Kind, name: &str) -> Lock {
        let plan = Plan { name: name.into(), kind, lease: None, hold_at_most: None, fenced: false, cancel: None };
        Lock { client: self.clone(), plan }
    }

    pub(crate) fn mutex(&self, name: &str) -> Lock {
        self.lock(Kind::Mutex, name)
    }

    pub(crate) fn reader(&self, name: &str) -> Lock {
        self.lock(Kind::Reader, name)
    }

    pub(crate) fn writer(&self, name: &str) -> Lock {
        self.lock(Kind::Writer, name)
    }

    pub(crate) fn upgradeable(&self, name: &str) -> Lock {
        self.lock(Kind::Upgradeable, name)
    }

    pub(crate) fn semaphore(&self, name: &str, permits: u32) -> Lock {
        self.lock(Kind::Permit(permits), name)
    }

    /// All of these; at least one.
    pub(crate) fn all(&self, names: &[&str]) -> Lock {
        let others = names[1..].iter().map(|name| (*name).to_owned()).collect();
        self.lock(Kind::All(others), names[0])
    }

    pub(crate) fn inspect(&self, kind: &Kind, name: &str) -> Result<pilotman_core::backend::Inspection> {
        match &self.surface {
            Surface::Async(handle) => handle.block_on(self.locks.inspect(name, kind.primitive())),
            Surface::Blocking => self.blocking().inspect(name, kind.primitive()),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<pilotman_core::backend::Inspection>> {
        match &self.surface {
            Surface::Async(handle) => handle.block_on(self.locks.list()),
            Surface::Blocking => self.blocking().list(),
        }
    }

    pub(crate) fn force_release(&self, kind: &Kind, name: &str) -> Result<Vec<pilotman_core::backend::Holder>> {
        match &self.surface {
            Surface::Async(handle) => handle.block_on(self.locks.force_release(name, kind.primitive())),
            Surface::Blocking => self.blocking().force_release(name, kind.primitive()),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &self.surface {
            Surface::Async(handle) => handle.block_on(self.locks.check()),
            Surface::Blocking => self.blocking().check(),
        }
    }

    pub(crate) fn close(&self) {
        match &self.surface {
            Surface::Async(handle) => handle.block_on(self.locks.close()),
            Surface::Blocking => self.blocking().close(),
        }
    }

    fn blocking(&self) -> pilotman_core::blocking::Locks {
        self.locks.clone().into()
    }
}

/// A lock of any kind.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    client: Client,
    plan: Plan,
}

impl Lock {
    pub(crate) fn lease(mut self, lease: Duration) -> Self {
        self.plan.lease = Some(lease);
        self
    }

    pub(crate) fn hold_at_most(mut self, limit: Duration) -> Self {
        self.plan.hold_at_most = Some(limit);
        self
    }

    pub(crate) fn fenced(mut self) -> Self {
        self.plan.fenced = true;
        self
    }

    pub(crate) fn with_cancel(mut self, cancel: &CancelToken) -> Self {
        self.plan.cancel = Some(cancel.clone());
        self
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.plan.kind
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    /// One call of one of the four methods.
    pub(crate) fn get(&self, wait: Wait) -> Result<Option<Hold>> {
        let Self { client: Client { locks, surface }, plan } = self.clone();
        match surface {
            Surface::Async(handle) => {
                let task = handle.spawn(async move { asynchronous::acquire(&locks, &plan, wait).await });
                // A panic inside is a panic of the case.
                let hold = handle.block_on(task).unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                Ok(hold?.map(|hold| Hold(Inner::Async(hold, handle))))
            }
            Surface::Blocking => {
                Ok(blocking::acquire(&locks.into(), &plan, wait)?.map(|hold| Hold(Inner::Blocking(hold))))
            }
        }
    }

    /// One attempt.
    #[track_caller]
    pub(crate) fn try_now(&self) -> Option<Hold> {
        self.get(Wait::Try).unwrap_or_else(|error| panic!("one attempt: {error}"))
    }

    /// The lock, which must be to be had within a generous time.
    #[track_caller]
    pub(crate) fn take(&self) -> Hold {
        match self.get(Wait::For(Duration::from_secs(20))) {
            Ok(Some(hold)) => hold,
            Ok(None) => panic!("the lock {:?} was not to be had within 20 s", shown(self.name())),
            Err(error) => panic!("acquiring failed: {error}"),
        }
    }

    /// One attempt, which others must defeat.
    #[track_caller]
    pub(crate) fn must_be_taken(&self) {
        assert!(
            self.try_now().is_none(),
            "{:?} of {:?} was free, others should hold it",
            self.kind(),
            shown(self.name())
        );
    }

    /// Others are on their way, and have it soon.
    #[track_caller]
    pub(crate) fn becomes_taken(&self) {
        let start = Instant::now();
        while let Some(hold) = self.try_now() {
            hold.release();
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{:?} of {:?} stays free, others should get it",
                self.kind(),
                shown(self.name())
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Begins to acquire in the background. The call is being made when this returns.
    pub(crate) fn start(&self, wait: Wait) -> Pending {
        let (sender, arrived) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let Self { client: Client { locks, surface }, mut plan } = self.clone();
        match surface {
            Surface::Async(handle) => {
                let for_task = handle.clone();
                let task = handle.spawn(async move {
                    let _ = begin.send(());
                    let result = asynchronous::acquire(&locks, &plan, wait).await;
                    let result = result.map(|hold| hold.map(|hold| Hold(Inner::Async(hold, for_task))));
                    // Nobody may want it any longer; then the hold drops here.
                    let _ = sender.send(Arrival { at: Instant::now(), result });
                });
                begun.recv().expect("the runtime runs");
                Pending { arrived, cancel: Cancel::Abort(task.abort_handle()) }
            }
            Surface::Blocking => {
                let token = CancelToken::new();
                plan.cancel = Some(token.clone());
                std::thread::Builder::new()
                    .name("waiter".into())
                    .stack_size(1 << 20)
                    .spawn(move || {
                        let _ = begin.send(());
                        let result = blocking::acquire(&locks.into(), &plan, wait);
                        let result = result.map(|hold| hold.map(|hold| Hold(Inner::Blocking(hold))));
                        let _ = sender.send(Arrival { at: Instant::now(), result });
                    })
                    .expect("a thread for a waiter");
                begun.recv().expect("the thread runs");
                Pending { arrived, cancel: Cancel::Token(token) }
            }
        }
    }

    /// As [`Self::start`], and gives the wait time to take its place in whatever queue there is.
    pub(crate) fn start_waiting(&self) -> Pending {
        let pending = self.start(Wait::Forever);
        std::thread::sleep(settle());
        pending
    }
}

/// Set once, before the first case.
static SETTLE: OnceLock<Duration> = OnceLock::new();

/// A time in which a wait that was begun has surely reached the queue.
pub(crate) fn settle() -> Duration {
    SETTLE.get().copied().unwrap_or(Duration::from_millis(120))
}

pub(crate) fn set_settle(time: Duration) {
    // A process has one suite.
    let _ = SETTLE.set(time);
}

pub(crate) fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

/// An acquire that is under way.
pub(crate) struct Pending {
    arrived: mpsc::Receiver<Arrival>,
    cancel: Cancel,
}

enum Cancel {
    Abort(tokio::task::AbortHandle),
    Token(CancelToken),
}

/// How an acquire ended.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) result: Result<Option<Hold>>,
}

impl Pending {
    /// Its end, if that comes within the time.
    pub(crate) fn within(&self, limit: Duration) -> Option<Arrival> {
        self.arrived.recv_timeout(limit).ok()
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.arrived.try_recv(), Err(mpsc::TryRecvError::Empty))
    }

    /// The hold, which must come within this time.
    #[track_caller]
    pub(crate) fn hold_within(&self, limit: Duration) -> (Hold, Instant) {
        let Some(Arrival { at, result }) = self.within(limit) else {
            panic!("the waiter got nothing within {limit:?}")
        };
        match result {
            Ok(Some(hold)) => (hold, at),
            Ok(None) => panic!("the waiter gave up"),
            Err(error) => panic!("the wait failed: {error}"),
        }
    }

    /// Ends the wait: drops the future, or cancels the token. Returns what the blocking call answered.
    pub(crate) fn cancel(self) -> Option<Arrival> {
        match &self.cancel {
            Cancel::Abort(task) => task.abort(),
            Cancel::Token(token) => token.cancel(),
        }
        self.within(Duration::from_secs(10))
    }
}
