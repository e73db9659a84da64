//! What one session remembers between its requests.

use std::collections::HashMap;

use crate::locks::Owner;
use crate::wire::tokens::SqlError;

/// A statement that `sp_prepare` or `sp_prepexec` keeps.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) declarations: String,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) database: String,
    /// `@@TRANCOUNT`.
    pub(crate) transactions: u32,
    /// The transaction that is open.
    pub(crate) transaction: Option<u64>,
    /// `@@LOCK_TIMEOUT`, in milliseconds; -1 is without limit.
    pub(crate) lock_timeout: i64,
    /// Any error ends the batch and rolls back.
    pub(crate) xact_abort: bool,
    /// `@@ERROR`.
    pub(crate) error: i32,
    /// `@@ROWCOUNT`.
    pub(crate) rows: u64,
    /// What a `CATCH` block sees.
    pub(crate) caught: Option<SqlError>,
    pub(crate) prepared: HashMap<i64, Prepared>,
}

impl State {
    pub(crate) fn new(database: String) -> Self {
        Self {
            database,
            transactions: 0,
            transaction: None,
            lock_timeout: -1,
            xact_abort: false,
            error: 0,
            rows: 0,
            caught: None,
            prepared: HashMap::new(),
        }
    }

    /// The transaction of the session, as an owner of locks.
    pub(crate) fn transaction_owner(&self, session: i32) -> Option<Owner> {
        self.transaction.map(|transaction| Owner::transaction(session, transaction))
    }
}
