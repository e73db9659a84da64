//! Locks in connections and transactions of the user's. They give no guard: their end is the user's matter.

use std::time::Duration;

use pilotman_core::{Error, ErrorKind, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use crate::failure;
use crate::key::PostgresKey;
use crate::options::Scope;
use crate::request::Mode;
use crate::statements;

const SAVEPOINT: &str = "pilotman_lock";

/// How long to wait for a lock in a connection of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So long at most; from 1 ms to 24 days, in whole milliseconds.
    For(Duration),
    /// For ever.
    Forever,
}

impl Wait {
    /// As `lock_timeout` has it.
    fn millis(self) -> Result<Option<u32>> {
        match self {
            Self::No => Ok(None),
            Self::Forever => Ok(Some(0)),
            Self::For(limit) => match u32::try_from(limit.as_millis()) {
                Ok(0) => Ok(None),
                Ok(millis) if i32::try_from(millis).is_ok() => Ok(Some(millis)),
                _ => Err(Error::misconfigured(format!("{limit:?} is longer than PostgreSQL can wait"))
                    .with_advice("wait for ever")
                    .with_backend("postgres")),
            },
        }
    }
}

/// Takes an exclusive lock that ends with this transaction, whichever way that ends; whether it was to be had. It excludes a
/// [`Mutex`](pilotman_core::Mutex) of the same key; [`PostgresKey::of_name`] has the key of a name.
///
/// The transaction's settings of time-outs are as they were afterwards.
///
/// # Errors
///
/// `Deadlock` if the server found one, or if this connection has the lock already and would wait for itself. `Unavailable` if
/// the connection has failed or the transaction is aborted. The transaction goes on after a time-out, a deadlock and whatever
/// else ends the wait; an error before the wait aborts it, as that of any statement does.
///
/// # Cancel safety
///
/// None: dropping the future leaves the transaction in the middle of a statement. Roll it back.
///
/// # Cost
///
/// Two round trips without waiting, five with. No durable write.
pub async fn lock_in(transaction: &Transaction<'_>, key: PostgresKey, wait: Wait) -> Result<bool> {
    let about = |error: Error| error.with_lock(&key.to_string()).with_backend("postgres");
    let (client, limit) = (transaction.client(), wait.millis()?);
    if has_it(client, key).await.map_err(about)? {
        return again(limit).map_err(about);
    }
    match limit {
        None => attempt(client, key, Scope::Transaction).await,
        Some(millis) => in_savepoint(client, key, Scope::Transaction, millis).await,
    }
    .map_err(about)
}

/// Takes an exclusive lock that lasts as long as this connection, or until [`unlock_on`]; whether it was to be had. As
/// [`lock_in`] otherwise.
///
/// # Errors
///
/// As [`lock_in`].
///
/// # Cancel safety
///
/// None: dropping the future leaves the connection in the middle of a statement, which may end with the lock held. Close the
/// connection.
///
/// # Cost
///
/// Two round trips without waiting, up to six with. No durable write.
pub async fn lock_on(client: &Client, key: PostgresKey, wait: Wait) -> Result<bool> {
    let about = |error: Error| error.with_lock(&key.to_string()).with_backend("postgres");
    let limit = wait.millis()?;
    if has_it(client, key).await.map_err(about)? {
        return again(limit).map_err(about);
    }
    let locked = match limit {
        None => attempt(client, key, Scope::Session).await,
        // Only in a transaction can there be a savepoint, and only there is one needed.
        Some(millis) => match client.batch_execute(&format!("savepoint {SAVEPOINT}")).await {
            Ok(()) => with_limit(client, key, Scope::Session, millis).await,
            Err(error) if error.code() == Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) => {
                outside(client, key, millis).await
            }
            Err(error) => Err(of(error)),
        },
    };
    locked.map_err(about)
}

/// Releases what [`lock_on`] took; whether it was held.
///
/// # Errors
///
/// `Unavailable` if the connection has failed: then the lock ends with it.
///
/// # Cancel safety
///
/// The statement that was sent is done in any case.
///
/// # Cost
///
/// One round trip, no durable write.
pub async fn unlock_on(client: &Client, key: PostgresKey) -> Result<bool> {
    let sql = format!("select {}", statements::unlock(key, Mode::Exclusive));
    is_true(client, &sql).await.map_err(|error| error.with_lock(&key.to_string()).with_backend("postgres"))
}

fn of(error: tokio_postgres::Error) -> Error {
    if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) {
        return Error::unavailable("the transaction is aborted, and nothing can be locked in it any more")
            .with_advice("roll it back and begin a new one")
            .retryable(false)
            .no_effect(true);
    }
    if error.as_db_error().is_some() {
        return failure::of_statement(error);
    }
    match error.is_closed() {
        true => Error::unavailable("the connection is closed").with_source(error).retryable(false).no_effect(true),
        false => failure::lost(error),
    }
}

