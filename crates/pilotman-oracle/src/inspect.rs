//! Who holds what, as far as the database tells this user.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, Primitive, Result, Target};

use crate::driver::{Failure, Value};
use crate::failure::{self, Answer};
use crate::names::LockName;
use crate::session::OracleSession;
use crate::statements::{self, SessionId, count, number, text};

/// The session is one that can't end itself; it is not there; it will end as soon as it can.
const IS_OWN: u32 = 27;
const IS_ENDED: [u32; 2] = [30, 31];

/// What one session has of a lock, or wants of it.
struct Row {
    name: String,
    holds: Option<i64>,
    waits: bool,
    since: Option<Duration>,
    session: Option<SessionId>,
    owner: String,
}

fn read(row: &[Value]) -> Row {
    let shown =
        |at: usize| text(row, at).map(|text| text.chars().take(60).flat_map(char::escape_debug).collect::<String>());
    let session = (|| Some(SessionId { sid: count(row, 4)?, serial: count(row, 5)?, instance: count(row, 6)? }))();
    let words = [("user", shown(7)), ("on", shown(8)), ("program", shown(9)), ("module", shown(10))];
    let words = words.into_iter().filter_map(|(word, text)| text.map(|text| format!(", {word} {text}")));
    let number_of = session.map_or_else(String::new, |id| format!(" {},{},@{}", id.sid, id.serial, id.instance));
    Row {
        name: text(row, 0).unwrap_or_default(),
        // One that has but the null mode holds nothing.
        holds: number(row, 1).filter(|mode| *mode > 1),
        waits: number(row, 2).is_some_and(|mode| mode > 0),
        since: count(row, 3).map(Duration::from_secs),
        session,
        owner: format!("session{number_of}{}", words.collect::<String>()),
    }
}

impl Row {
    fn holder(&self) -> Holder {
        let mut holder = Holder::default();
        holder.owner = self.owner.clone();
        holder.primitive = match self.holds {
            Some(2) => Some("read"),
            Some(5) => Some("upgradeable_read"),
            // A mutex, a write or an upgraded read.
            _ => None,
        };
        holder.since = self.since.and_then(|since| SystemTime::now().checked_sub(since));
        holder
    }
}

async fn rows(session: &mut OracleSession, name: Option<&LockName>) -> Result<Vec<Row>> {
    let rows = session.query(statements::holders(name.map(LockName::as_str))).await;
    let rows = rows.map_err(|failure| of_views(session, failure))?;
    Ok(rows.iter().map(|row| read(row)).collect())
}

fn of_views(session: &OracleSession, failure: Failure) -> Error {
    match failure::is_missing(&failure) || failure::is_forbidden(&failure) {
        true => {
            let user = session.oracle().user.clone().unwrap_or_else(|| "the user".to_owned());
            Error::misconfigured("the user may not look who holds locks").with_source(failure).with_advice(format!(
                "have a database administrator run: GRANT SELECT ON SYS.DBMS_LOCK_ALLOCATED TO {user}; \
                 GRANT SELECT ON SYS.GV_$LOCK TO {user}; GRANT SELECT ON SYS.GV_$SESSION TO {user}"
            ))
        }
        false => failure::of_statement(session.oracle(), failure),
    }
}

/// Looks at a name.
pub(crate) async fn look(session: &mut OracleSession, name: &LockName, target: &Target) -> Result<Inspection> {
    let rows = rows(session, Some(name)).await?;
    let mut inspection = of_rows(name.as_str(), &rows);
    inspection.name = Some(target.name.as_str().to_owned());
    Ok(inspection)
}

fn of_rows<'a>(physical: &str, rows: impl IntoIterator<Item = &'a Row> + Clone) -> Inspection {
    let mut inspection = Inspection::default();
    inspection.physical = physical.to_owned();
    inspection.holders = rows.clone().into_iter().filter(|row| row.holds.is_some()).map(Row::holder).collect();
    inspection.waiters = Some(rows.into_iter().filter(|row| row.waits).count());
    inspection
}

/// All names that are held or waited for.
pub(crate) async fn list(session: &mut OracleSession) -> Result<Vec<Inspection>> {
    let rows = rows(session, None).await?;
    let mut names: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        names.entry(&row.name).or_default().push(row);
    }
    Ok(names.into_iter().map(|(name, rows)| of_rows(name, rows)).collect())
}

/// Ends the sessions that hold a name.
pub(crate) async fn end_holders(session: &mut OracleSession, name: &LockName) -> Result<Vec<Holder>> {
    let mut ended = Vec::new();
    for row in rows(session, Some(name)).await? {
        let (Some(_), Some(id)) = (row.holds, row.session) else { continue };
        let is_own = session.id() == Some(id);
        match session.run(statements::kill(&id)).await {
            Ok(_) => {}
            Err(failure) if failure.code == Some(IS_OWN) || is_own => session.give_up(),
            Err(failure) if failure.code.is_some_and(|code| IS_ENDED.contains(&code)) => {}
            Err(failure) => {
                let user = session.oracle().user.clone().unwrap_or_else(|| "the user".to_owned());
                let forbidden = failure::is_forbidden(&failure);
                let error = failure::of_statement(session.oracle(), failure);
                return Err(match forbidden {
                    true => error.with_advice(format!(
                        "to break locks takes a right that few have: GRANT ALTER SYSTEM TO {user}"
                    )),
                    false => error,
                });
            }
        }
        let mut holder = row.holder();
        holder.owner = format!("{}, with whatever other locks its session had", holder.owner);
        ended.push(holder);
    }
    Ok(ended)
}

/// Whether locks can be had here.
pub(crate) async fn check(session: &mut OracleSession) -> Result<()> {
    let outs = session.run(statements::check()).await;
    let outs = outs.map_err(|failure| failure::of_statement(session.oracle(), failure))?;
    match failure::answer(number(&outs, 0))? {
        Answer::Owned | Answer::Done => Ok(()),
        _ => Err(Error::unavailable("the package of the locks gave a strange answer").no_effect(true)),
    }
}

/// Why a primitive is not to be had.
pub(crate) fn unsupported(primitive: Primitive) -> Option<&'static str> {
    match primitive {
        Primitive::Permit(_) => Some(
            "a session waits for one lock of DBMS_LOCK at a time, so who waits for any of several permits sleeps on one that stays \
             taken while another is free",
        ),
        _ => None,
    }
}
