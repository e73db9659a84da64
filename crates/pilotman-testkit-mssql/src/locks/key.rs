//! What is locked, and for whom.

/// The longest resource name that is compared. What follows is cut off.
const LONGEST_NAME: usize = 255;

/// What one lock is about. Names are compared as they are, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The database that the lock belongs to.
    pub database: String,
    /// The database principal: another one, another lock.
    pub principal: String,
    /// The resource, at most 255 characters (UTF-16 units).
    pub resource: String,
}

impl Key {
    /// The key of `resource`, which is cut after 255 characters.
    pub fn new(database: &str, principal: &str, resource: &str) -> Self {
        Self { database: database.to_owned(), principal: principal.to_owned(), resource: cut(resource) }
    }
}

/// The first 255 UTF-16 units. A pair of surrogates that the end would divide goes whole.
fn cut(resource: &str) -> String {
    let mut units = 0;
    resource
        .chars()
        .take_while(|sign| {
            units += sign.len_utf16();
            units <= LONGEST_NAME
        })
        .collect()
}

/// Who holds a lock: a session, or the transaction of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The session's number (`@@SPID`).
    pub session: i32,
    /// The transaction, where `@LockOwner` is `Transaction`.
    pub transaction: Option<u64>,
}

impl Owner {
    /// The session itself.
    pub fn session(session: i32) -> Self {
        Self { session, transaction: None }
    }

    /// A transaction of the session.
    pub fn transaction(session: i32, transaction: u64) -> Self {
        Self { session, transaction: Some(transaction) }
    }
}
