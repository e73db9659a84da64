//! What is asked of a driver: little, so that another one can take its place.

use std::future::Future;

use pilotman_core::backend::BoxFuture;
use pilotman_session::Stop;

use crate::failure::Failure;

/// A value that is sent or answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// An `int`.
    Int(i32),
    /// A `bigint`; all numbers are answered so.
    Big(i64),
    Text(String),
}

impl Value {
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Big(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A row of an answer.
pub(crate) type Row = Vec<Value>;

/// The arguments of a procedure, by name.
pub(crate) type Arguments<'a> = &'a [(&'static str, Value)];

/// One connection that is logged in. After a [`Failure`] that [is an end](Failure::is_end), and after a future that was dropped
/// other than by [`Client::call_until`], nothing more may be asked of it.
pub(crate) trait Client: Send + 'static {
    /// Calls a procedure, for the number that it returns.
    fn call(
        &mut self,
        procedure: &'static str,
        arguments: Arguments<'_>,
    ) -> impl Future<Output = Result<i32, Failure>> + Send;

    /// Calls a procedure that may wait for long. `None`: it was stopped, at a moment when the request was out and nothing of
    /// the reply had come; [`Self::cancel`] must be next. Once a reply has begun it is waited for.
    fn call_until(
        &mut self,
        procedure: &'static str,
        arguments: Arguments<'_>,
        stop: &mut Stop,
    ) -> impl Future<Output = Result<Option<i32>, Failure>> + Send;

    /// Has the server cancel what was stopped, and reads all that it says to that.
    fn cancel(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Runs a statement, for its rows.
    fn rows(&mut self, sql: &str, parameters: &[Value]) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send;

    /// Completes when the connection has ended.
    fn closed(&self) -> BoxFuture<'static, ()>;

    /// Ends the connection.
    fn end(self) -> impl Future<Output = ()> + Send;
}
