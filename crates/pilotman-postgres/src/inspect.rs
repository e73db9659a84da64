//! Who holds what, as `pg_locks` and `pg_stat_activity` show it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, Primitive, Result, Target};
use tokio_postgres::SimpleQueryRow;

use crate::failure;
use crate::key::PostgresKey;
use crate::session::PostgresSession;
use crate::statements;

/// What of a session is shown; with its lock's row as `l` and its own as `a`.
const COLUMNS: &str = "l.pid, l.mode, l.granted, a.application_name, \
                       coalesce(pg_catalog.host(a.client_addr), 'this host'), \
                       extract(epoch from coalesce(a.xact_start, a.state_change))::int8, \
                       (select count(*) from pg_catalog.pg_locks o where o.pid=l.pid and o.locktype='advisory' and o.granted)";

/// The keys that belong to a name, with the primitive of each: of a semaphore, its gate.
pub(crate) type Keys = Vec<(&'static str, PostgresKey, u32)>;

/// All keys of a target's name.
pub(crate) fn keys(target: &Target, key: impl Fn(&Target) -> Result<PostgresKey>) -> Result<Keys> {
    let of = |primitive| key(&Target { name: target.name.clone(), primitive });
    let mut keys = vec![("mutex", of(Primitive::Mutex)?, 1)];
    // With explicit keys there is nothing but mutexes.
    if let (Ok(rw), Ok(gate)) = (of(Primitive::Read), of(Primitive::Permit(NonZeroU32::MIN))) {
        keys.push(("rw", rw, 1));
        // Without a number of permits, as many as no other semaphore has among its own.
        let permits = target.primitive.limit().filter(|_| matches!(target.primitive, Primitive::Permit(_)));
        keys.push(("permit", gate.permit(0), permits.unwrap_or(4095)));
    }
    Ok(keys)
}

/// A lock's row.
pub(crate) struct Found {
    kind: &'static str,
    process: i32,
    shared: bool,
    granted: bool,
    owner: String,
    since: Option<SystemTime>,
    /// So many advisory locks its session has in all.
    in_session: u64,
}

fn found(kind: &'static str, row: &SimpleQueryRow) -> Result<Found> {
    let column = |at: usize| row.try_get(at).ok().flatten();
    let bad = || Error::new(pilotman_core::ErrorKind::Internal, "the server describes its locks in an unknown way");
    let process = column(0).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let shown = |text: &str| text.chars().take(100).flat_map(char::escape_debug).collect::<String>();
    let owner = match (column(3), column(4)) {
        (Some(name), Some(host)) if !name.is_empty() => format!("pid {process}, {}, from {host}", shown(name)),
        (_, Some(host)) => format!("pid {process}, from {host}"),
        _ => format!("pid {process}"),
    };
    let since = column(5).and_then(|text| text.parse().ok()).map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
    Ok(Found {
        kind,
        process,
        shared: column(1) == Some("ShareLock"),
        granted: column(2) == Some("t"),
        owner,
        since,
        in_session: column(6).and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

/// The rows of these keys.
pub(crate) async fn look(session: &mut PostgresSession, keys: &Keys) -> Result<Vec<Found>> {
    let selects: Vec<_> = keys
        .iter()
        .map(|(kind, key, count)| {
            let rows = key.rows(*count);
            format!(
                "select {COLUMNS}, '{kind}' from (select * from pg_catalog.pg_locks where {rows}) l \
                 left join pg_catalog.pg_stat_activity a on a.pid=l.pid"
            )
        })
        .collect();
    let messages = session.query(&selects.join(" union all ")).await.map_err(failure::of_statement)?;
    let kind_of = |row: &SimpleQueryRow| {
        let kind = row.try_get(7).ok().flatten().unwrap_or_default();
        keys.iter().map(|(known, ..)| *known).find(|known| *known == kind).unwrap_or("mutex")
    };
    statements::rows(&messages).map(|row| found(kind_of(row), row)).collect()
}

fn holder(found: &Found) -> Holder {
    let mut holder = Holder::default();
    holder.owner.clone_from(&found.owner);
    holder.primitive = Some(match (found.kind, found.shared) {
        ("rw", true) => "read",
        ("rw", false) => "write",
        (kind, _) => kind,
    });
    holder.since = found.since;
    holder
}

/// What was found of a name.
pub(crate) fn inspection(target: &Target, physical: String, found: Vec<Found>) -> Inspection {
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical = physical;
    inspection.holders = found.iter().filter(|found| found.granted).map(holder).collect();
    inspection.waiters = Some(found.iter().filter(|found| !found.granted).count());
    inspection
}

/// All advisory locks of the database.
pub(crate) async fn list(session: &mut PostgresSession) -> Result<Vec<Inspection>> {
    let sql = format!(
        "select {COLUMNS}, l.classid::int8, l.objid::int8, l.objsubid from pg_catalog.pg_locks l \
         left join pg_catalog.pg_stat_activity a on a.pid=l.pid where l.locktype='advisory' and l.database=\
         (select oid from pg_catalog.pg_database where datname=pg_catalog.current_database())"
    );
    let messages = session.query(&sql).await.map_err(failure::of_statement)?;
    let mut locks: BTreeMap<PostgresKey, Vec<Found>> = BTreeMap::new();
    for row in statements::rows(&messages) {
        let number = |at: usize| row.try_get(at).ok().flatten().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (high, low) = (number(7), number(8));
        let key = match number(9) {
            2 => PostgresKey::Pair((high as u32).cast_signed(), (low as u32).cast_signed()),
            _ => PostgresKey::Big((high << 32 | low).cast_signed()),
        };
        locks.entry(key).or_default().push(found("", row)?);
    }
    let of = |(key, found): (PostgresKey, Vec<Found>)| {
        let mut inspection = Inspection::default();
        inspection.name = key.short_name();
        inspection.physical = key.to_string();
        let unknown = |found: &Found| {
            let mut holder = holder(found);
            holder.primitive = None;
            holder
        };
        inspection.holders = found.iter().filter(|found| found.granted).map(unknown).collect();
        inspection.waiters = Some(found.iter().filter(|found| !found.granted).count());
        inspection
    };
    Ok(locks.into_iter().map(of).collect())
}

/// Ends the sessions that hold one of these keys, and says what else each of them held.
pub(crate) async fn end_holders(session: &mut PostgresSession, keys: &Keys) -> Result<Vec<Holder>> {
    let found: Vec<_> = look(session, keys).await?.into_iter().filter(|found| found.granted).collect();
    let own = session.value("select pg_catalog.pg_backend_pid()").await.map_err(failure::of_statement)?;
    let mut holders = Vec::new();
    for found in &found {
        let mut holder = holder(found);
        if found.in_session > 1 {
            holder.owner = format!("{}, with {} other locks that ended too", holder.owner, found.in_session - 1);
        }
        holders.push(holder);
    }
    let mut processes: Vec<_> = found.iter().map(|found| found.process).collect();
    processes.sort_unstable();
    processes.dedup();
    // One that is this very session comes last: the answer to that is the end of the connection.
    processes.sort_by_key(|process| Some(process.to_string()) == own);
    for process in processes {
        let is_own = Some(process.to_string()) == own;
        let sql = format!("select pg_catalog.pg_terminate_backend({process})");
        match session.value(&sql).await {
            Err(error) if !is_own => {
                return Err(failure::of_statement(error)
                    .with_advice("a role may end its own sessions; others need pg_signal_backend"));
            }
            _ => {}
        }
    }
    Ok(holders)
}

/// Whether locks can be had here.
pub(crate) async fn check(session: &mut PostgresSession) -> Result<()> {
    session.query("select 1").await.map(drop).map_err(failure::of_statement)
}
