//! One fencing token for all nodes, larger than those of all holders before.
//!
//! Each node gives a token that is larger than all that it gave before, and the proposed one where it can; so mostly all
//! give the same. Where they don't, the largest is the token, and before it is told, a quorum of the nodes must have been
//! raised to it while the lock is ours there. Any later quorum has one of those in common, and gets a larger one from it. The
//! largest without raising would not do: it may be that of a node which the next holder never asks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pilotman_core::backend::Attempt;
use pilotman_core::{Error, LossReason, Result};
use redis::Value;

use super::lock::QuorumLock;
use super::set::{Quorum, no_quorum};
use crate::failure::nonsense;
use crate::lock::number;
use crate::waiting::within;

/// The token of votes with these ones; `None` if too few nodes could be raised to it.
pub(super) async fn agree(
    quorum: &Arc<Quorum>,
    attempt: &Attempt,
    given: &[(usize, u64)],
    limit: Duration,
) -> Option<u64> {
    let lock: &QuorumLock = attempt.spec.prepared();
    let token = given.iter().map(|(_, token)| *token).max()?;
    let mut raised = given.iter().filter(|(_, of)| *of == token).count();
    if raised >= lock.needed {
        return Some(token);
    }
    let behind = given.iter().filter(|(_, of)| *of < token).map(|(at, _)| *at);
    let mut raising: FuturesUnordered<_> = behind.map(|at| raise(quorum, lock, attempt, at, token, limit)).collect();
    while let Some(result) = raising.next().await {
        match result {
            Ok(true) => raised += 1,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a node was not raised to a token"),
        }
        if raised >= lock.needed {
            return Some(token);
        }
    }
    None
}

/// Whether the lock is ours on a node, which will then never give a token as small as this one any more.
async fn raise(
    quorum: &Quorum,
    lock: &QuorumLock,
    attempt: &Attempt,
    at: usize,
    token: u64,
    limit: Duration,
) -> Result<bool> {
    let node = &quorum.members[at].node;
    let (member, token) = (lock.member(attempt.id), token.to_string());
    let arguments = ["0", member.as_str(), token.as_str()];
    let keys = lock.keys(at);
    let work = node.run(&lock.family().raise, lock.keys[at].slot, &keys, &arguments);
    let answer = within(node, limit, work).await?;
    node.confirm(&answer.live).await?;
    match answer.value {
        Value::Int(raised) => Ok(raised == 1),
        value => Err(nonsense("a request to raise a token", &value)),
    }
}

/// A new token for a hold that goes on under another holder of this process.
pub(super) async fn next(quorum: &Arc<Quorum>, attempt: &Attempt, limit: Duration) -> Result<u64> {
    let lock: &QuorumLock = attempt.spec.prepared();
    let (member, proposed) = (lock.member(attempt.id), quorum.estimate().to_string());
    let (member, proposed) = (&member, &proposed);
    let mut minting: FuturesUnordered<_> = (0..quorum.members.len())
        .map(|at| async move {
            let node = &quorum.members[at].node;
            let arguments = [proposed.as_str(), member.as_str()];
            let keys = lock.keys(at);
            let work = node.run(&lock.family().mint, lock.keys[at].slot, &keys, &arguments);
            let answer = within(node, limit, work).await;
            let token = match answer {
                Ok(answer) => match (node.confirm(&answer.live).await, number(&answer.value)) {
                    (Err(error), _) => Err(error),
                    (Ok(()), Some(token)) => Ok(token),
                    (Ok(()), None) => Err(nonsense("a request for a token", &answer.value)),
                },
                Err(error) => Err(error),
            };
            (at, token)
        })
        .collect();
    let mut given = Vec::new();
    let mut votes: Vec<_> =
        quorum.members.iter().map(|member| (member.label.clone(), pilotman_core::Vote::Open)).collect();
    let mut gone = 0;
    while let Some((at, token)) = minting.next().await {
        votes[at].1 = match token {
            Ok(0) => {
                gone += 1;
                pilotman_core::Vote::Conflicted
            }
            Ok(token) => {
                given.push((at, token));
                pilotman_core::Vote::Granted
            }
            Err(error) => pilotman_core::Vote::Failed(error),
        };
        if given.len() >= lock.needed {
            break;
        }
    }
    drop(minting);
    if given.len() < lock.needed {
        let lost = gone > quorum.members.len() - lock.needed;
        let votes = pilotman_core::Votes::new(lock.needed, votes);
        return Err(if lost { Error::lost(LossReason::Gone) } else { no_quorum(votes) });
    }
    match agree(quorum, attempt, &given, limit).await {
        Some(token) => Ok(token),
        None => Err(no_quorum(pilotman_core::Votes::new(lock.needed, votes))),
    }
}
