//! Who holds what, as a quorum of the nodes sees it; and breaking locks.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Result, Target, Vote, Votes};
use redis::Value;

use super::lock::QuorumLock;
use super::scripts::Family;
use super::set::{Quorum, no_quorum};
use crate::failure::nonsense;
use crate::inspect::{mutex_holder, shared_holder};
use crate::lock::{Kind, number};
use crate::scripts::Script;
use crate::waiting::asked;

/// What one node told: the holds by what tells them apart, and more.
struct Seen {
    holds: Vec<(String, Holder)>,
    waiters: Option<usize>,
}

/// Runs a script on all nodes; what enough of them said, or an error that says how each one failed.
async fn everywhere(
    quorum: &Arc<Quorum>,
    lock: &QuorumLock,
    script: impl Fn(&'static Family) -> &'static Script,
    arguments: impl Fn(usize) -> Vec<String>,
) -> Result<Vec<Value>> {
    let script = script(lock.family());
    let answers = (0..quorum.members.len()).map(|at| {
        let arguments = arguments(at);
        async move {
            let node = &quorum.members[at].node;
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let work = async {
                let answer = node.run(script, lock.keys[at].slot, &lock.keys(at), &arguments).await?;
                node.confirm(&answer.live).await?;
                Ok(answer.value)
            };
            asked(node, work).await
        }
    });
    let mut votes = Vec::new();
    let mut values = Vec::new();
    for (member, answer) in quorum.members.iter().zip(join_all(answers).await) {
        votes.push((
            member.label.clone(),
            match answer {
                Ok(value) => {
                    values.push(value);
                    Vote::Granted
                }
                Err(error) => Vote::Failed(error),
            },
        ));
    }
    match values.len() >= quorum.majority() {
        true => Ok(values),
        false => Err(no_quorum(Votes::new(quorum.majority(), votes))),
    }
}

fn read_hold(kind: Kind, hold: &Value) -> Option<(String, Holder)> {
    let Value::Array(parts) = hold else { return None };
    let [Value::BulkString(name), left, Value::BulkString(details)] = &parts[..] else { return None };
    let name = String::from_utf8_lossy(name).into_owned();
    let holder = match kind {
        Kind::Mutex => {
            // As the single node's scripts have it: one text with all of it.
            let details = String::from_utf8_lossy(details);
            let value = match details.split_once(':') {
                Some((token, owner)) => format!("{name}:{token}:0:{owner}"),
                None => name.clone(),
            };
            mutex_holder(&Value::BulkString(value.into_bytes()), left)??
        }
        Kind::Shared { .. } => shared_holder(hold)?,
    };
    Some((name, holder))
}

fn read(kind: Kind, value: &Value) -> Option<Seen> {
    let Value::Array(parts) = value else { return None };
    let [Value::Array(holds), waiters] = &parts[..] else { return None };
    Some(Seen {
        holds: holds.iter().map(|hold| read_hold(kind, hold)).collect::<Option<_>>()?,
        waiters: usize::try_from(number(waiters)?).ok(),
    })
}

/// Those that enough nodes know, and of each what is known best: the longest time, the largest token.
fn with_quorum(needed: usize, seen: impl IntoIterator<Item = (String, Holder)>) -> Vec<Holder> {
    let mut holders: BTreeMap<String, Vec<Holder>> = BTreeMap::new();
    for (name, holder) in seen {
        holders.entry(name).or_default().push(holder);
    }
    let mut found = Vec::new();
    for mut known in holders.into_values().filter(|known| known.len() >= needed) {
        let mut left: Vec<_> = known.iter().filter_map(|holder| holder.remaining).collect();
        // Until then it has a quorum.
        left.sort_unstable_by(|a, b| b.cmp(a));
        let token = known.iter().filter_map(|holder| holder.token).max();
        let since = known.iter().filter_map(|holder| holder.since).min();
        let Some(mut holder) = known.pop() else { continue };
        holder.remaining = left.get(needed - 1).copied();
        holder.token = token;
        holder.since = since;
        found.push(holder);
    }
    found
}

/// Those who hold a lock, and how many wait for it.
async fn holders(quorum: &Arc<Quorum>, lock: &QuorumLock) -> Result<(Vec<Holder>, Option<usize>)> {
    let values = everywhere(quorum, lock, |family| &family.inspect, |_| vec!["0".to_owned()]).await?;
    let (mut holds, mut waiters) = (Vec::new(), None);
    for value in &values {
        let seen = read(lock.kind, value).ok_or_else(|| nonsense("an inspection", value))?;
        waiters = waiters.max(seen.waiters);
        holds.extend(seen.holds);
    }
    Ok((with_quorum(lock.needed.min(values.len()), holds), waiters))
}

/// Who holds a lock.
pub(super) async fn inspect(quorum: &Arc<Quorum>, lock: &QuorumLock, target: &Target) -> Result<Inspection> {
    let (holders, waiters) = holders(quorum, lock).await?;
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical.clone_from(&lock.keys[0].lock);
    inspection.waiters = waiters;
    inspection.token = holders.iter().filter_map(|holder| holder.token).max();
    inspection.holders = holders;
    Ok(inspection)
}

/// Breaks a lock on all nodes.
pub(super) async fn force_release(quorum: &Arc<Quorum>, lock: &QuorumLock) -> Result<Vec<Holder>> {
    // Those that it is taken from are told by the first nodes and may give it back on the others themselves.
    let holders = holders(quorum, lock).await?.0;
    let proposed = quorum.estimate().to_string();
    let arguments = |at: usize| {
        let publish = quorum.members[at].node.publish().to_owned();
        vec![proposed.clone(), publish, lock.keys[at].channels.clone()]
    };
    let values = everywhere(quorum, lock, |family| &family.break_all, arguments).await?;
    for value in &values {
        let Value::Array(broken) = value else { return Err(nonsense("a forced release", value)) };
        if broken.iter().any(|hold| read_hold(lock.kind, hold).is_none()) {
            return Err(nonsense("a forced release", value));
        }
    }
    Ok(holders)
}
