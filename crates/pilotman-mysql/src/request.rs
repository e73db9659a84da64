//! What a session is asked for.

use pilotman_session::Request;

use crate::names::LockName;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct MySqlRequest {
    pub(crate) name: LockName,
    pub(crate) token: bool,
}

impl Request for MySqlRequest {
    type Key = LockName;

    fn key(&self) -> &LockName {
        &self.name
    }

    fn can_join(&self, _: &Self) -> bool {
        // The server counts how often a session has a lock, and would give it twice.
        false
    }
}
