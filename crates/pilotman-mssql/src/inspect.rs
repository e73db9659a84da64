//! Who holds what, as far as the server tells this login.

use std::collections::{BTreeMap, BTreeSet};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, NameRule, Primitive, Result, Target};

use crate::driver::{Row, Value};
use crate::failure::{self, Failure, shown};
use crate::names::{Naming, SHOWN};
use crate::session::MsSqlSession;
use crate::statements::{LOCKS, TEST, kill};
use crate::tokens;

/// There is no session of that number.
const GONE: u32 = 6106;
const TO_END: &str = "sessions are ended with the permission ALTER ANY CONNECTION";

/// The resources of a name, with the kind of each: of a semaphore, what those of its permits begin with, and its gate.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    kinds: Vec<(&'static str, String, bool)>,
    gate: String,
    physical: String,
}

/// All resources of a target's name.
pub(crate) fn resources(target: &Target, naming: &Naming) -> Result<Resources> {
    let of = |primitive| naming.resource(&Target { name: target.name.clone(), primitive });
    let mut kinds = vec![("mutex", of(Primitive::Mutex)?.name.to_string(), false)];
    if !naming.dotnet_rw {
        kinds.push(("rw", of(Primitive::Read)?.name.to_string(), false));
    }
    let semaphore = of(Primitive::Permit(std::num::NonZeroU32::MIN))?;
    kinds.push(("permit", semaphore.name.to_string(), true));
    let gate = semaphore.gate.as_deref().unwrap_or_default().to_owned();
    Ok(Resources { kinds, gate, physical: naming.resource(target)?.name.to_string() })
}

/// What the server's views show of a resource.
fn visible(resource: &str) -> String {
    let units: Vec<u16> = resource.encode_utf16().take(SHOWN).collect();
    String::from_utf16_lossy(&units)
}

/// What a description, such as `0:[name]:(1a2b3c4d)`, shows of its resource.
fn described(description: &str) -> &str {
    let inner = description.split_once('[').map_or(description, |(_, rest)| rest);
    inner.rfind("]:(").map_or(inner, |end| &inner[..end])
}

/// A lock's row.
#[derive(Debug, Clone)]
struct Found {
    session: i32,
    mode: String,
    granted: bool,
    /// As it is shown, with a hash that tells it from others.
    description: String,
    resource: String,
    owner: String,
}

fn found(row: &Row) -> Option<Found> {
    let text = |at: usize| row.get(at).and_then(Value::text).map(str::trim).filter(|text| !text.is_empty());
    let session = i32::try_from(row.first()?.number()?).ok()?;
    let mut owner = format!("session {session}");
    for (at, what) in [(4, ""), (5, "from "), (6, "login ")] {
        if let Some(text) = text(at) {
            owner += &format!(", {what}{}", shown(&text.chars().take(100).collect::<String>()));
        }
    }
    Some(Found {
        session,
        mode: text(1)?.to_owned(),
        // One that is to be converted is held meanwhile.
        granted: text(2)? != "WAIT",
        description: row.get(3)?.text()?.to_owned(),
        resource: described(row.get(3)?.text()?).to_owned(),
        owner,
    })
}

impl Found {
    fn holder(&self, kind: Option<&'static str>) -> Holder {
        let mut holder = Holder::default();
        holder.owner.clone_from(&self.owner);
        holder.primitive = match (kind, self.mode.as_str()) {
            (Some("rw"), "S") => Some("read"),
            (Some("rw"), "U") => Some("upgradeable read"),
            (Some("rw"), _) => Some("write"),
            (kind, _) => kind,
        };
        holder
    }
}

