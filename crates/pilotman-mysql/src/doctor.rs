//! Whether a server is set up safely for locks. Nothing is changed.

use mysql_async::Row;
use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::failure;
use crate::session::MySqlSession;
use crate::statements::{is_on, number, text};

const SETTINGS: &str = "SELECT @@global.max_connections, @@global.wait_timeout, @@session.wait_timeout, VERSION(), \
                        @@global.read_only, @@global.innodb_flush_log_at_trx_commit, @@global.max_user_connections, \
                        CURRENT_USER()";

/// See the [module](self).
pub(crate) async fn diagnose(session: &mut MySqlSession, wanted: usize) -> Result<Vec<Finding>> {
    let rows = session.rows(SETTINGS).await.map_err(failure::of_statement)?;
    let mut findings = Vec::new();
    let Some(row) = rows.first() else { return Ok(findings) };
    let number = |at: usize| number(row, at).unwrap_or(0);
    findings.push(Finding::fine(
        "version",
        format!("{}: a session can hold several locks", text(row, 3).unwrap_or_default()),
    ));
    findings.push(match session.mysql().trusts_proxy {
        true => Finding::note("proxy", "that a proxy leaves each session its connection is taken on trust"),
        false => Finding::fine("proxy", "the server itself serves each session; no proxy is seen"),
    });
    findings.push(match is_on(row, 4) {
        true => Finding::problem("primary", "the server has become read-only: its locks may exclude nobody")
            .advice("connect to the primary"),
        false => Finding::fine("primary", "the server takes writes"),
    });
    findings.push(connections(session, number(0), number(6), wanted as u64).await);
    findings.push(idle(number(1), number(2)));
    findings.push(rights(session, &text(row, 7).unwrap_or_default()).await);
    findings.push(tokens(session, number(5)).await);
    findings.push(copies(session).await);
    Ok(findings)
}

async fn connections(session: &mut MySqlSession, most: u64, of_user: u64, wanted: u64) -> Finding {
    let used = status(session, "SHOW GLOBAL STATUS LIKE 'Threads_connected'").await;
    let Some(used) = used else { return Finding::note("connections", "how many are open is not told to this user") };
    let left = most.saturating_sub(used);
    let short = left < wanted || (of_user > 0 && of_user < wanted);
    match short {
        true => Finding::warning(
            "connections",
            format!("the server has {left} of {most} connections left, and up to {wanted} sessions may be opened here"),
        )
        .advice("raise max_connections (and max_user_connections), or allow fewer sessions with max-sessions"),
        false => Finding::fine("connections", format!("the server has {left} of {most} connections left")),
    }
}

fn idle(of_server: u64, of_session: u64) -> Finding {
    match of_session >= 86_400 {
        true => {
            Finding::fine("idle sessions", format!("ours are kept, though the server ends others after {of_server} s"))
        }
        false => Finding::warning(
            "idle sessions",
            format!("the server ends ours after {of_session} s in spite of what they ask"),
        )
        .advice("see whether a proxy stands between that keeps settings from the server"),
    }
}

/// Whether holders of other users could be ended.
async fn rights(session: &mut MySqlSession, user: &str) -> Finding {
    let rows = session.rows("SHOW GRANTS").await.unwrap_or_default();
    let may = |row: &Row| {
        let grant = text(row, 0).unwrap_or_default().to_ascii_uppercase();
        let (what, on) = grant.split_once(" ON ").unwrap_or_default();
        on.starts_with("*.*")
            && ["ALL PRIVILEGES", "CONNECTION_ADMIN", "CONNECTION ADMIN", "SUPER"]
                .iter()
                .any(|right| what.contains(right))
    };
    match rows.iter().any(may) {
        true => Finding::fine("rights", format!("{user} may end the sessions of all users")),
        false => {
            Finding::note("rights", format!("{user} may end his own sessions only: locks of others can't be broken"))
        }
    }
}

async fn tokens(session: &mut MySqlSession, flush: u64) -> Finding {
    let table = session.mysql().quoted_table();
    match session.rows(&format!("SELECT COUNT(*) FROM {table}")).await {
        Ok(_) if flush != 1 => Finding::warning(
            "tokens",
            "the server doesn't flush at each commit: after a crash of its machine tokens may be given a second time",
        )
        .advice("set innodb_flush_log_at_trx_commit=1"),
        Ok(_) => Finding::fine("tokens", "the table of the fencing tokens is there, and writes to it are durable"),
        Err(error) if failure::is_missing(&error) => {
            Finding::note("tokens", format!("the table {table} is made when the first fencing token is asked for"))
        }
        Err(_) => {
            Finding::note("tokens", format!("the table {table} can't be read, so that there are no fencing tokens"))
                .advice("name the database that it is in, and grant SELECT, INSERT and UPDATE on it")
        }
    }
}

/// Whether there are other servers with the same data, whose locks are not the same.
async fn copies(session: &mut MySqlSession) -> Finding {
    let members = status(session, "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'").await.unwrap_or(0);
    match members {
        0 | 1 => {
            Finding::note("failover", "locks end with this server; one that takes its place knows nothing of them")
        }
        members => Finding::warning(
            "failover",
            format!("this is one of {members} servers of a Galera cluster, and each has locks of its own"),
        )
        .advice("name one and the same server everywhere"),
    }
}

async fn status(session: &mut MySqlSession, sql: &str) -> Option<u64> {
    number(session.rows(sql).await.ok()?.first()?, 1)
}
