//! Who holds what, as far as the server tells this user.

use mysql_async::Row;
use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Primitive, Result, Target};

use crate::names::LockName;
use crate::session::MySqlSession;
use crate::statements::{literal, number, text};
use crate::{failure, tokens};

/// What was found of a name.
pub(crate) struct Found {
    /// The number of the session that holds it.
    id: Option<u64>,
    holder: Option<Holder>,
    waiters: Option<usize>,
    token: Option<u64>,
    /// So many locks its session has in all, where that can be known.
    in_session: Option<u64>,
}

/// Looks at a name.
pub(crate) async fn look(session: &mut MySqlSession, name: &LockName) -> Result<Found> {
    let at_server = name.on(session.is_mariadb()).to_owned();
    let sql = format!("SELECT IS_USED_LOCK({})", literal(&at_server));
    let rows = session.rows(&sql).await.map_err(failure::of_statement)?;
    let id = rows.first().and_then(|row| number(row, 0));
    let holder = match id {
        Some(id) => Some(holder(session, id).await?),
        None => None,
    };
    let (waiters, in_session) = match id {
        Some(id) => counts(session, &at_server, id).await,
        None => (Some(0), None),
    };
    let token = tokens::last(session, name.as_str()).await;
    Ok(Found { id, holder, waiters, token, in_session })
}

async fn holder(session: &mut MySqlSession, id: u64) -> Result<Holder> {
    let sql = format!("SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID={id}");
    let rows = session.rows(&sql).await.map_err(failure::of_statement)?;
    let shown = |text: String| text.chars().take(100).flat_map(char::escape_debug).collect::<String>();
    let mut holder = Holder::default();
    holder.owner = match rows.first().map(|row| (text(row, 0), text(row, 1))) {
        Some((Some(user), Some(host))) => format!("connection {id}, user {}, from {}", shown(user), shown(host)),
        // Sessions of other users are not shown to everybody.
        _ => format!("connection {id}"),
    };
    holder.primitive = Some("mutex");
    Ok(holder)
}

/// How many wait for a lock that is held, and how many locks its session has. Both need a look into `performance_schema`, which
/// few users may have, and the instrument, which MariaDB has switched off.
async fn counts(session: &mut MySqlSession, name: &str, id: u64) -> (Option<usize>, Option<u64>) {
    let sql = format!(
        "SELECT CAST(SUM(l.OBJECT_NAME={name} AND l.LOCK_STATUS='PENDING') AS SIGNED), \
         CAST(SUM(t.PROCESSLIST_ID={id} AND l.LOCK_STATUS='GRANTED') AS SIGNED) \
         FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID=l.OWNER_THREAD_ID \
         WHERE l.OBJECT_TYPE='USER LEVEL LOCK'",
        name = literal(name)
    );
    let known = |row: &Row| Some((number(row, 0)?, number(row, 1)?));
    match session.rows(&sql).await.ok().and_then(|rows| known(rows.first()?)) {
        Some((waiters, held)) if held > 0 => (Some(usize::try_from(waiters).unwrap_or(usize::MAX)), Some(held)),
        _ => (None, None),
    }
}

/// What was found, for people.
pub(crate) fn inspection(target: &Target, physical: String, found: Found) -> Inspection {
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical = physical;
    inspection.holders = found.holder.into_iter().collect();
    inspection.waiters = found.waiters;
    inspection.token = found.token;
    inspection
}

/// Ends the session that holds a name, and says what else it held.
pub(crate) async fn end_holder(session: &mut MySqlSession, name: &LockName) -> Result<Vec<Holder>> {
    let found = look(session, name).await?;
    let (Some(id), Some(mut holder)) = (found.id, found.holder) else { return Ok(Vec::new()) };
    holder.owner = match found.in_session {
        Some(1) => holder.owner,
        Some(held) => format!("{}, with {} other locks that ended too", holder.owner, held - 1),
        None => format!("{}, with whatever other locks its session had", holder.owner),
    };
    let is_own = id == session.id();
    match session.rows(&format!("KILL CONNECTION {id}")).await {
        // The answer to that is an error in any case.
        _ if is_own => session.give_up(),
        Ok(_) => {}
        // It ended by itself meanwhile.
        Err(error) if failure::code(&error) == Some(1094) => {}
        Err(error) => {
            return Err(failure::of_statement(error).with_advice(
                "a user may end his own sessions; those of others need CONNECTION_ADMIN (CONNECTION ADMIN, SUPER)",
            ));
        }
    }
    Ok(vec![holder])
}

/// Whether locks can be had here.
pub(crate) async fn check(session: &mut MySqlSession) -> Result<()> {
    session.rows("SELECT 1").await.map(drop).map_err(failure::of_statement)
}

/// Why a primitive is not to be had.
pub(crate) fn unsupported(primitive: Primitive) -> Option<&'static str> {
    match primitive {
        Primitive::Mutex => None,
        Primitive::Read | Primitive::Write | Primitive::UpgradeableRead => Some(
            "GET_LOCK has exclusive locks only: a writer would have to take a name of each reader, one after the other, and \
             readers that are counted in a table stay there when their process dies",
        ),
        Primitive::Permit(_) => Some(
            "a session waits for one GET_LOCK name at a time: who waits for any of several permits sleeps on one that stays \
             taken while another is free",
        ),
    }
}
