//! The interface between the engine and a coordination technology. Write one of these to add a backend.
//!
//! A backend says how to take, renew and give back holds; the [engine](crate) does everything else, once for all
//! backends: the queue of this process, time-outs, cancelled futures, deadlines, renewal schedules, background
//! releases, metrics. The rules of the game:
//!
//! - **An attempt has an id**, unguessable and never used twice. What an attempt was granted is released under that
//!   id only. [`Backend::try_acquire`] twice under one id is one attempt.
//! - **Futures may be dropped at any point.** When the outcome of an attempt is not known (its future was dropped or
//!   failed with an error that is not [`has_no_effect`](crate::Error::has_no_effect)), the engine calls
//!   [`Backend::abandon`] with the id: whatever was granted, or is granted later, must be given back.
//! - **A renewal never re-creates a hold**, and a release removes only the hold of its own id.
//! - All futures run on the engine's I/O thread and must not block it.
//! - [`Backend::prepare`] does no I/O and refuses bad names and options.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Time};
use crate::random::Random;
use crate::{Capabilities, Error, LockOptions, LossReason, Primitive, Result, Target, Votes};

mod diagnosis;
mod events;
mod host;
pub use diagnosis::{Finding, Severity};
pub use events::Events;
pub(crate) use events::Sink;
pub use host::host_name;

/// A boxed future, as the methods of [`Backend`] return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a backend keeps for one target and its options, made once by [`Backend::prepare`]: the physical name, say.
pub type Prepared = Arc<dyn Any + Send + Sync>;

/// The identity of one attempt and of the hold that it leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u128);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl AttemptId {
    /// What tells this attempt from others and allows nothing: who knows the whole id could release the hold.
    pub fn public(self) -> String {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:012x}", hasher.finish() >> 16)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

/// What is asked for: a target with its options, checked and prepared.
#[derive(Clone)]
pub struct Spec {
    /// Name and primitive.
    pub target: Target,
    /// The options.
    pub options: LockOptions,
    /// The lease of a hold: the one asked for, or the backend's default. `None`: it doesn't expire.
    pub lease: Option<Duration>,
    /// What [`Backend::prepare`] returned.
    pub prepared: Prepared,
}

impl Spec {
    /// What [`Backend::prepare`] returned, as the type that it has.
    ///
    /// # Panics
    ///
    /// If it is of another type, which means that the spec was prepared by another backend.
    pub fn prepared<T: Any + Send + Sync>(&self) -> &T {
        self.prepared.downcast_ref().expect("a spec stays with the backend that prepared it")
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("target", &self.target).field("options", &self.options).finish_non_exhaustive()
    }
}

/// One attempt to acquire.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its identity.
    pub id: AttemptId,
    /// What is asked for.
    pub spec: Arc<Spec>,
    /// Whether its maker goes on waiting when the lock is not free. A waiting writer may keep new readers out.
    pub waits: bool,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// The lock is ours.
    Granted(Grant),
    /// Others have it.
    Contended {
        /// When another attempt is worth making at the latest, if the backend knows: the holder's remaining lease.
        retry_after: Option<Duration>,
    },
}

/// A hold that a backend has given.
#[derive(Default)]
pub struct Grant {
    /// The fencing token; required if the options ask for one.
    pub token: Option<u64>,
    /// From when the lease counts. `None`: from when the engine made the call, which is right for
    /// [`Backend::try_acquire`]. A grant that was pushed counts from when the last request was sent that the server
    /// answered with "not yours".
    pub valid_from: Option<Time>,
    /// How long the hold lasts unless renewed, where that is less than the lease asked for. `None`: as long as that. A
    /// lock that is handed to a waiter who may have died is better not handed over for a whole lease; the engine then
    /// renews it at once.
    pub lease: Option<Duration>,
    /// Whatever the backend wants back with the hold.
    pub state: Option<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("token", &self.token)
            .field("valid_from", &self.valid_from)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// A hold as the backend sees it.
pub struct Holding {
    /// The attempt that led to it; its id is the hold's.
    pub attempt: Attempt,
    /// What the backend put into the [`Grant`].
    pub state: Option<Box<dyn Any + Send + Sync>>,
}

impl Holding {
    /// What the backend put into the [`Grant`], as the type that it has; `None` if it put nothing there.
    pub fn state<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.state.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// What a renewal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lease runs anew.
    Renewed {
        /// From when it counts; `None`: from when the engine made the call.
        valid_from: Option<Time>,
    },
    /// The hold is gone; it was not re-created.
    Gone(LossReason),
}

/// What a release found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// The hold was ours and is now free.
    Free {
        /// Whether other processes were seen waiting. A backend without a queue of its own says `true` so that this
        /// process lets them go first; one with a queue says `false`, its queue does that.
        others_wait: bool,
    },
    /// The hold was gone before.
    Gone(LossReason),
}

