//! What an error of the server or the network means for the caller.

use std::error::Error as _;

use pilotman_core::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

/// Whether a statement was ended by a request to cancel it.
pub(crate) fn is_cancelled(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

/// An error of a statement.
pub(crate) fn of_statement(error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else { return lost(error) };
    let (code, message) = (db.code().clone(), db.message().to_owned());
    let said = |what: &str| format!("{what}: {message} ({})", code.code());
    let error = if code == SqlState::T_R_DEADLOCK_DETECTED {
        Error::new(ErrorKind::Deadlock, said("the server found a deadlock"))
            .with_advice("take locks in the same order everywhere")
    } else if code == SqlState::INSUFFICIENT_PRIVILEGE {
        Error::misconfigured(said("the role may not do this"))
            .with_advice("grant it what the page of the backend lists")
    } else if code == SqlState::QUERY_CANCELED {
        Error::unavailable(said("somebody cancelled the statement"))
    } else if code == SqlState::OUT_OF_MEMORY {
        Error::unavailable(said("the server has no room for more locks"))
            .with_advice("raise max_locks_per_transaction at the server")
    } else if code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Error::misconfigured(said("the server takes no writes")).with_advice("connect to the primary")
    } else if is_transient(&code) {
        Error::unavailable(said("the server ended the session"))
    } else {
        Error::unavailable(said("the server refused the statement"))
    };
    error.no_effect(true)
}

/// Classes of errors that pass: connections, resources, an operator's intervention.
fn is_transient(code: &SqlState) -> bool {
    ["08", "53", "57", "40"].iter().any(|class| code.code().starts_with(class))
}

/// The connection has failed.
pub(crate) fn lost(error: tokio_postgres::Error) -> Error {
    Error::unavailable("the connection to the server has failed").with_source(error).no_effect(false)
}

/// An error of connecting to this host.
pub(crate) fn of_connecting(host: &str, user: &str, error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        // No answer of the server, but perhaps the driver's own refusal.
        let inner = error.source().map(ToString::to_string).unwrap_or_default();
        return match inner.contains("password missing") {
            true => Error::misconfigured(format!("{host} asks for a password, and none is given"))
                .with_advice("give one, or let the server trust this client (pg_hba.conf)"),
            false => Error::unavailable(format!("{host} did not begin a session")).with_source(error).no_effect(true),
        };
    };
    let (code, message) = (db.code().clone(), db.message());
    let said = |what: String| format!("{what}: {message} ({})", code.code());
    let error = if code == SqlState::INVALID_PASSWORD || code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        Error::misconfigured(said(format!("{host} refuses the role {user:?}")))
            .with_advice("see whether role, password and pg_hba.conf are right")
    } else if code == SqlState::INVALID_CATALOG_NAME || message.starts_with("no such database") {
        // The second is how PgBouncer says it.
        Error::misconfigured(said(format!("{host} has no such database")))
            .with_advice("locks live in a database: name one that is there")
    } else if code == SqlState::TOO_MANY_CONNECTIONS {
        Error::unavailable(said(format!("{host} has no connection left")))
            .with_advice("raise max_connections at the server, or allow fewer sessions here (max-sessions)")
    } else if is_transient(&code) {
        Error::unavailable(said(format!("{host} takes no sessions at the moment")))
    } else {
        Error::misconfigured(said(format!("{host} refuses the session")))
    };
    error.no_effect(true)
}