async fn is_true(client: &Client, sql: &str) -> Result<bool> {
    let messages = client.simple_query(sql).await.map_err(of)?;
    Ok(statements::first_row(&messages).and_then(|row| row.get(0)) == Some("t"))
}

/// Whether this connection has the lock: the server would give it to it once more.
async fn has_it(client: &Client, key: PostgresKey) -> Result<bool> {
    let rows = key.rows(1);
    let sql = format!(
        "select exists(select from pg_catalog.pg_locks where pid=pg_catalog.pg_backend_pid() and granted and {rows})"
    );
    is_true(client, &sql).await
}

fn again(limit: Option<u32>) -> Result<bool> {
    match limit {
        None => Ok(false),
        Some(_) => {
            Err(Error::new(ErrorKind::Deadlock, "this connection has the lock already, and would wait for itself")
                .retryable(false))
        }
    }
}

async fn attempt(client: &Client, key: PostgresKey, scope: Scope) -> Result<bool> {
    is_true(client, &format!("select {}", statements::attempt(key, scope, Mode::Exclusive))).await
}

async fn in_savepoint(client: &Client, key: PostgresKey, scope: Scope, millis: u32) -> Result<bool> {
    client.batch_execute(&format!("savepoint {SAVEPOINT}")).await.map_err(of)?;
    with_limit(client, key, scope, millis).await
}

/// What the time-outs are set to, in milliseconds.
async fn settings(client: &Client) -> Result<[String; 2]> {
    let sql = "select (select setting from pg_catalog.pg_settings where name='lock_timeout'), \
               (select setting from pg_catalog.pg_settings where name='statement_timeout')";
    let messages = client.simple_query(sql).await.map_err(of)?;
    let row = statements::first_row(&messages);
    Ok([0, 1].map(|at| row.and_then(|row| row.get(at)).unwrap_or("0").to_owned()))
}

/// In a savepoint, after which all is as before but for the lock.
async fn with_limit(client: &Client, key: PostgresKey, scope: Scope, millis: u32) -> Result<bool> {
    let locked = async {
        let [lock, statement] = settings(client).await?;
        let wait = statements::wait(key, scope, Mode::Exclusive);
        let sql = format!("set local lock_timeout={millis};set local statement_timeout=0;select {wait}");
        client.simple_query(&sql).await.map_err(Failed::Statement)?;
        // To roll back to the savepoint would give the lock back with the settings.
        let sql = format!(
            "set local lock_timeout={lock};set local statement_timeout={statement};release savepoint {SAVEPOINT}"
        );
        client.batch_execute(&sql).await.map_err(Failed::Statement)
    };
    let Err(failed) = locked.await else { return Ok(true) };
    client
        .batch_execute(&format!("rollback to savepoint {SAVEPOINT};release savepoint {SAVEPOINT}"))
        .await
        .map_err(of)?;
    after(client, key, scope, failed).await
}

/// Outside of a transaction.
async fn outside(client: &Client, key: PostgresKey, millis: u32) -> Result<bool> {
    let [lock, statement] = settings(client).await?;
    client.batch_execute(&format!("set lock_timeout={millis};set statement_timeout=0")).await.map_err(of)?;
    let wait = statements::wait(key, Scope::Session, Mode::Exclusive);
    let locked = client.simple_query(&format!("select {wait}")).await;
    let restored = client.batch_execute(&format!("set lock_timeout={lock};set statement_timeout={statement}")).await;
    match (locked, restored) {
        (Ok(_), Ok(())) => Ok(true),
        (Err(error), _) | (_, Err(error)) => after(client, key, Scope::Session, Failed::Statement(error)).await,
    }
}

/// Why a wait came to nothing.
enum Failed {
    Statement(tokio_postgres::Error),
    Before(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

/// The error may have come right after the grant, which a session keeps then: after a time-out the lock is had all the same,
/// after anything else it is given back.
async fn after(client: &Client, key: PostgresKey, scope: Scope, failed: Failed) -> Result<bool> {
    let timed_out = matches!(&failed, Failed::Statement(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE));
    let has_it = scope == Scope::Session && has_it(client, key).await?;
    match failed {
        _ if timed_out => Ok(has_it),
        Failed::Statement(error) => {
            if has_it {
                is_true(client, &format!("select {}", statements::unlock(key, Mode::Exclusive))).await?;
            }
            Err(of(error))
        }
        Failed::Before(error) => Err(error),
    }
}
