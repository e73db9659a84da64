//! What a backend can do. Claims are tested: the conformance suite has cases for each.

use std::time::Duration;

use crate::{Primitive, Target};

/// When fencing tokens are to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fencing {
    /// Never.
    #[default]
    None,
    /// When asked for, since each costs something.
    OnRequest,
    /// With every hold.
    Free,
}

/// How a backend waits for a lock that others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Waiting {
    /// The backend has a queue: [`Backend::enqueue`](crate::backend::Backend::enqueue).
    Queue,
    /// The backend tells when another attempt is worth making: [`Backend::watch`](crate::backend::Backend::watch).
    Watch,
    /// Neither: attempts are repeated, with back-off and jitter.
    #[default]
    Poll,
}

/// The bounds of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LeaseBounds {
    /// The shortest lease that can be asked for.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
    /// The one that a lock has whose options name none. `None`: such a hold does not expire.
    pub default: Option<Duration>,
}

impl LeaseBounds {
    /// Leases from `min` to `max`, `default` where none is asked for.
    pub const fn new(min: Duration, max: Duration, default: Option<Duration>) -> Self {
        Self { min, max, default }
    }
}

/// What a backend can do, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Primitive::Mutex`].
    pub mutex: bool,
    /// [`Primitive::Read`] and [`Primitive::Write`].
    pub rw_lock: bool,
    /// [`Primitive::UpgradeableRead`].
    pub upgradeable: bool,
    /// [`Primitive::Permit`].
    pub semaphore: bool,
    /// A waiting writer keeps new readers out.
    pub writer_preference: bool,
    /// Waiters of different processes get the lock in the order in which they came.
    pub fifo: bool,
    /// Fencing tokens.
    pub fencing: Fencing,
    /// What the order of tokens survives, in one sentence for the docs.
    pub fencing_scope: &'static str,
    /// How waiting is done.
    pub waiting: Waiting,
    /// Holds are leases with these bounds; `None`: holds don't expire.
    pub lease: Option<LeaseBounds>,
    /// A hold can be lost while its process lives, and its guard is told.
    pub loss: bool,
    /// Holds are shared between processes.
    pub cross_process: bool,
    /// Within which time a dead process's holds are free again, beyond the lease where there is one.
    pub frees_dead_holder_within: Duration,
    /// [`Backend::inspect`](crate::backend::Backend::inspect) tells holders.
    pub inspect: bool,
    /// [`Backend::list`](crate::backend::Backend::list) lists locks.
    pub list: bool,
    /// [`Backend::force_release`](crate::backend::Backend::force_release) breaks a hold.
    pub force_release: bool,
    /// What has not been checked against a real server, in a sentence; `None`: everything has.
    pub unverified: Option<&'static str>,
}

impl Capabilities {
    /// Whether `primitive` is to be had.
    pub fn supports(&self, primitive: Primitive) -> bool {
        match primitive {
            Primitive::Mutex => self.mutex,
            Primitive::Read | Primitive::Write => self.rw_lock,
            Primitive::UpgradeableRead => self.upgradeable,
            Primitive::Permit(_) => self.semaphore,
        }
    }

    /// Every capability as a name and whether it is claimed. The conformance suite goes by this list.
    pub fn claims(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("mutex", self.mutex),
            ("rw_lock", self.rw_lock),
            ("upgradeable", self.upgradeable),
            ("semaphore", self.semaphore),
            ("writer_preference", self.writer_preference),
            ("fifo", self.fifo),
            ("fencing", self.fencing != Fencing::None),
            ("lease", self.lease.is_some()),
            ("loss", self.loss),
            ("cross_process", self.cross_process),
            ("inspect", self.inspect),
            ("list", self.list),
            ("force_release", self.force_release),
        ]
    }

    /// Checks that `target` can be had with these options, before the backend is asked for anything.
    pub(crate) fn check(&self, target: &Target, options: &crate::LockOptions) -> crate::Result<()> {
        use crate::Error;
        if !self.supports(target.primitive) {
            return Err(Error::unsupported(format!("this backend has no {} locks", target.primitive)));
        }
        if options.token && self.fencing == Fencing::None {
            return Err(Error::unsupported("this backend gives no fencing tokens"));
        }
        match (self.lease, options.lease) {
            (None, Some(_)) => {
                Err(Error::unsupported("this backend's holds don't expire, so a lease can't be asked for")
                    .with_advice("leave the lease out, or limit the time with hold_at_most"))
            }
            (Some(bounds), Some(lease)) if lease < bounds.min || lease > bounds.max => Err(Error::misconfigured(
                format!("a lease of {lease:?} is outside {:?} … {:?}", bounds.min, bounds.max),
            )),
            _ if options.hold_at_most.is_some_and(|limit| limit.is_zero()) => {
                Err(Error::misconfigured("hold_at_most is zero, so the lock could never be held"))
            }
            _ if options.retry.is_some_and(|retry| retry.is_zero()) => {
                Err(Error::misconfigured("a retry interval of zero would never pause"))
            }
            _ => Ok(()),
        }
    }
}