/// Tells when another attempt is worth making.
pub trait Watch: Send + Sync {
    /// Completes when something has changed since the watch was made, or since this last completed. Spurious
    /// completions are harmless. Cancel safe: dropping the future loses no change.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

/// Who holds a lock, as far as the backend knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What tells this holder from others, for people: `pid 4711`, a host, an application's name. Never the id that
    /// allows a release.
    pub owner: String,
    /// The primitive, where the backend can tell.
    pub primitive: Option<&'static str>,
    /// Since when.
    pub since: Option<SystemTime>,
    /// How long the hold lasts unless renewed.
    pub remaining: Option<Duration>,
    /// Its fencing token.
    pub token: Option<u64>,
}

/// The state of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The logical name; `None` where only the physical one is known.
    pub name: Option<String>,
    /// The physical name.
    pub physical: String,
    /// Those who hold it. Empty: it is free.
    pub holders: Vec<Holder>,
    /// How many wait for it, where the backend knows.
    pub waiters: Option<usize>,
    /// The last fencing token given out, where one is kept.
    pub token: Option<u64>,
}

/// What the engine gives a backend to work with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The clock. A backend reads time from here only.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where to report what happens to holds without being asked.
    pub events: Events,
}

/// A coordination technology. See the [module](self) for the rules.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The stable lower-case name of the technology, such as `"redis"`.
    fn kind(&self) -> &'static str;

    /// What it can do, as it is configured.
    fn capabilities(&self) -> Capabilities;

    /// Why a primitive is not to be had, where there is more to say than that; asked only if the capabilities say so.
    fn unsupported(&self, primitive: Primitive) -> Option<Error> {
        let _ = primitive;
        None
    }

    /// Called once, before anything else.
    fn start(&self, environment: Environment) {
        let _ = environment;
    }

    /// Checks name and options and maps the name, without any I/O. Capabilities have been checked already.
    ///
    /// # Errors
    ///
    /// `InvalidName`, `Misconfigured` or `Unsupported`.
    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared>;

    /// The physical name of a target, for people and other libraries.
    ///
    /// # Errors
    ///
    /// As [`Self::prepare`].
    fn physical_name(&self, target: &Target) -> Result<String>;

    /// Asks whether the backend can be reached and used.
    fn check(&self) -> BoxFuture<'_, Result<()>>;

    /// Set if attempts, releases and mints are but local system calls, which the engine then makes on the caller's
    /// thread. The corresponding methods of this trait are never called then.
    fn local(&self) -> Option<&dyn LocalBackend> {
        None
    }

    /// Whatever must be done before an attempt can be made, such as connecting; `None` if nothing must. It has a limit
    /// of its own, which the time that one attempt has does not shorten.
    fn ready(&self) -> Option<BoxFuture<'_, Result<()>>> {
        None
    }

    /// Makes one attempt and does not wait for holders.
    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>>;

    /// Takes the lock or a place in the backend's queue, and completes when the lock is ours. Only called if the
    /// capabilities say [`Waiting::Queue`](crate::Waiting::Queue).
    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        let _ = attempt;
        Box::pin(async { Err(Error::unsupported("this backend has no queue")) })
    }

    /// Begins to watch for changes that make another attempt worth while. Only called if the capabilities say
    /// [`Waiting::Watch`](crate::Waiting::Watch).
    fn watch<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        let _ = attempt;
        Box::pin(async { Err(Error::unsupported("this backend has no watches")) })
    }

    /// Gives back whatever these attempts were granted, or will be granted late, and their places in the queue. One
    /// result for each.
    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>>;

    /// Renews leases. One result for each.
    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        Box::pin(async move {
            holds.iter().map(|_| Err(Error::unsupported("holds of this backend don't expire"))).collect()
        })
    }

    /// Gives holds back. One result for each.
    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>>;

    /// Makes a new fencing token for a hold that goes on under another holder of this process.
    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        let _ = hold;
        Box::pin(async { Err(Error::unsupported("this backend gives no fencing tokens")) })
    }

    /// Makes a write of an upgradeable read, waiting for the readers to leave. Dropping the future leaves the hold an
    /// upgradeable read.
    fn upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<()>> {
        let _ = hold;
        Box::pin(async { Err(Error::unsupported("this backend has no upgradeable reads")) })
    }

    /// Makes a write of an upgradeable read if there are no readers now.
    fn try_upgrade<'a>(&'a self, hold: &'a Arc<Holding>) -> BoxFuture<'a, Result<bool>> {
        let _ = hold;
        Box::pin(async { Err(Error::unsupported("this backend has no upgradeable reads")) })
    }

    /// Looks whether a hold is still there, by means that don't leave this machine. Called when a guard is asked.
    fn verify(&self, hold: &Holding) -> Option<LossReason> {
        let _ = hold;
        None
    }

    /// How the nodes of a quorum stood to this hold when they were last heard.
    fn votes(&self, hold: &Holding) -> Option<Votes> {
        let _ = hold;
        None
    }

    /// How the nodes of a quorum stood to this lock when it was last not to be had.
    fn refusal(&self, spec: &Spec) -> Option<Votes> {
        let _ = spec;
        None
    }

    /// Somebody wants to be told when this hold is lost: begin to watch it, if that isn't done anyway. Losses are
    /// reported through [`Environment::events`].
    fn observe(&self, hold: &Arc<Holding>) {
        let _ = hold;
    }

    /// What the server calls the lease of a hold, where its other requests can be made conditional on that.
    fn lease_id(&self, hold: &Holding) -> Option<String> {
        let _ = hold;
        None
    }

    /// The descriptor whose inheritance passes a hold on to a child process, where there is such a thing.
    #[cfg(unix)]
    fn descriptor(&self, hold: &Holding) -> Option<Arc<std::os::fd::OwnedFd>> {
        let _ = hold;
        None
    }

    /// Tells who holds a name, in all kinds of primitive that can be told apart.
    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        let _ = target;
        Box::pin(async { Err(Error::unsupported("this backend can't tell who holds a lock")) })
    }

    /// Lists the locks that the backend knows, held or not.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Inspection>>> {
        Box::pin(async { Err(Error::unsupported("this backend can't list its locks")) })
    }

    /// Breaks whatever holds there are under a target, and returns those that it broke.
    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        let _ = target;
        Box::pin(async { Err(Error::unsupported("this backend can't break a lock")) })
    }

    /// Looks whether this is set up safely, and changes nothing. What can't be looked at is a note, not an error. By default
    /// there is nothing to look at but whether it can be used.
    fn diagnose(&self) -> BoxFuture<'_, Result<Vec<Finding>>> {
        Box::pin(async {
            self.check().await?;
            Ok(vec![Finding::fine("use", "it can be reached and used")])
        })
    }

    /// Ends connections and background work, after the engine has released what it held.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The part of a backend that consists of local system calls. None of these may block for long.
pub trait LocalBackend {
    /// As [`Backend::try_acquire`].
    ///
    /// # Errors
    ///
    /// Whatever keeps the lock from being had, except that others have it.
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome>;

    /// As [`Backend::release`], of one hold.
    ///
    /// # Errors
    ///
    /// If the hold could not be given back.
    fn release(&self, hold: &Holding) -> Result<Released>;

    /// As [`Backend::mint`].
    ///
    /// # Errors
    ///
    /// If no token could be made.
    fn mint(&self, hold: &Holding) -> Result<u64>;
}
