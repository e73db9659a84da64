//! What is asked of a driver: one blocking connection, on which a thread of its own runs one call after the other.
//!
//! It is public so that the tests can put a database of their own behind it; it is no part of the crate's promises.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

#[cfg(feature = "odpi")]
pub(crate) mod odpi;
#[cfg(feature = "thin")]
pub(crate) mod thin;

/// A value that is sent or comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole `NUMBER`.
    Number(i64),
    /// A `VARCHAR2`.
    Text(String),
    /// Nothing.
    Null,
}

/// A bind of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A value that is sent.
    In(Value),
    /// A `NUMBER` that comes back.
    OutNumber,
    /// A `VARCHAR2` of at most 4000 bytes that comes back.
    OutText,
}

/// A PL/SQL block or a query with its binds, in the order in which they first stand in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The text.
    pub text: Cow<'static, str>,
    /// The binds, with their names without the colon.
    pub binds: Vec<(Cow<'static, str>, Bind)>,
}

impl Call {
    /// This text, without binds.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), binds: Vec::new() }
    }

    fn with(mut self, name: impl Into<Cow<'static, str>>, bind: Bind) -> Self {
        self.binds.push((name.into(), bind));
        self
    }

    /// With this text bound.
    #[must_use]
    pub fn text(self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.with(name, Bind::In(Value::Text(value.into())))
    }

    /// With this number bound.
    #[must_use]
    pub fn number(self, name: impl Into<Cow<'static, str>>, value: i64) -> Self {
        self.with(name, Bind::In(Value::Number(value)))
    }

    /// With a number that comes back.
    #[must_use]
    pub fn out_number(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(name, Bind::OutNumber)
    }

    /// With a text that comes back.
    #[must_use]
    pub fn out_text(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(name, Bind::OutText)
    }
}

/// What a failure leaves of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The server refused the call, and takes others.
    Usable,
    /// Nothing is known of the session any more.
    Over,
    /// As [`Self::Over`]: the call had no answer in its time.
    Late,
}

/// Why a call failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The number of the server's error: 6550 for `ORA-06550`.
    pub code: Option<u32>,
    /// What was said. It has no secret in it.
    pub message: String,
    /// What is left of the connection.
    pub after: After,
    /// Trying again can't help: the address, the certificate or the like is wrong.
    pub is_permanent: bool,
}

impl Failure {
    /// The connection is of no use any more.
    pub fn over(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), after: After::Over, is_permanent: false }
    }

    /// The call was not answered in its time.
    pub fn late() -> Self {
        Self { after: After::Late, ..Self::over("the database did not answer in time") }
    }

    /// An error of the server.
    pub fn server(code: u32, message: impl Into<String>) -> Self {
        let after = if ends_session(code) { After::Over } else { After::Usable };
        Self { code: Some(code), message: message.into(), after, is_permanent: false }
    }

    /// Trying again can't help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.is_permanent = true;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may quote whole statements, in lines.
        self.message.chars().take(300).flat_map(char::escape_debug).try_for_each(|c| write!(f, "{c}"))
    }
}

impl std::error::Error for Failure {}

/// Whether a session that got this error has ended, or is in a state of which nothing is known.
fn ends_session(code: u32) -> bool {
    // Killed; internal errors, and the end of the server's process over one; cancelled from outside; not logged on; the instance ends, is starting or is not there;
    // idle or connected for too long; the connection is gone; the time of a call is over.
    const ENDS: [u32; 22] = [
        22, 28, 600, 603, 1012, 1013, 1033, 1034, 1041, 1089, 1090, 1092, 2396, 2397, 2399, 3113, 3114, 3135, 3136,
        3156, 7445, 28547,
    ];
    // What the network says; and what is said of a failover that could not go on with a call or a transaction.
    ENDS.contains(&code) || (12_150..12_700).contains(&code) || (25_401..=25_409).contains(&code)
}

/// How connections are opened.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// What it is called, for people.
    fn name(&self) -> &'static str;

    /// Opens a connection and logs in. It may block for longer than `limit`, in a thread of its own that nobody waits for.
    ///
    /// # Errors
    ///
    /// Whatever kept it from it.
    fn connect(&self, limit: Duration) -> Result<Box<dyn Connection>, Failure>;
}

/// A session. Calls block. Each is told after which time nobody waits for it any longer, and may then fail, or go on: the session is of
/// no use any more.
pub trait Connection: Send {
    /// Runs a PL/SQL block and returns the OUT binds, in the order in which they stand in the call.
    ///
    /// # Errors
    ///
    /// What the server or the network said.
    fn run(&mut self, call: &Call, limit: Duration) -> Result<Vec<Value>, Failure>;

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// What the server or the network said.
    fn query(&mut self, call: &Call, limit: Duration) -> Result<Vec<Vec<Value>>, Failure>;

    /// Asks whether the server is there.
    ///
    /// # Errors
    ///
    /// If it isn't.
    fn ping(&mut self, limit: Duration) -> Result<(), Failure>;

    /// The `SERIAL#` of the session, where the driver knows it.
    fn serial(&self) -> Option<u64>;

    /// Logs off.
    fn close(self: Box<Self>);

    /// Closes the connection of a session of which nothing is known any more.
    fn abort(self: Box<Self>);
}
