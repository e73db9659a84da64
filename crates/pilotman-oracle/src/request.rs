//! What a session is asked for.

use pilotman_core::Primitive;
use pilotman_session::Request;

use crate::names::LockName;

/// How a lock is taken, by the numbers of `DBMS_LOCK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `SS`: beside other readers and one upgradeable read.
    Read = 2,
    /// `SSX`: beside readers.
    Upgradeable = 5,
    /// `X`.
    Exclusive = 6,
}

impl Mode {
    /// How this primitive is taken; `None` if it can't be.
    pub(crate) fn of(primitive: Primitive) -> Option<Self> {
        match primitive {
            Primitive::Mutex | Primitive::Write => Some(Self::Exclusive),
            Primitive::Read => Some(Self::Read),
            Primitive::UpgradeableRead => Some(Self::Upgradeable),
            Primitive::Permit(_) => None,
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct OracleRequest {
    pub(crate) name: LockName,
    pub(crate) mode: Mode,
    pub(crate) token: bool,
}

impl Request for OracleRequest {
    type Key = LockName;

    fn key(&self) -> &LockName {
        &self.name
    }

    fn can_join(&self, _: &Self) -> bool {
        // The server gives a session a lock once, in one mode: each reader has a session of its own.
        false
    }

    fn is_alone(&self) -> bool {
        self.mode == Mode::Upgradeable
    }
}
