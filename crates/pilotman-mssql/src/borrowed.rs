//! Locks in connections and transactions of the user's. They give no guard: their end is the user's matter.

use std::time::Duration;

use futures_util::{AsyncRead, AsyncWrite};
use pilotman_core::{Error, ErrorKind, Result};
use tiberius::Client;

use crate::driver::{Row, Value};
use crate::failure::{self, Failure, NOT_HELD};
use crate::statements::{GET, OF_TRANSACTION, RELEASE};
use crate::wire;

/// How long to wait for a lock in a connection of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So long at most; up to 24 days, in whole milliseconds.
    For(Duration),
    /// For ever.
    Forever,
}

impl Wait {
    /// As `@LockTimeout` has it.
    fn millis(self) -> Result<i32> {
        match self {
            Self::No => Ok(0),
            Self::Forever => Ok(-1),
            Self::For(limit) => i32::try_from(limit.as_millis()).map_err(|_| {
                Error::misconfigured(format!("{limit:?} is longer than SQL Server can wait"))
                    .with_advice("wait for ever")
            }),
        }
    }
}

/// What a lock ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Transaction,
    Session,
}

impl Owner {
    fn name(self) -> &'static str {
        match self {
            Self::Transaction => "Transaction",
            Self::Session => "Session",
        }
    }
}

/// Takes an exclusive lock that ends with the transaction of this connection, whichever way that ends; whether it was to be had.
/// It excludes a [`Mutex`](pilotman_core::Mutex) of the same resource; [`resource_name`](crate::resource_name) has the resource of
/// a name.
///
/// The connection's own [`command_timeout`](tiberius::Config::command_timeout) must be longer than the wait, or none.
///
/// # Errors
///
/// `Misconfigured` if the connection is in no transaction, or in one that can only be rolled back. `Deadlock` if the server found
/// one, or if this connection has the lock already and would wait for itself. `Unavailable` if the connection has failed.
///
/// # Cancel safety
///
/// None: dropping the future leaves the connection in the middle of a statement. Close it, which rolls the transaction back.
///
/// # Cost
///
/// Two round trips, and the wait. No durable write.
pub async fn lock_in<S>(client: &mut Client<S>, resource: &str, wait: Wait) -> Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    take(client, resource, wait, Owner::Transaction).await.map_err(|error| about(error, resource))
}

/// Takes an exclusive lock that lasts as long as this connection, or until [`unlock_on`]; whether it was to be had. As [`lock_in`]
/// otherwise; a transaction is not needed, and its end changes nothing.
///
/// # Errors
///
/// As [`lock_in`], but for what it says of transactions.
///
/// # Cancel safety
///
/// None: dropping the future leaves the connection in the middle of a statement, which may end with the lock held. Close the
/// connection.
///
/// # Cost
///
/// Two round trips, and the wait. No durable write.
pub async fn lock_on<S>(client: &mut Client<S>, resource: &str, wait: Wait) -> Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    take(client, resource, wait, Owner::Session).await.map_err(|error| about(error, resource))
}

/// Releases what [`lock_on`] took; whether it was held.
///
/// # Errors
///
/// `Unavailable` if the connection has failed: then the lock ends with it.
///
/// # Cancel safety
///
/// None: dropping the future leaves the connection in the middle of a statement. Close it.
///
/// # Cost
///
/// One round trip, no durable write.
pub async fn unlock_on<S>(client: &mut Client<S>, resource: &str) -> Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let arguments = [("@Resource", resource.into()), ("@LockOwner", Owner::Session.name().into())];
    match wire::call(client, RELEASE, &arguments).await.map_err(Failure::from) {
        Ok(0) => Ok(true),
        Ok(code) => Err(about(failure::of_code(code), resource)),
        Err(failure) if failure.number() == Some(NOT_HELD) => Ok(false),
        Err(failure) => Err(about(failure::of_statement(failure), resource)),
    }
}

fn about(error: Error, resource: &str) -> Error {
    error.with_lock(resource).with_backend("mssql")
}

async fn take<S>(client: &mut Client<S>, resource: &str, wait: Wait, owner: Owner) -> Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let millis = wait.millis()?;
    let units = resource.encode_utf16().count();
    if !(1..=255).contains(&units) {
        return Err(Error::invalid_name(format!(
            "a resource of SQL Server has 1 to 255 characters (UTF-16), not {units}"
        ))
        .with_advice("map the name with resource_name"));
    }
    let rows = wire::rows(client, OF_TRANSACTION, &[resource.into()]).await.map_err(Failure::from);
    let rows = rows.map_err(failure::of_statement)?;
    let row: &[Value] = rows.first().map_or(&[], Row::as_slice);
    if owner == Owner::Transaction {
        let ended = |what: &str, advice: &'static str| {
            Err(Error::misconfigured(what.to_owned()).with_advice(advice).no_effect(true))
        };
        match row.first().and_then(Value::number) {
            Some(1) => {}
            Some(-1) => {
                return ended(
                    "the transaction can't be committed any more, and nothing is locked in it",
                    "roll it back",
                );
            }
            _ => {
                return ended(
                    "this connection is in no transaction: none was begun, or it has ended",
                    "begin one, or lock for as long as the connection lasts (lock_on)",
                );
            }
        }
    }
    // The server would give it to this connection once more.
    let has_it = [1, 2].iter().any(|at| row.get(*at).and_then(Value::text).is_some_and(|mode| mode != "NoLock"));
    if has_it {
        return match millis {
            0 => Ok(false),
            _ => {
                Err(Error::new(ErrorKind::Deadlock, "this connection has the lock already, and would wait for itself")
                    .retryable(false))
            }
        };
    }
    let arguments = [
        ("@Resource", resource.into()),
        ("@LockMode", "Exclusive".into()),
        ("@LockOwner", owner.name().into()),
        ("@LockTimeout", Value::Int(millis)),
    ];
    match wire::call(client, GET, &arguments).await.map_err(Failure::from).map_err(failure::of_statement)? {
        -1 => Ok(false),
        code if code >= 0 => Ok(true),
        code => Err(failure::of_code(code)),
    }
}
