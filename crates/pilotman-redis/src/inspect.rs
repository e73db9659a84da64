//! Who holds what, and breaking locks.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, Name, Primitive, Result, Target};
use redis::Value;

use crate::failure::nonsense;
use crate::lock::{Kind, RedisLock, number};
use crate::node::Node;
use crate::push::parse_id;
use crate::waiting::asked;
use crate::{process, scripts};

/// Keys that one step of a listing looks at.
const STEP: u32 = 1000;

/// Who holds a lock.
pub(crate) async fn inspect(node: &Arc<Node>, lock: RedisLock, target: &Target) -> Result<Inspection> {
    let mut inspection = look(node, &lock).await?;
    inspection.name = Some(target.name.as_str().to_owned());
    Ok(inspection)
}

async fn look(node: &Arc<Node>, lock: &RedisLock) -> Result<Inspection> {
    let script = match lock.kind {
        Kind::Mutex => &scripts::MUTEX_INSPECT,
        Kind::Shared { .. } => &scripts::SHARED_INSPECT,
    };
    let answer = lock.run(node, script, &[]).await?;
    read(&lock.kind, &answer.value, &lock.keys.lock).ok_or_else(|| nonsense("an inspection", &answer.value))
}

fn read(kind: &Kind, value: &Value, physical: &str) -> Option<Inspection> {
    let Value::Array(parts) = value else { return None };
    let mut inspection = Inspection::default();
    inspection.physical = physical.to_owned();
    let (waiters, holders) = match (kind, &parts[..]) {
        (Kind::Mutex, [value, left, waiters, now]) => {
            number(now)?;
            (waiters, mutex_holder(value, left)?.into_iter().collect())
        }
        (Kind::Shared { .. }, [Value::Array(holds), waiters, now]) => {
            number(now)?;
            (waiters, holds.iter().map(shared_holder).collect::<Option<Vec<_>>>()?)
        }
        _ => return None,
    };
    inspection.waiters = usize::try_from(number(waiters)?).ok();
    inspection.token = holders.iter().filter_map(|holder| holder.token).max();
    inspection.holders = holders;
    Some(inspection)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

fn remaining(left: &Value) -> Option<Option<Duration>> {
    match left {
        Value::Int(left) => Some(u64::try_from(*left).ok().map(Duration::from_millis)),
        _ => None,
    }
}

/// A token is made of the time, unless the clock went back meanwhile.
fn since(token: u64) -> Option<SystemTime> {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(token))?;
    (at <= SystemTime::now()).then_some(at)
}

fn holder(owner: &str, id: &str, primitive: &'static str, remaining: Option<Duration>, token: Option<u64>) -> Holder {
    let public = parse_id(id).map(|id| format!(" ({})", id.public())).unwrap_or_default();
    let mut holder = Holder::default();
    holder.owner = format!("{}{public}", process::shown(owner));
    holder.primitive = Some(primitive);
    holder.remaining = remaining;
    holder.token = token.filter(|token| *token > 0);
    holder.since = holder.token.and_then(since);
    holder
}

