//! Whether a database is set up safely for locks. Nothing is changed.

use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::failure;
use crate::options::Scope;
use crate::session::PostgresSession;

const SETTINGS: &str = "select pg_catalog.current_setting('max_connections')::int8, \
                        pg_catalog.current_setting('superuser_reserved_connections')::int8, \
                        (select count(*) from pg_catalog.pg_stat_activity where backend_type='client backend'), \
                        coalesce(pg_catalog.current_setting('client_connection_check_interval', true), ''), \
                        pg_catalog.has_schema_privilege(coalesce(pg_catalog.current_schema(), 'public'), 'CREATE'), \
                        pg_catalog.current_setting('synchronous_standby_names'), \
                        (select count(*) from pg_catalog.pg_stat_replication), \
                        pg_catalog.current_setting('max_locks_per_transaction')::int8, \
                        pg_catalog.current_setting('max_prepared_transactions')::int8";

/// See the [module](self).
pub(crate) async fn diagnose(session: &mut PostgresSession, scope: Scope, wanted: usize) -> Result<Vec<Finding>> {
    let messages = session.query(SETTINGS).await.map_err(failure::of_statement)?;
    let row = crate::statements::first_row(&messages);
    let text = |at: usize| row.and_then(|row| row.get(at)).unwrap_or_default().to_owned();
    let number = |at: usize| text(at).parse::<u64>().unwrap_or(0);
    let mut findings = vec![match scope {
        Scope::Session => {
            Finding::fine("pooler", "the server itself serves each session; no pooler gives it to others")
        }
        Scope::Transaction => {
            Finding::note("pooler", "holds live in transactions, one session each; a pooler may stand between")
        }
    }];
    let (most, reserved, used) = (number(0), number(1), number(2));
    let left = most.saturating_sub(reserved).saturating_sub(used);
    findings.push(match left < wanted as u64 {
        true => Finding::warning(
            "connections",
            format!("the server has {left} of {most} connections left, and up to {wanted} sessions may be opened here"),
        )
        .advice("raise max_connections, or allow fewer sessions with max-sessions"),
        false => Finding::fine("connections", format!("the server has {left} of {most} connections left")),
    });
    let slots = number(7) * (most + number(8));
    findings.push(Finding::note("locks", format!("the server has room for about {slots} locks of all kinds")));
    findings.push(match (scope, text(3).as_str()) {
        (Scope::Session, "" | "0") => Finding::warning(
            "vanished clients",
            "the server doesn't notice that the client of a waiting session has vanished, until the wait ends",
        )
        .advice("use PostgreSQL 14 or newer, on a system where client_connection_check_interval works"),
        _ => Finding::fine("vanished clients", "the server notices clients that vanish"),
    });
    findings.push(match text(4) == "t" {
        true => Finding::fine("tokens", "the role may make the sequence of the fencing tokens"),
        false => {
            Finding::note("tokens", "the role may not make the sequence of the fencing tokens: have it made beforehand")
        }
    });
    findings.push(match (number(6), text(5).is_empty()) {
        (0, _) => Finding::note("failover", "no standby is connected: the locks end with this server"),
        (_, true) => Finding::note(
            "failover",
            "replication is asynchronous: after a failover fencing tokens may be given a second time",
        ),
        _ => Finding::fine("failover", "replication is synchronous: fencing tokens go on increasing after a failover"),
    });
    Ok(findings)
}
