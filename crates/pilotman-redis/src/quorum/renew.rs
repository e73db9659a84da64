//! Renewing: all nodes at once, many holds in one script, and an answer as soon as a quorum has said so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{Holding, Renewal};
use pilotman_core::clock::Time;
use pilotman_core::{Error, LossReason, Result};
use redis::Value;
use tokio::sync::Notify;

use super::hold::{Found, QuorumHold, Round, Standing};
use super::lock::node_millis;
use super::lock::{QuorumLock, lease};
use super::release;
use super::set::Quorum;
use crate::failure::nonsense;
use crate::lock::{Kind, millis};
use crate::waiting::{OPERATION, within};

/// As many holds are renewed by one script at most: it must not keep others from the server for long.
const BATCH: usize = 128;

/// A round of renewals under way.
struct Under {
    holds: Vec<Arc<Holding>>,
    rounds: Mutex<Vec<(Round, Standing)>>,
    /// So many holds are not decided yet, and so many nodes have not answered for all.
    changed: Notify,
    sent: Time,
}

fn hold_of(holding: &Holding) -> Option<&Arc<QuorumHold>> {
    holding.state::<Arc<QuorumHold>>()
}

impl Under {
    fn rounds(&self) -> MutexGuard<'_, Vec<(Round, Standing)>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews holds on all nodes.
pub(super) async fn renew(quorum: &Arc<Quorum>, holds: &[Arc<Holding>]) -> Vec<Result<Renewal>> {
    let Some(first) = holds.first() else { return Vec::new() };
    let limit = OPERATION.min(lease(&first.attempt) / 6) * 3 / 4;
    let under = Arc::new(Under {
        holds: holds.to_vec(),
        rounds: Mutex::new(vec![(Round::default(), Standing::Open); holds.len()]),
        changed: Notify::new(),
        sent: quorum.now(),
    });
    // Tasks of their own: a node that hangs holds up no answer, and a late answer still counts for the next round.
    let nodes = Arc::new(Mutex::new(quorum.members.len()));
    for at in 0..quorum.members.len() {
        let (asking, round, nodes) = (quorum.clone(), under.clone(), nodes.clone());
        quorum.background.run(async move {
            on_node(&asking, at, &round, limit).await;
            *nodes.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            round.changed.notify_one();
        });
        quorum.keep_in_use(at);
    }
    let decided = async {
        loop {
            let changed = under.changed.notified();
            let open = under.rounds().iter().any(|(_, standing)| *standing == Standing::Open);
            if !open || *nodes.lock().unwrap_or_else(PoisonError::into_inner) == 0 {
                return Ok(());
            }
            changed.await;
        }
    };
    // Whatever is open then is answered with an error.
    let _ = within(&quorum.members[0].node, limit + Duration::from_millis(20), decided).await;
    let rounds = under.rounds().clone();
    holds.iter().zip(rounds).map(|(holding, (_, standing))| answer(quorum, holding, standing, under.sent)).collect()
}

fn answer(quorum: &Arc<Quorum>, holding: &Arc<Holding>, standing: Standing, sent: Time) -> Result<Renewal> {
    let Some(hold) = hold_of(holding) else { return Err(nonsense("a renewal", &Value::Nil)) };
    match standing {
        Standing::Kept => Ok(Renewal::Renewed { valid_from: Some(sent) }),
        Standing::Lost => {
            // What is left of it is in the way of others.
            release::in_background(quorum, &holding.attempt, super::hold::Nodes::MAX, hold.end() != 0);
            Ok(Renewal::Gone(LossReason::Gone))
        }
        Standing::Open => {
            let votes = hold.votes(quorum.members.iter().map(|member| member.label.clone()));
            Err(Error::unavailable("too few nodes have renewed the lease").with_votes(votes).no_effect(false))
        }
    }
}

/// Renews all holds on one node.
async fn on_node(quorum: &Arc<Quorum>, at: usize, under: &Arc<Under>, limit: Duration) {
    let node = &quorum.members[at].node;
    let clustered = node.spec.is_clustered();
    let mut groups: BTreeMap<(bool, u16), Vec<usize>> = BTreeMap::new();
    for (nth, holding) in under.holds.iter().enumerate() {
        let lock: &QuorumLock = holding.attempt.spec.prepared();
        let slot = if clustered { lock.keys[at].slot } else { 0 };
        groups.entry((lock.kind == Kind::Mutex, slot)).or_default().push(nth);
    }
    let batches = groups.values().flat_map(|group| group.chunks(BATCH));
    let renewals = batches.map(|batch| async move {
        let result = within(node, limit, renew_batch(quorum, at, under, batch)).await;
        match result {
            Ok((found, node_time)) => hear(quorum, at, under, batch, &found, node_time),
            Err(error) => {
                for hold in batch.iter().filter_map(|nth| hold_of(&under.holds[*nth])) {
                    hold.miss(at, &error);
                }
                tracing::debug!(%error, server = quorum.members[at].label, "a node did not renew");
            }
        }
    });
    futures_util::future::join_all(renewals).await;
}

async fn renew_batch(quorum: &Arc<Quorum>, at: usize, under: &Under, batch: &[usize]) -> Result<(Vec<Found>, u64)> {
    let Some(first) = batch.first().map(|nth| &under.holds[*nth].attempt) else { return Ok((Vec::new(), 0)) };
    let (node, family) = (&quorum.members[at].node, first.spec.prepared::<QuorumLock>().family());
    let lease = millis(lease(first)).to_string();
    let mut members = Vec::with_capacity(batch.len());
    let mut keys = Vec::with_capacity(2 * batch.len());
    for nth in batch {
        let attempt = &under.holds[*nth].attempt;
        let lock: &QuorumLock = attempt.spec.prepared();
        members.push(lock.member(attempt.id));
        keys.push(lock.keys[at].lock.as_str());
        if lock.kind != Kind::Mutex {
            keys.push(lock.keys[at].details.as_str());
        }
    }
    let arguments: Vec<&str> = std::iter::once(lease.as_str()).chain(members.iter().map(String::as_str)).collect();
    let slot = first.spec.prepared::<QuorumLock>().keys[at].slot;
    let sent = quorum.now();
    quorum.connected(at).await?;
    let answer = node.run(family.renew, slot, &keys, &arguments).await?;
    let Value::Array(parts) = &answer.value else { return Err(nonsense("a renewal", &answer.value)) };
    if parts.len() != batch.len() + 2 {
        return Err(nonsense("a renewal", &answer.value));
    }
    if !node.spec.is_clustered() {
        quorum.members[at].read_clock(&parts[0], &parts[1], sent);
    }
    node.read_current_clock(&parts[..2], sent);
    node.confirm(&answer.live).await?;
    let found = parts[2..].iter().map(|found| if *found == Value::Int(1) { Found::Mine } else { Found::Gone });
    Ok((found.collect(), node_millis(&parts[0], &parts[1])))
}

/// Counts what a node said, and fills up on nodes where it isn't ours.
fn hear(quorum: &Arc<Quorum>, at: usize, under: &Arc<Under>, batch: &[usize], found: &[Found], node_time: u64) {
    let mut rounds = under.rounds();
    let mut decided = false;
    for (nth, found) in batch.iter().zip(found) {
        let holding = &under.holds[*nth];
        let Some(hold) = hold_of(holding) else { continue };
        let (round, standing) = &mut rounds[*nth];
        let before = *standing;
        let now = hold.hear(round, at, *found, node_time);
        if before == Standing::Open && now != Standing::Open {
            *standing = now;
            decided = true;
        }
        // A quorum may have been known before this node answered, or is known now and others answered before.
        if *standing == Standing::Kept {
            fill_up(quorum, holding, hold, round);
        }
    }
    drop(rounds);
    if decided {
        under.changed.notify_one();
    }
}

fn fill_up(quorum: &Arc<Quorum>, holding: &Arc<Holding>, hold: &Arc<QuorumHold>, round: &Round) {
    for at in round.not_ours(quorum.members.len()) {
        if !quorum.members[at].node.is_connected() {
            continue;
        }
        let Some(number) = hold.begin_to_fill(round, at) else { continue };
        let (quorum, holding, hold) = (quorum.clone(), holding.clone(), hold.clone());
        let background = quorum.clone();
        background.background.run(async move {
            if let Err(error) = fill(&quorum, &holding, &hold, at, number).await {
                tracing::debug!(%error, server = quorum.members[at].label, "a node was not filled up");
            }
            hold.filled(at);
        });
    }
}

async fn fill(quorum: &Arc<Quorum>, holding: &Holding, hold: &QuorumHold, at: usize, number: u64) -> Result<()> {
    let attempt = &holding.attempt;
    let lock: &QuorumLock = attempt.spec.prepared();
    let node = &quorum.members[at].node;
    let lasts = lease(attempt);
    let work = async {
        for _ in 0..2 {
            let live = quorum.live(at).await?;
            if hold.is_ended() {
                return Ok(());
            }
            let set = quorum.expected(at, &live);
            let (token, number) = (hold.token.to_string(), number.to_string());
            let (member, lease, permits) = (lock.member(attempt.id), millis(lasts).to_string(), lock.permits());
            let entry = lock.entry(at, attempt.id, &quorum.process);
            let proposed = quorum.estimate().to_string();
            let arguments = [
                set.as_str(),
                &proposed,
                &member,
                &quorum.process,
                &lease,
                node.publish(),
                &permits,
                &entry,
                &token,
                &number,
            ];
            let keys = lock.keys(at);
            let answer = node.run(&lock.family().fill, lock.keys[at].slot, &keys, &arguments).await?;
            let elsewhere = matches!(&answer.value, Value::Array(parts) if parts.first() == Some(&Value::Int(-1)));
            if !elsewhere {
                break;
            }
            // It was emptied, say.
            quorum.settle(at).await?;
        }
        Ok(())
    };
    within(node, OPERATION.min(lasts / 6), work).await
}