/// The holder of a mutex: outer `None` if the answer makes no sense, inner if nobody has it.
pub(crate) fn mutex_holder(value: &Value, left: &Value) -> Option<Option<Holder>> {
    let value = text(value)?;
    if value.is_empty() {
        return Some(None);
    }
    let remaining = remaining(left)?;
    let mut parts = value.splitn(5, ':');
    if let (Some("pm" | "pq"), Some(id), Some(token), Some(_), Some(owner)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    {
        return Some(Some(holder(owner, &format!("pm:{id}"), "mutex", remaining, token.parse().ok())));
    }
    // Of another program. Its value may be what allows a release, so only the beginning is shown.
    let begin: String = value.chars().take(8).flat_map(char::escape_debug).collect();
    let mut other = Holder::default();
    other.owner = format!("another program ({begin}…)");
    other.primitive = Some("mutex");
    other.remaining = remaining;
    Some(Some(other))
}

pub(crate) fn shared_holder(hold: &Value) -> Option<Holder> {
    let Value::Array(parts) = hold else { return None };
    let [member, left, details] = &parts[..] else { return None };
    let (member, details) = (text(member)?, text(details)?);
    let (mode, id) = member.split_once(':')?;
    let primitive = match mode {
        "r" => Primitive::Read.as_str(),
        "w" => Primitive::Write.as_str(),
        _ => Primitive::Permit(NonZeroU32::MIN).as_str(),
    };
    let (token, owner) = details.split_once(':')?;
    Some(holder(owner, id, primitive, remaining(left)?, token.parse().ok()))
}

/// Breaks a lock.
pub(crate) async fn force_release(node: &Arc<Node>, lock: RedisLock) -> Result<Vec<Holder>> {
    let script = match lock.kind {
        Kind::Mutex => &scripts::MUTEX_BREAK,
        Kind::Shared { .. } => &scripts::SHARED_BREAK,
    };
    let answer = lock.run(node, script, &[node.publish(), &lock.keys.channels]).await?;
    node.confirm(&answer.live).await?;
    let broken = match (lock.kind, &answer.value) {
        (Kind::Mutex, Value::Int(0)) => Some(Vec::new()),
        (Kind::Mutex, Value::Array(parts)) => match &parts[..] {
            [value, left] => mutex_holder(value, left).map(|holder| holder.into_iter().collect()),
            _ => None,
        },
        (Kind::Shared { .. }, Value::Array(holds)) => holds.iter().map(shared_holder).collect(),
        _ => None,
    };
    broken.ok_or_else(|| nonsense("a forced release", &answer.value))
}

/// All locks that somebody holds, found by looking through all keys with the format's prefix.
pub(crate) async fn list(node: &Arc<Node>) -> Result<Vec<Inspection>> {
    if node.spec.is_clustered() {
        return Err(Error::unsupported("the locks of a Redis Cluster can't be listed"));
    }
    let format = &node.spec.key_format;
    let (rw, semaphore) = (format!("{}rw:", format.own()), format!("{}semaphore:", format.own()));
    let mut found = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(format.pattern()).arg("COUNT").arg(STEP);
        let answer = asked(node, node.command(&scan)).await?;
        let Value::Array(parts) = &answer else { return Err(nonsense("SCAN", &answer)) };
        let [Value::BulkString(next), Value::Array(keys)] = &parts[..] else { return Err(nonsense("SCAN", &answer)) };
        for key in keys.iter().filter_map(text) {
            let inspection = if key.starts_with(&rw) || key.starts_with(&semaphore) {
                of_shared(node, &key, &rw).await?
            } else if let Some(name) = format.name_of(&key) {
                of_string(node, &key, name).await?
            } else {
                None
            };
            found.extend(inspection);
        }
        if next == b"0" {
            break;
        }
        cursor.clone_from(next);
    }
    // A key that moved within the table during the scan is told twice.
    found.sort_by(|a: &Inspection, b| a.physical.cmp(&b.physical));
    found.dedup_by(|a, b| a.physical == b.physical);
    Ok(found)
}

/// The mutex of a key, if it is one of ours: any other string may be anything.
async fn of_string(node: &Arc<Node>, key: &str, name: String) -> Result<Option<Inspection>> {
    let mut kind = redis::cmd("TYPE");
    kind.arg(key);
    if asked(node, node.command(&kind)).await? != Value::SimpleString("string".to_owned()) {
        return Ok(None);
    }
    let mut get = redis::cmd("GETRANGE");
    get.arg(key).arg(0).arg(2);
    match asked(node, node.command(&get)).await? {
        Value::BulkString(begin) if begin == b"pm:" => {}
        // Another program's.
        _ => return Ok(None),
    }
    let target = Target { name: Name::new(name.as_str())?, primitive: Primitive::Mutex };
    let lock = RedisLock::new(&node.spec.key_format, false, &target);
    let inspection = asked(node, inspect(node, lock, &target)).await?;
    Ok((!inspection.holders.is_empty()).then_some(inspection))
}

async fn of_shared(node: &Arc<Node>, key: &str, rw: &str) -> Result<Option<Inspection>> {
    // The name, as far as it can be told from the key.
    let (_, tagged) = key.split_at(key.find('{').unwrap_or(0));
    let name = match tagged.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => Some(name),
        None => tagged.split_once("}:").map(|(_, name)| name),
    };
    let Some(name) = name.and_then(|key| node.spec.key_format.name_of(key)) else { return Ok(None) };
    let primitive = if key.starts_with(rw) { Primitive::Write } else { Primitive::Permit(NonZeroU32::MIN) };
    let target = Target { name: Name::new(name.as_str())?, primitive };
    let lock = RedisLock::new(&node.spec.key_format, false, &target);
    if lock.keys.lock != key {
        return Ok(None);
    }
    let inspection = asked(node, inspect(node, lock, &target)).await?;
    Ok((!inspection.holders.is_empty()).then_some(inspection))
}
