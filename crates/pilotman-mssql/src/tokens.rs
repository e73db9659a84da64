//! Fencing tokens: the numbers of a sequence.

use std::time::SystemTime;

use pilotman_core::{Error, ErrorKind, Result};

use crate::driver::Value;
use crate::failure;
use crate::session::MsSqlSession;
use crate::statements::{SEQUENCE, make, next as next_number};

/// A token for a lock that this session holds.
pub(crate) async fn next(session: &mut MsSqlSession) -> Result<u64> {
    if session.needs_sequence() {
        ensure(session).await?;
    }
    let sql = next_number(&session.mssql().quoted_sequence());
    let token = match session.value(&sql, &[]).await {
        Ok(value) => value.as_ref().and_then(Value::number),
        // Who has seen a sequence does not make it anew when it is gone: its last number is not known any more.
        Err(failure) if failure.is_missing() => {
            return Err(failure::is_gone(&session.mssql().quoted_sequence(), &failure));
        }
        Err(failure) => return Err(failure::of_statement(failure)),
    };
    match token.and_then(|token| u64::try_from(token).ok()) {
        Some(token) => Ok(token),
        None => Err(Error::new(ErrorKind::Internal, "the server gave no number for a fencing token").no_effect(false)),
    }
}

/// Makes sure, once, that the sequence is there and that its numbers increase.
async fn ensure(session: &mut MsSqlSession) -> Result<()> {
    let sequence = session.mssql().quoted_sequence();
    let mut settings = settings(session, &sequence).await?;
    if settings.is_none() {
        make_sequence(session, &sequence).await?;
        settings = self::settings(session, &sequence).await?;
    }
    match settings {
        Some(Settings { increment, least, cycles: false, .. }) if increment > 0 && least >= 0 => {
            session.has_sequence();
            Ok(())
        }
        _ => Err(Error::misconfigured(format!("the sequence {sequence} can't be what fencing tokens come from"))
            .with_advice("it must increase, from 0 or more, without a cycle, and the login must be allowed to see it")
            .no_effect(true)),
    }
}

pub(crate) struct Settings {
    increment: i64,
    least: i64,
    cycles: bool,
    /// The last number that was given.
    pub(crate) last: Option<u64>,
}

/// How a sequence is made; `None`: there is none, or the login may not see it.
pub(crate) async fn settings(session: &mut MsSqlSession, sequence: &str) -> Result<Option<Settings>> {
    let rows = session.rows(SEQUENCE, &[sequence.into()]).await.map_err(failure::of_statement)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let number = |at: usize| row.get(at).and_then(Value::number);
    Ok(Some(Settings {
        increment: number(0).unwrap_or(0),
        least: number(1).unwrap_or(-1),
        cycles: number(2) != Some(0),
        last: number(3).and_then(|last| u64::try_from(last).ok()),
    }))
}

/// What a new sequence begins with: the microseconds since 1970. So it is above all numbers of one that was there before and was
/// dropped, as long as those were fewer than one in a microsecond.
fn first() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(1).max(1)
}

/// Makes the sequence. Several may do so at the same time, of whom all but one fail.
async fn make_sequence(session: &mut MsSqlSession, sequence: &str) -> Result<()> {
    let sql = make(sequence, first());
    match session.rows(&sql, &[]).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.exists() => Ok(()),
        Err(failure) => Err(failure::of_statement(failure).with_advice(format!(
            "fencing tokens come from a sequence: have it made by somebody who may ({sql}), and grant UPDATE on it"
        ))),
    }
}
