//! What a test sets before or while the server runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::prelogin::Encryption;
use crate::wire::tokens::SqlError;

/// What logins may do. Everything is allowed until a test forbids it. These count for every login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// `EXECUTE` on `sp_getapplock` and `sp_releaseapplock`. If not: error 229.
    pub execute: bool,
    /// `ALTER ANY CONNECTION`, which `KILL` needs. If not: error 6102.
    pub kill: bool,
    /// `VIEW SERVER STATE`, which `sys.dm_tran_locks` and other sessions in `sys.dm_exec_sessions` need. If not: error
    /// 300 for the first, and only the own session in the second.
    pub view_server_state: bool,
    /// `CREATE SEQUENCE` in the database. If not: error 262.
    pub create_sequence: bool,
    /// `UPDATE` on sequences, which `NEXT VALUE FOR` needs. If not: error 229.
    pub use_sequence: bool,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { execute: true, kill: true, view_server_state: true, create_sequence: true, use_sequence: true }
    }
}

/// A login and where it may go.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) password: String,
    /// The databases that it may use. `None`: all.
    pub(crate) databases: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) users: BTreeMap<String, User>,
    /// Accepted access tokens, and the names that they stand for.
    pub(crate) tokens: BTreeMap<String, String>,
    /// The first is everybody's default.
    pub(crate) databases: Vec<String>,
    pub(crate) encryption: Encryption,
    pub(crate) permissions: Permissions,
    pub(crate) read_only: bool,
    pub(crate) login_failure: Option<SqlError>,
    pub(crate) route: Option<(String, u16)>,
    pub(crate) largest_packet: usize,
    pub(crate) deadlock_interval: Duration,
    pub(crate) always_on: bool,
    pub(crate) engine_edition: i64,
    pub(crate) idle_limit: Option<Duration>,
}
