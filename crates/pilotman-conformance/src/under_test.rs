//! What a backend's author tells the suite.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotman_core::backend::Backend;
use pilotman_core::{Guard, Primitive};

type Connect = dyn Fn(&str) -> Arc<dyn Backend> + Send + Sync;
type Lose = dyn Fn(&LoseHold<'_>) -> bool + Send + Sync;
type AtPlace = dyn Fn(&str) + Send + Sync;
type SetUp = dyn FnOnce() -> (String, Box<dyn Any>) + Send;

/// A hold that the suite wants to be lost; see [`UnderTest::lose`].
#[derive(Debug)]
#[non_exhaustive]
pub struct LoseHold<'a> {
    /// The place where it is held.
    pub place: &'a str,
    /// The logical name of the lock.
    pub name: &'a str,
    /// The physical name of the lock.
    pub physical: &'a str,
    /// What is held.
    pub primitive: Primitive,
    /// The guard, in the hands of the holder.
    pub guard: &'a Guard,
}

/// In which forms cases run that wait for leases to be renewed or to end; see [`UnderTest::lease_cases`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LeaseCases {
    /// In all of them.
    #[default]
    All,
    /// In the async one.
    Async,
    /// In none.
    None,
}

/// A backend and what the suite needs to know about it. Only [`new`](Self::new) is needed; capabilities come from the
/// backend itself.
#[must_use]
pub struct UnderTest {
    pub(crate) name: String,
    connect: Box<Connect>,
    place: Option<String>,
    lose: Option<Box<Lose>>,
    leak_check: Option<Box<AtPlace>>,
    clean_up: Option<Box<AtPlace>>,
    set_up: Mutex<Option<Box<SetUp>>>,
    pub(crate) short_lease: Duration,
    pub(crate) waiters: usize,
    pub(crate) names: usize,
    pub(crate) async_only: bool,
    pub(crate) lease_cases: LeaseCases,
    pub(crate) settle: Option<Duration>,
}

impl UnderTest {
    /// A backend called `name`. `connect` makes a new one at a place; two of the same place must see each other's
    /// holds as two processes would, and so must one in a process that the suite starts.
    ///
    /// A place is a short string of letters, digits and dashes, drawn anew for each run: a directory's name, a key
    /// prefix, the name of a shared space. With [`set_up`](Self::set_up) it also says where the server is, as in
    /// `p40001-3fa2`.
    pub fn new<B: Backend>(name: impl Into<String>, connect: impl Fn(&str) -> B + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            connect: Box::new(move |place| Arc::new(connect(place))),
            place: None,
            lose: None,
            leak_check: None,
            clean_up: None,
            set_up: Mutex::new(None),
            short_lease: Duration::from_millis(1500),
            waiters: 1000,
            names: 10_000,
            async_only: false,
            lease_cases: LeaseCases::All,
            settle: None,
        }
    }

    /// Uses this place instead of a new one. Names are unique per case and process in any case.
    pub fn place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Gets what the run needs, such as a server, and says at which place it is; what comes with the place is dropped
    /// at the end of the run. Called once before the first case, and never where nothing runs: for `--list`, and in the
    /// processes that the suite starts, which are told the place.
    ///
    /// Before that the place is the text `listing`, and `connect` is only asked for the capabilities: it must cope
    /// with any place, and do no more than remember it. A fixed [`place`](Self::place) is not used then.
    pub fn set_up(mut self, set_up: impl FnOnce() -> (String, Box<dyn Any>) + Send + 'static) -> Self {
        self.set_up = Mutex::new(Some(Box::new(set_up)));
        self
    }

    /// How a hold is lost, by means other than the library's own: a key deleted, a file removed, a session killed.
    /// Returns `false` if that can't be done to this primitive; for a mutex it must be possible if the backend claims
    /// `loss`. Without this hook, and where it can't: `force_release` from elsewhere, if the backend claims that.
    pub fn lose(mut self, lose: impl Fn(&LoseHold<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.lose = Some(Box::new(lose));
        self
    }

    /// Looks at a place after each case, when everything has been given back, and panics if something was left. The
    /// suite itself always checks that each name can be acquired again and, if the backend can tell, that it has
    /// neither holders nor waiters.
    pub fn leak_check(mut self, check: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.leak_check = Some(Box::new(check));
        self
    }

    /// Removes a place at the end of a run.
    pub fn clean_up(mut self, clean_up: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.clean_up = Some(Box::new(clean_up));
        self
    }

    /// The lease of cases that wait for leases to be renewed or to end. Default: 1.5 s. As short as the backend allows
    /// makes the suite fast; below a second a busy machine makes it flaky.
    pub fn short_lease(mut self, lease: Duration) -> Self {
        self.short_lease = lease;
        self
    }

    /// How many wait for one name at once. Default: 1 000.
    pub fn waiters(mut self, waiters: usize) -> Self {
        self.waiters = waiters;
        self
    }

    /// How many names are held at once. Default: 10 000.
    pub fn names(mut self, names: usize) -> Self {
        self.names = names;
        self
    }

    /// The time in which a wait that was begun has surely reached the queue, on a busy machine too. Default: 120 ms. A backend
    /// that opens a connection for it needs more.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = Some(time);
        self
    }

    /// Leaves out the blocking forms of the cases, which take another way to the same engine: for further arrangements of a
    /// backend whose main one runs them all.
    pub fn async_only(mut self) -> Self {
        self.async_only = true;
        self
    }

    /// In which forms cases run that wait for leases to be renewed or to end, for a backend whose shortest lease is so long that
    /// they take minutes. Default: in all. A backend's main arrangement runs them in one form at least.
    pub fn lease_cases(mut self, cases: LeaseCases) -> Self {
        self.lease_cases = cases;
        self
    }

    pub(crate) fn backend(&self, place: &str) -> Arc<dyn Backend> {
        (self.connect)(place)
    }

    pub(crate) fn fixed_place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The hook, to be called: once.
    pub(crate) fn take_set_up(&self) -> Option<Box<SetUp>> {
        self.set_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    pub(crate) fn has_lose(&self) -> bool {
        self.lose.is_some()
    }

    pub(crate) fn lose_hold(&self, hold: &LoseHold<'_>) -> bool {
        self.lose.as_ref().is_some_and(|lose| lose(hold))
    }

    pub(crate) fn check_leaks(&self, place: &str) {
        if let Some(check) = &self.leak_check {
            check(place);
        }
    }

    pub(crate) fn clean(&self, place: &str) {
        if let Some(clean_up) = &self.clean_up {
            clean_up(place);
        }
    }
}

impl fmt::Debug for UnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderTest").field("name", &self.name).finish_non_exhaustive()
    }
}
