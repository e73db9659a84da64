//! Giving back, on all nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pilotman_core::backend::{Attempt, Released};
use pilotman_core::{LossReason, Result, Vote, Votes};
use redis::Value;

use super::hold::{Nodes, bit};
use super::lock::{QuorumLock, lease};
use super::set::{Quorum, no_quorum};
use crate::failure::nonsense;
use crate::waiting::within;

/// The pauses between attempts to give back on a node that does not answer.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// What is given back on one node.
struct Gift {
    quorum: Arc<Quorum>,
    attempt: Attempt,
    at: usize,
    /// It may stand in the queue.
    stands: bool,
    /// The lock is left free for a moment.
    open: bool,
    /// The token that is proposed for the next holder.
    token: String,
}

impl Gift {
    /// Whether the lock was ours on this node.
    async fn give(&self, limit: Duration) -> Result<bool> {
        let lock: &QuorumLock = self.attempt.spec.prepared();
        let (quorum, at) = (&self.quorum, self.at);
        let node = &quorum.members[at].node;
        let member = lock.member(self.attempt.id);
        let entry = self.stands.then(|| lock.entry(at, self.attempt.id, &quorum.process));
        let open = if self.open { "1" } else { "0" };
        let mut arguments = vec![self.token.as_str(), &member, node.publish(), open];
        arguments.extend(entry.as_deref());
        let keys = lock.keys(at);
        let work = async {
            quorum.connected(at).await?;
            node.run(&lock.family().release, lock.keys[at].slot, &keys, &arguments).await
        };
        let answer = within(node, limit, work).await?;
        match answer.value {
            Value::Int(1) => Ok(true),
            // If it was asked before, that may be what took it away.
            Value::Int(0) => Ok(answer.repeated),
            value => Err(nonsense("a release", &value)),
        }
    }

    /// Goes on trying until the lease has ended.
    async fn persist(self, limit: Duration) {
        let until = self.quorum.now().after(lease(&self.attempt));
        let mut pause = RETRY_FIRST;
        while self.quorum.now() < until {
            match self.give(limit).await {
                Ok(_) => return,
                Err(error) if !error.is_retryable() => return,
                Err(error) => tracing::debug!(%error, "a node was not told of a release yet"),
            }
            self.quorum.pause(pause).await;
            pause = (pause * 2).min(RETRY_LONGEST);
        }
    }
}

fn gifts(quorum: &Arc<Quorum>, attempt: &Attempt, stands: Nodes) -> impl Iterator<Item = Gift> {
    let (open, token) = (quorum.leaves_free(), quorum.estimate().to_string());
    let (quorum, attempt) = (quorum.clone(), attempt.clone());
    (0..quorum.members.len()).map(move |at| Gift {
        quorum: quorum.clone(),
        attempt: attempt.clone(),
        at,
        stands: stands & bit(at) != 0,
        open,
        token: token.clone(),
    })
}

/// Gives back on these nodes, without anybody waiting for it.
pub(super) fn in_background(quorum: &Arc<Quorum>, attempt: &Attempt, nodes: Nodes, stood: bool) {
    if nodes == 0 {
        return;
    }
    let limit = crate::waiting::OPERATION.min(lease(attempt) / 6);
    for gift in gifts(quorum, attempt, if stood { Nodes::MAX } else { 0 }) {
        if nodes & bit(gift.at) != 0 {
            quorum.background.run_if_possible(gift.persist(limit));
        }
    }
}

/// Gives a hold back, or whatever an attempt may have left behind. Answers when enough nodes have; the others go on.
pub(super) async fn everywhere(
    quorum: &Arc<Quorum>,
    attempt: &Attempt,
    (touched, stands): (Nodes, Nodes),
    limit: Duration,
) -> Result<Released> {
    let lock: &QuorumLock = attempt.spec.prepared();
    let mut giving: FuturesUnordered<_> = gifts(quorum, attempt, stands)
        .map(|gift| {
            Box::pin(async move {
                let given = gift.give(limit).await;
                (gift, given)
            })
        })
        .collect();
    let (mut was_ours, mut answered) = (0, 0);
    let mut votes: Vec<_> = quorum.members.iter().map(|member| (member.label.clone(), Vote::Open)).collect();
    let mut later = Vec::new();
    while let Some((gift, given)) = giving.next().await {
        match given {
            Ok(ours) => {
                answered += 1;
                was_ours += usize::from(ours);
                votes[gift.at].1 = if ours { Vote::Granted } else { Vote::Conflicted };
            }
            Err(error) => {
                votes[gift.at].1 = Vote::Failed(error.clone());
                if error.is_retryable() && touched & bit(gift.at) != 0 {
                    later.push(gift);
                }
            }
        }
        if was_ours >= lock.needed {
            break;
        }
    }
    let rest = !giving.is_empty() || !later.is_empty();
    if rest {
        quorum.background.run_if_possible(async move {
            while let Some((gift, given)) = giving.next().await {
                if given.is_err_and(|error| error.is_retryable()) && touched & bit(gift.at) != 0 {
                    later.push(gift);
                }
            }
            futures_util::future::join_all(later.into_iter().map(|gift| gift.persist(limit))).await;
        });
    }
    if was_ours >= lock.needed {
        // The queues have given it to whoever was first.
        return Ok(Released::Free { others_wait: false });
    }
    if answered >= lock.needed {
        return Ok(Released::Gone(LossReason::Gone));
    }
    Err(no_quorum(Votes::new(lock.needed, votes)))
}