/// What keeps rows from being known to be a resource's: the views show but the beginnings of longer ones.
async fn doubt(
    session: &mut MsSqlSession,
    rows: &mut Vec<(Option<&'static str>, Found)>,
    resources: &Resources,
) -> Result<bool, Failure> {
    let mut is_unclear = false;
    for (kind, resource, several) in &resources.kinds {
        if *several || resource.encode_utf16().count() <= SHOWN {
            continue;
        }
        let is_it = |row: &(Option<&'static str>, Found)| row.0 == Some(*kind);
        let shown: BTreeSet<_> = rows.iter().filter(|row| is_it(row)).map(|(_, found)| &found.description).collect();
        if shown.is_empty() {
            continue;
        }
        // Those are of others, if it is free.
        let is_free =
            session.value(TEST, &[resource.as_str().into()]).await?.as_ref().and_then(Value::number) == Some(1);
        match is_free {
            true => rows.retain(|row| !is_it(row)),
            false => is_unclear |= shown.len() > 1,
        }
    }
    Ok(is_unclear)
}

async fn all(session: &mut MsSqlSession) -> Result<Vec<Found>, Failure> {
    Ok(session.rows(LOCKS, &[]).await?.iter().filter_map(found).collect())
}

/// The rows of these resources.
fn among(all: Vec<Found>, resources: &Resources) -> Vec<(Option<&'static str>, Found)> {
    let kind_of = |found: &Found| {
        resources.kinds.iter().find_map(|(kind, resource, several)| {
            let is = match several {
                // Of a permit's number nothing may be to be seen.
                true => {
                    let start = visible(resource);
                    found.resource.strip_prefix(&start).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
                }
                false => found.resource == visible(resource),
            };
            is.then_some(*kind)
        })
    };
    let gate = visible(&resources.gate);
    all.into_iter()
        .filter_map(|found| match kind_of(&found) {
            Some(kind) => Some((Some(kind), found)),
            None if found.resource == gate => Some((None, found)),
            None => None,
        })
        .collect()
}

/// Looks at a name.
pub(crate) async fn look(session: &mut MsSqlSession, target: &Target, resources: &Resources) -> Result<Inspection> {
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical.clone_from(&resources.physical);
    match all(session).await {
        Ok(all) => {
            let (mut waiters, mut in_line) = (0, 0);
            let mut rows = among(all, resources);
            let is_unclear = doubt(session, &mut rows, resources).await.map_err(failure::of_statement)?;
            for (kind, mut found) in rows {
                if is_unclear {
                    found.owner += " (of this lock, or of another one whose name begins with the same 32 characters)";
                }
                match kind {
                    // Whoever has the gate or waits for it waits for a permit.
                    None => in_line += 1,
                    Some("permit") if !found.granted => {}
                    Some(_) if !found.granted => waiters += 1,
                    kind => inspection.holders.push(found.holder(kind)),
                }
            }
            inspection.waiters = Some(waiters + in_line);
        }
        Err(failure) if failure.is_denied() => {
            for (kind, resource, several) in &resources.kinds {
                // Which permits there are is not known.
                let answer = match several {
                    true => None,
                    false => session.value(TEST, &[resource.as_str().into()]).await.map_err(failure::of_statement)?,
                };
                if answer.as_ref().and_then(Value::number) == Some(0) {
                    let mut holder = Holder::default();
                    holder.owner = "unknown (who it is, is told with the permission VIEW SERVER STATE)".to_owned();
                    holder.primitive = Some(if *kind == "rw" { "write" } else { *kind });
                    inspection.holders.push(holder);
                }
            }
        }
        Err(failure) => return Err(failure::of_statement(failure)),
    }
    let sequence = session.mssql().quoted_sequence();
    // Where there is no sequence, or it may not be seen, there is no token to show.
    inspection.token = tokens::settings(session, &sequence).await.ok().flatten().and_then(|settings| settings.last);
    Ok(inspection)
}

/// All application locks of the database, by what is shown of their resources.
pub(crate) async fn list(session: &mut MsSqlSession, rule: NameRule) -> Result<Vec<Inspection>> {
    let all = all(session).await.map_err(|failure| {
        failure::of_statement(failure).with_advice("locks are listed with the permission VIEW SERVER STATE")
    })?;
    let mut locks: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for found in all {
        locks.entry(found.resource.clone()).or_default().push(found);
    }
    let of = |(resource, found): (String, Vec<Found>)| {
        let mut inspection = Inspection::default();
        // What has the length at which the server's view ends may go on.
        let is_whole = resource.encode_utf16().count() < SHOWN;
        inspection.name = (rule != NameRule::Strict && is_whole).then(|| resource.clone());
        inspection.physical = resource;
        inspection.holders = found.iter().filter(|found| found.granted).map(|found| found.holder(None)).collect();
        inspection.waiters = Some(found.iter().filter(|found| !found.granted).count());
        inspection
    };
    Ok(locks.into_iter().map(of).collect())
}

/// Ends the sessions that hold one of these resources, and says what else each of them held.
pub(crate) async fn end_holders(session: &mut MsSqlSession, resources: &Resources) -> Result<Vec<Holder>> {
    let all = all(session).await.map_err(|failure| {
        failure::of_statement(failure).with_advice("who holds a lock is told with the permission VIEW SERVER STATE")
    })?;
    let mut rows = among(all.clone(), resources);
    if doubt(session, &mut rows, resources).await.map_err(failure::of_statement)? {
        return Err(Error::misconfigured(
            "several locks begin with the same 32 characters, and the server does not show more: which session holds this one \
             is not known",
        )
        .with_advice("let names be mapped to shorter ones (names=strict), or end the right session by KILL")
        .no_effect(true));
    }
    let mut asked: Vec<i32> = Vec::new();
    let mut ended: Vec<String> = Vec::new();
    let mut failed = None;
    let mut holders = Vec::new();
    for (kind, found) in rows {
        if !found.granted || kind.is_none() || found.session == session.identity().id {
            continue;
        }
        let others = all.iter().filter(|other| other.granted && other.session == found.session).count() - 1;
        let mut holder = found.holder(kind);
        if others > 0 {
            holder.owner = format!("{}, with {others} other locks that ended too", holder.owner);
        }
        holders.push(holder);
        if asked.contains(&found.session) {
            continue;
        }
        asked.push(found.session);
        match session.rows(&kill(found.session), &[]).await {
            Ok(_) => ended.push(format!("session {}", found.session)),
            // It has ended meanwhile.
            Err(failure) if failure.number() == Some(GONE) => {}
            Err(failure) => {
                let is_end = failure.is_end();
                failed = Some((found.session, failure));
                if is_end {
                    break;
                }
            }
        }
    }
    match failed {
        None => Ok(holders),
        Some((_, failure)) if ended.is_empty() => Err(failure::of_statement(failure).with_advice(TO_END)),
        // Those who have lost their locks are told in any case.
        Some((session, failure)) => Err(Error::unavailable(format!(
            "session {session} could not be ended ({failure}), after {} had been",
            ended.join(", ")
        ))
        .with_advice(TO_END)
        .no_effect(false)),
    }
}

#[cfg(test)]
mod tests {
    use pilotman_testkit_mssql::StandIn;

    use super::*;
    use crate::testing::{connection, get};
    use crate::wire;

    /// As one that has got the number of a session which has ended.
    #[tokio::test]
    async fn a_session_without_locks_is_not_ended() {
        let server = StandIn::start().unwrap();
        let mut other = connection(&server).await;
        let number = server.sessions()[0].id;
        let mut admin = connection(&server).await;
        wire::rows(&mut admin, &kill(number), &[]).await.unwrap();
        assert!(server.sessions().iter().any(|session| session.id == number));
        get(&mut other, "m").await;
        wire::rows(&mut admin, &kill(number), &[]).await.unwrap();
        assert!(server.locks().is_empty(), "{:?}", server.locks());
        assert!(wire::rows(&mut other, "SELECT 1", &[]).await.is_err());
        assert_eq!(server.unknown_statements(), Vec::<String>::new());
    }

    #[test]
    fn a_description_shows_its_resource() {
        for (description, resource) in
            [("0:[a]:(12ab34cd)", "a"), ("0:[a]:(b]:(c)]:(12ab34cd)", "a]:(b]:(c)"), ("odd", "odd"), ("", "")]
        {
            assert_eq!(described(description), resource);
        }
    }

    #[test]
    fn rows_that_make_no_sense_are_left_out() {
        let text = |text: &str| Value::Text(text.to_owned());
        let row = |session: Value| {
            vec![session, text("X"), text("GRANT"), text("0:[a]:(1)"), Value::Null, text("host"), text("")]
        };
        let found = super::found(&row(Value::Big(7))).unwrap();
        assert_eq!((found.session, found.granted, found.owner.as_str()), (7, true, "session 7, from host"));
        for bad in [row(Value::Null), row(Value::Big(i64::MAX)), vec![], vec![Value::Big(1)]] {
            assert!(super::found(&bad).is_none());
        }
    }
}
