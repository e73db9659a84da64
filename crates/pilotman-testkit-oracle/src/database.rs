//! What stands behind the protocol: sessions that execute statements.

use std::fmt;

use crate::dbms_lock::Sid;

/// A value of a bind or a column. TRUE and FALSE are the numbers 1 and 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value; an empty text is none either.
    Null,
    /// A NUMBER without a fraction.
    Number(i64),
    /// A VARCHAR2.
    Text(String),
}

/// What a bind is after a block: `None` if the block gave it no value.
pub type Cell = Option<Value>;

/// A column of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// A NUMBER, or else a VARCHAR2.
    pub is_number: bool,
}

/// What came of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An anonymous block ended.
    Block {
        /// The binds after it.
        outs: Vec<Cell>,
        /// Which binds it read.
        inputs: Vec<bool>,
    },
    /// All rows of a query.
    Rows {
        /// Their columns.
        columns: Vec<Column>,
        /// The rows.
        rows: Vec<Vec<Value>>,
    },
    /// Something else ended.
    Done,
}

/// An error of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OraError {
    /// The number after "ORA-".
    pub code: u32,
    /// The text after the number.
    pub text: String,
}

impl OraError {
    /// The error of this number.
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// A block that doesn't compile.
    pub fn not_compiled(reason: impl fmt::Display) -> Self {
        Self::new(6550, format!("line 1, column 7:\n{reason}"))
    }
}

impl fmt::Display for OraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ORA-{:05}: {}", self.code, self.text)
    }
}

/// Sessions that execute statements, each on one thread.
pub trait Database: Send + Sync + 'static {
    /// A new session.
    fn open(&self) -> Sid;

    /// The second number of a session, which tells it from an earlier one with the same `sid`.
    fn serial(&self, sid: Sid) -> u32;

    /// Executes a statement with its binds, in the order in which they first appear in it.
    ///
    /// # Errors
    /// The database's own. After ORA-00028 (killed) the connection ends.
    fn execute(&self, sid: Sid, sql: &str, binds: &[Value]) -> Result<Outcome, OraError>;

    /// Whether the session is well: asked by each call that executes nothing.
    ///
    /// # Errors
    /// What ended it.
    fn check(&self, sid: Sid) -> Result<(), OraError>;

    /// The end of a transaction, by COMMIT or ROLLBACK.
    fn end_transaction(&self, sid: Sid);

    /// Ends the running call, and any that begins before [`Database::resume`], with ORA-01013.
    fn interrupt(&self, sid: Sid);

    /// The client knows of the interrupt.
    fn resume(&self, sid: Sid);

    /// Ends the session on an administrator's behalf: what it calls is answered with ORA-00028.
    fn kill(&self, sid: Sid) -> bool;

    /// Ends the session.
    fn close(&self, sid: Sid);
}
