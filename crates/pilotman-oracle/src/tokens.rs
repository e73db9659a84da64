//! Fencing tokens: the numbers of a sequence.

use std::time::{SystemTime, UNIX_EPOCH};

use pilotman_core::{Error, ErrorKind, Result};

use crate::failure;
use crate::session::OracleSession;
use crate::statements::{self, count};

/// Somebody was faster.
const IS_THERE: Option<u32> = Some(955);

/// A token for a lock that this session holds.
pub(crate) async fn next(session: &mut OracleSession) -> Result<u64> {
    let sequence = session.oracle().token_sequence.clone();
    let token = match session.run(statements::token(&sequence)).await {
        Err(failure) if failure::is_missing(&failure) => {
            make(session, &sequence).await?;
            session.run(statements::token(&sequence)).await
        }
        token => token,
    };
    match token.map_err(|failure| failure::of_statement(session.oracle(), failure)).map(|outs| count(&outs, 0))? {
        Some(token) if token > 0 => Ok(token),
        _ => Err(Error::new(ErrorKind::Internal, "the sequence gave no number for a fencing token").no_effect(false)),
    }
}

/// Where a sequence begins that is made now: at the unix time in microseconds, so that one that is made anew, because somebody has
/// dropped it, goes on above all that the old one gave. Numbers of the database, and of ours, have room for more than 200 000 years.
fn first() -> u64 {
    // Before 1970 is nothing but a clock that is not set.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(1).clamp(1, i64::MAX as u64 / 2)
}

/// Makes the sequence. Several may do so at the same time, which is fine.
async fn make(session: &mut OracleSession, sequence: &str) -> Result<()> {
    let first = first();
    match session.run(statements::make_sequence(sequence, first)).await {
        Err(failure) if failure.code != IS_THERE => {
            let user = session.oracle().user.clone().unwrap_or_else(|| "the user".to_owned());
            Err(failure::of_statement(session.oracle(), failure).with_advice(format!(
                "fencing tokens come from a sequence: have it made by somebody who may ({}), and grant SELECT on it to {user}",
                statements::sequence_ddl(sequence, first)
            )))
        }
        _ => Ok(()),
    }
}
