//! Who holds what, as `pg_locks` and `pg_stat_activity` show it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Primitive, Result, Target};
use tokio_postgres::SimpleQueryRow;

use crate::failure;
use crate::key::PostgresKey;
use crate::session::PostgresSession;
use crate::statements;

/// What of a session is shown; with its lock's row as `l` and its own as `a`.
const COLUMNS: &str = "l.pid, l.mode, l.granted, a.application_name, \
                       coalesce(pg_catalog.host(a.client_addr), 'this host'), \
                       extract(epoch from coalesce(a.xact_start, a.state_change))::int8, \
                       coalesce(o.in_session, 0)";
/// What stands beside a lock's row: its session, and how many advisory locks that has in all.
const BESIDE: &str = "left join pg_catalog.pg_stat_activity a on a.pid=l.pid \
                      left join (select pid, count(*) as in_session from pg_catalog.pg_locks \
                      where locktype='advisory' and granted group by pid) o on o.pid=l.pid";

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
    shared: bool,
    granted: bool,
    owner: String,
    since: Option<SystemTime>,
    /// So many advisory locks its session has in all.
    in_session: u64,
}

fn found(kind: &'static str, row: &SimpleQueryRow) -> Found {
    let column = |at: usize| row.try_get(at).ok().flatten();
    // A prepared transaction has none.
    let process: Option<i32> = column(0).and_then(|text| text.parse().ok());
    let shown = |text: &str| text.chars().take(100).flat_map(char::escape_debug).collect::<String>();
    let owner = match (process, column(3), column(4)) {
        (None, ..) => "a prepared transaction".to_owned(),
        (Some(process), Some(name), Some(host)) if !name.is_empty() => {
            format!("pid {process}, {}, from {host}", shown(name))
        }
        (Some(process), _, Some(host)) => format!("pid {process}, from {host}"),
        (Some(process), ..) => format!("pid {process}"),
    };
    let since = column(5).and_then(|text| text.parse().ok()).map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
    Found {
        kind,
        shared: column(1) == Some("ShareLock"),
        granted: column(2) == Some("t"),
        owner,
        since,
        in_session: column(6).and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}

/// The rows of these keys.
pub(crate) async fn look(session: &mut PostgresSession, keys: &Keys) -> Result<Vec<Found>> {
    let selects: Vec<_> = keys
        .iter()
        .map(|(kind, key, count)| {
            let rows = key.rows(*count);
            format!(
                "select {COLUMNS}, '{kind}' from (select * from pg_catalog.pg_locks where {rows}) l \
                 {BESIDE}"
            )
        })
        .collect();
    let messages = session.query(&selects.join(" union all ")).await.map_err(failure::of_statement)?;
    let kind_of = |row: &SimpleQueryRow| {
        let kind = row.try_get(7).ok().flatten().unwrap_or_default();
        keys.iter().map(|(known, ..)| *known).find(|known| *known == kind).unwrap_or("mutex")
    };
    Ok(statements::rows(&messages).map(|row| found(kind_of(row), row)).collect())
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
        "select {COLUMNS}, l.classid::int8, l.objid::int8, l.objsubid from pg_catalog.pg_locks l {BESIDE} where l.locktype='advisory' and l.database=\
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
        locks.entry(key).or_default().push(found("", row));
    }
    let of = |(key, found): (PostgresKey, Vec<Found>)| {
        let mut inspection = Inspection::default();
        inspection.name = key.short_name();
        inspection.physical = key.decimal();
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
    let mut holders = Vec::new();
    for found in &found {
        let mut holder = holder(found);
        if found.in_session > 1 {
            holder.owner = format!("{}, with {} other locks that ended too", holder.owner, found.in_session - 1);
        }
        holders.push(holder);
    }
    // Looked for anew in the statement that ends them: a process number may be somebody else's by now.
    let rows: Vec<_> = keys.iter().map(|(_, key, count)| format!("({})", key.rows(*count))).collect();
    let sql = format!(
        "select count(pg_catalog.pg_terminate_backend(pid)) from (select distinct pid from pg_catalog.pg_locks \
         where granted and pid<>pg_catalog.pg_backend_pid() and ({})) p",
        rows.join(" or ")
    );
    match found.is_empty() {
        true => Ok(holders),
        false => match session.query(&sql).await {
            Ok(_) => Ok(holders),
            Err(error) => Err(failure::of_statement(error)
                .with_advice("a role may end its own sessions; others need pg_signal_backend")),
        },
    }
}

/// Whether locks can be had here.
pub(crate) async fn check(session: &mut PostgresSession) -> Result<()> {
    session.query("select 1").await.map(drop).map_err(failure::of_statement)
}
