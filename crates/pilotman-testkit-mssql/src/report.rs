//! What a test sees of the server.

use std::net::SocketAddr;

use crate::Mode;

/// Whom a lock belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOwner {
    /// `@LockOwner = 'Session'`.
    Session,
    /// `@LockOwner = 'Transaction'`.
    Transaction,
}

/// One application lock of one owner, held or waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    /// `@Resource`, at most 255 characters.
    pub resource: String,
    /// `@DbPrincipal`.
    pub principal: String,
    /// The database that it belongs to.
    pub database: String,
    /// The mode: of a waiter, what it would hold.
    pub mode: Mode,
    /// `@LockOwner`.
    pub owner: LockOwner,
    /// `@@SPID`.
    pub session: i32,
    /// Whether it is held. If not, it is waited for.
    pub granted: bool,
    /// How many releases the hold takes. 0 for a waiter.
    pub references: u32,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// `@@SPID`.
    pub id: i32,
    /// The login's name.
    pub login: String,
    /// The client's host, as it says.
    pub host: String,
    /// The application's name, as it says.
    pub program: String,
    /// The database.
    pub database: String,
    /// The client's address.
    pub client: SocketAddr,
    /// Whether everything is encrypted.
    pub encrypted: bool,
    /// Whether a statement runs.
    pub running: bool,
    /// `@@TRANCOUNT`.
    pub transactions: u32,
}
