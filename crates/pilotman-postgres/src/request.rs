//! What a session is asked for.

use pilotman_core::{Primitive, Target};
use pilotman_session::Request;

use crate::key::PostgresKey;
use crate::options::Scope;

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Exclusive,
    Shared,
    /// One of so many permits.
    Permit(u32),
}

/// See the [module](self).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PostgresRequest {
    pub(crate) key: PostgresKey,
    pub(crate) mode: Mode,
    pub(crate) token: bool,
    pub(crate) scope: Scope,
}

impl PostgresRequest {
    pub(crate) fn new(target: &Target, strict: bool, token: bool, scope: Scope) -> Self {
        let mode = match target.primitive {
            Primitive::Mutex | Primitive::Write | Primitive::UpgradeableRead => Mode::Exclusive,
            Primitive::Read => Mode::Shared,
            Primitive::Permit(permits) => Mode::Permit(permits.get()),
        };
        Self { key: PostgresKey::of_target(target, strict), mode, token, scope }
    }
}

impl Request for PostgresRequest {
    type Key = PostgresKey;

    fn key(&self) -> &PostgresKey {
        &self.key
    }

    fn can_join(&self, other: &Self) -> bool {
        // The server counts what a session has of a key, and gives it whatever it asks for beside that.
        match (self.mode, other.mode) {
            (Mode::Shared, Mode::Shared) | (Mode::Permit(_), Mode::Permit(_)) => self.scope == Scope::Session,
            _ => false,
        }
    }
}
