//! What a session is asked for.

use std::sync::Arc;

use pilotman_core::{Primitive, Target};
use pilotman_session::Request;

use crate::names::Resource;

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Exclusive,
    Shared,
    /// Beside those who share, and alone among its like.
    Update,
    /// One of so many permits.
    Permit(u32),
}

impl Mode {
    /// As the server calls it. A permit is a lock of its own.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exclusive | Self::Permit(_) => "Exclusive",
            Self::Shared => "Shared",
            Self::Update => "Update",
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct MsSqlRequest {
    pub(crate) resource: Arc<Resource>,
    pub(crate) mode: Mode,
    pub(crate) token: bool,
}

impl MsSqlRequest {
    pub(crate) fn new(target: &Target, resource: Resource, token: bool) -> Self {
        let mode = match target.primitive {
            Primitive::Mutex | Primitive::Write => Mode::Exclusive,
            Primitive::UpgradeableRead => Mode::Update,
            Primitive::Read => Mode::Shared,
            Primitive::Permit(permits) => Mode::Permit(permits.get()),
        };
        Self { resource: Arc::new(resource), mode, token }
    }

    /// The resource of a hold of this request.
    pub(crate) fn held(&self, permit: Cookie) -> String {
        match self.mode {
            Mode::Permit(_) => self.resource.permit(permit),
            _ => self.resource.name.to_string(),
        }
    }
}

/// Which of a semaphore's permits it is; 0 for other locks.
pub(crate) type Cookie = i64;

impl Request for MsSqlRequest {
    type Key = Arc<Resource>;

    fn key(&self) -> &Arc<Resource> {
        &self.resource
    }

    fn can_join(&self, other: &Self) -> bool {
        // Each permit is a lock of its own. Anything else the server would grant once more to a session that has it, also past
        // those who wait.
        matches!((self.mode, other.mode), (Mode::Permit(_), Mode::Permit(_)))
    }

    fn is_alone(&self) -> bool {
        // It may wait for its upgrade later on, and nobody's release may stand behind that.
        self.mode == Mode::Update
    }
}
