//! The errors of the server, with their documented numbers.

use super::session::Interrupt;
use crate::wire::tokens::SqlError;

/// Why a statement didn't go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed. The next one follows, unless the error ends the batch.
    Failed(SqlError),
    Interrupted(Interrupt),
    Return,
    Break,
    Continue,
    /// The error is told already; nothing of the batch follows.
    Abort,
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Failed(error)
    }
}

impl From<Interrupt> for Stop {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

/// Whether the rest of the batch isn't carried out after this error.
pub(crate) fn ends_batch(error: &SqlError) -> bool {
    matches!(error.number, 102 | 137 | 195 | 207 | 208 | 3971 | 3989) || error.class >= 20
}

pub(crate) fn no_object(name: &str) -> SqlError {
    SqlError::new(208, format!("Invalid object name '{name}'."))
}

pub(crate) fn no_column(name: &str) -> SqlError {
    SqlError::new(207, format!("Invalid column name '{name}'."))
}

pub(crate) fn no_function(name: &str) -> SqlError {
    SqlError::new(195, format!("'{name}' is not a recognized built-in function name.")).class(15)
}

pub(crate) fn no_procedure(name: &str) -> SqlError {
    SqlError::new(2812, format!("Could not find stored procedure '{name}'.")).state(62)
}

pub(crate) fn no_variable(name: &str) -> SqlError {
    SqlError::new(137, format!("Must declare the scalar variable \"{name}\".")).class(15).state(2)
}

pub(crate) fn denied(permission: &str, object: &str) -> SqlError {
    let message = format!("The {permission} permission was denied on the object '{object}'.");
    SqlError::new(229, message).class(14).state(5)
}

pub(crate) fn read_only(database: &str) -> SqlError {
    let message = format!("Failed to update database \"{database}\" because the database is read-only.");
    SqlError::new(3906, message).state(2)
}

pub(crate) fn login_failed(user: &str) -> SqlError {
    SqlError::new(18456, format!("Login failed for user '{user}'.")).class(14)
}

pub(crate) fn no_database(database: &str) -> SqlError {
    let message = format!("Cannot open database \"{database}\" requested by the login. The login failed.");
    SqlError::new(4060, message).class(11)
}

pub(crate) fn killed() -> SqlError {
    SqlError::new(596, "Cannot continue the execution because the session is in the kill state.").class(21)
}
