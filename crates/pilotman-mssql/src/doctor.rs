//! Whether a server is set up safely for locks. Nothing is changed.

use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::driver::{Row, Value};
use crate::failure;
use crate::session::MsSqlSession;
use crate::statements::SETTINGS;
use crate::tokens;

/// The editions that are Azure SQL.
const AZURE: [i64; 3] = [5, 8, 9];

/// See the [module](self).
pub(crate) async fn diagnose(session: &mut MsSqlSession, wanted: usize) -> Result<Vec<Finding>> {
    let rows = session.rows(SETTINGS, &[]).await.map_err(failure::of_statement)?;
    let row: &[Value] = rows.first().map_or(&[], Row::as_slice);
    let number = |at: usize| row.get(at).and_then(Value::number);
    let may = |at: usize| number(at) == Some(1);
    let text = |at: usize| row.get(at).and_then(Value::text).unwrap_or_default();
    let identity = session.identity().clone();
    let login = failure::shown(text(8));
    let mut findings = vec![
        Finding::fine("version", format!("SQL Server {}", failure::shown(&identity.version))),
        Finding::note(
            "database",
            format!("the locks are those of the database {}; others have theirs", failure::shown(&identity.database)),
        ),
        match may(0) && may(1) {
            true => Finding::fine("locks", format!("{login} may take and release application locks")),
            false => Finding::problem("locks", format!("{login} may not execute sp_getapplock and sp_releaseapplock"))
                .advice("grant EXECUTE on both; the role public has it unless somebody took it away"),
        },
        match text(6) {
            "READ_WRITE" => Finding::fine("primary", "the database takes writes"),
            _ => Finding::problem("primary", "the database takes no writes: its locks may exclude nobody")
                .advice("connect to the primary"),
        },
        failover(number(5) == Some(1) || AZURE.contains(&identity.edition)),
        Finding::fine("reconnecting", "a session that ends is never replaced behind its locks: they are told as lost"),
    ];
    findings.push(match AZURE.contains(&identity.edition) {
        true => Finding::note(
            "idle sessions",
            "Azure ends sessions that are idle for half an hour; ours with locks are asked at every half heartbeat",
        ),
        false => Finding::fine("idle sessions", "ours with locks are asked at every half heartbeat"),
    });
    findings.push(match number(7) {
        Some(most) if most < wanted as i64 => Finding::warning(
            "connections",
            format!("the server takes {most} connections, and up to {wanted} sessions may be opened here"),
        )
        .advice("allow fewer sessions with max-sessions"),
        Some(most) => Finding::fine("connections", format!("the server takes {most} connections")),
        None => Finding::note("connections", "how many the server takes is not told"),
    });
    findings.push(match (may(2), may(3)) {
        (true, true) => Finding::fine("rights", format!("{login} may see who holds a lock, and end his session")),
        (true, false) => Finding::note("rights", format!("{login} may see who holds a lock, and end nobody's session"))
            .advice("locks of others are broken with ALTER ANY CONNECTION"),
        _ => Finding::note("rights", format!("{login} may not see who holds a lock"))
            .advice("that is shown with VIEW SERVER STATE"),
    });
    findings.push(tokens(session, may(4)).await);
    Ok(findings)
}

fn failover(has_replicas: bool) -> Finding {
    match has_replicas {
        true => Finding::note(
            "failover",
            "locks are not replicated: a failover ends all of them, and is told as the loss of each",
        ),
        false => {
            Finding::note("failover", "locks end with this server; one that takes its place knows nothing of them")
        }
    }
}

async fn tokens(session: &mut MsSqlSession, may_make: bool) -> Finding {
    let sequence = session.mssql().quoted_sequence();
    match (tokens::settings(session, &sequence).await, may_make) {
        (Ok(Some(_)), _) => Finding::fine("tokens", format!("the sequence {sequence} of the fencing tokens is there")),
        (Ok(None), true) => Finding::note(
            "tokens",
            format!("the sequence {sequence} is made when the first fencing token is asked for"),
        ),
        _ => {
            Finding::note("tokens", format!("there is no sequence {sequence} to be seen, so that there are no tokens"))
                .advice("have it made by somebody who may, and grant UPDATE on it")
        }
    }
}
