//! A hold on a quorum: which nodes it stands on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pilotman_core::backend::{AttemptId, Events};
use pilotman_core::{LossReason, Vote, Votes};

/// Nodes as bits of a number.
pub(super) type Nodes = u64;

pub(super) fn bit(at: usize) -> Nodes {
    1 << at
}

/// See the [module](self).
pub(super) struct QuorumHold {
    pub(super) id: AttemptId,
    pub(super) token: u64,
    needed: usize,
    /// By each node's clock, in ms: what it said before then may be undone by a question of ours that is still on its way.
    taints: Vec<u64>,
    state: Mutex<State>,
    registry: Lost,
}

struct State {
    /// The nodes that voted for it, and those that were found ours together with a quorum of these.
    counted: Nodes,
    /// Nodes that said that it was broken there.
    lost: Nodes,
    /// Nodes that are being filled up.
    filling: Nodes,
    /// Nodes in whose queues it may stand.
    stands: Nodes,
    /// Given back, or gone.
    ended: bool,
    votes: Vec<Vote>,
    /// The number of the last question.
    number: u64,
}

/// How a hold begins.
pub(super) struct Begun {
    /// The nodes that voted for it.
    pub(super) counted: Nodes,
    /// Nodes in whose queues it may stand.
    pub(super) stands: Nodes,
    pub(super) votes: Vec<Vote>,
    pub(super) taints: Vec<u64>,
    /// The number of the last question.
    pub(super) number: u64,
}

/// How a node answered a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Mine,
    Gone,
}

/// One round of renewals, as it comes in.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Round {
    mine: Nodes,
    gone: Nodes,
    /// Nodes whose answer may be undone by an earlier question of ours that is still on its way.
    tainted: Nodes,
    succeeded: bool,
}

impl Round {
    /// The nodes that said that it isn't ours there.
    pub(super) fn not_ours(&self, nodes: usize) -> impl Iterator<Item = usize> {
        let gone = self.gone & !self.mine;
        (0..nodes).filter(move |at| gone & bit(*at) != 0)
    }
}

/// What a round has come to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A quorum of the counted nodes is ours.
    Kept,
    /// No quorum of the counted nodes can be ours any more.
    Lost,
    Open,
}

impl QuorumHold {
    pub(super) fn new(id: AttemptId, token: u64, needed: usize, begun: Begun, registry: &Lost) -> Arc<Self> {
        let Begun { counted, stands, votes, taints, number } = begun;
        let state = State { counted, lost: 0, filling: 0, stands, ended: false, votes, number };
        let hold = Arc::new(Self { id, token, needed, taints, state: Mutex::new(state), registry: registry.clone() });
        registry.holds().insert(id, Arc::downgrade(&hold));
        hold
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node answered in a round.
    pub(super) fn hear(&self, round: &mut Round, at: usize, found: Found, node_time: u64) -> Standing {
        let mut state = self.state();
        match found {
            Found::Mine => {
                round.mine |= bit(at);
                if node_time <= self.taints[at] {
                    round.tainted |= bit(at);
                }
                state.votes[at] = Vote::Granted;
            }
            Found::Gone => {
                round.gone |= bit(at);
                // It counts again once it has been filled up and found ours.
                state.counted &= !bit(at);
                state.votes[at] = Vote::Conflicted;
            }
        }
        let count = |nodes: Nodes| nodes.count_ones() as usize;
        if count(state.counted & round.mine) >= self.needed {
            // What is ours as well, together with a quorum, is as good from now on. What was just taken is not: others may
            // have come and gone there before.
            state.counted |= round.mine & !round.tainted;
            round.succeeded = true;
            return Standing::Kept;
        }
        if count(state.counted) < self.needed {
            return Standing::Lost;
        }
        Standing::Open
    }

    /// A node could not be asked.
    pub(super) fn miss(&self, at: usize, error: &pilotman_core::Error) {
        self.state().votes[at] = Vote::Failed(error.clone());
    }

    /// Whether this node is to be filled up now, and by which number. Once at a time.
    pub(super) fn begin_to_fill(&self, round: &Round, at: usize) -> Option<u64> {
        let mut state = self.state();
        if !round.succeeded || round.mine & bit(at) != 0 || state.filling & bit(at) != 0 || state.ended {
            return None;
        }
        state.filling |= bit(at);
        state.stands |= bit(at);
        state.number += 1;
        Some(state.number)
    }

    pub(super) fn filled(&self, at: usize) {
        self.state().filling &= !bit(at);
    }

    /// The nodes where something of it may be.
    pub(super) fn touched(&self) -> Nodes {
        let state = self.state();
        let nothing = |vote: &Vote| match vote {
            Vote::Conflicted => true,
            Vote::Failed(error) => error.has_no_effect(),
            _ => false,
        };
        let answered = (0..state.votes.len()).filter(|at| !nothing(&state.votes[*at])).fold(0, |all, at| all | bit(at));
        state.counted | state.stands | answered
    }

    /// A late answer to the questions of the acquire. One that grants is a vote like those that came in time: others could not
    /// have had a quorum with it meanwhile.
    pub(super) fn late(&self, at: usize, vote: Vote, node_time: u64) {
        let mut state = self.state();
        if matches!(vote, Vote::Granted) && node_time > self.taints[at] {
            state.counted |= bit(at);
        }
        state.votes[at] = vote;
    }

    /// In whose queues it may stand.
    pub(super) fn end(&self) -> Nodes {
        let mut state = self.state();
        state.ended = true;
        state.stands
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state().ended
    }

    pub(super) fn votes(&self, labels: impl Iterator<Item = String>) -> Votes {
        Votes::new(self.needed, labels.zip(self.state().votes.iter().cloned()))
    }
}

impl Drop for QuorumHold {
    fn drop(&mut self) {
        self.registry.holds().remove(&self.id);
    }
}

/// Takes word of broken holds, and tells of those that have lost their quorum.
#[derive(Clone)]
pub(super) struct Lost(Arc<Registry>);

struct Registry {
    holds: Mutex<HashMap<AttemptId, Weak<QuorumHold>>>,
    events: Mutex<Option<Events>>,
}

impl Lost {
    pub(super) fn new() -> Self {
        Self(Arc::new(Registry { holds: Mutex::default(), events: Mutex::new(None) }))
    }

    pub(super) fn report_to(&self, events: Events) {
        *self.0.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<AttemptId, Weak<QuorumHold>>> {
        self.0.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node says that a hold was broken there.
    pub(super) fn reported(&self, at: usize, id: AttemptId) {
        let Some(hold) = self.holds().get(&id).and_then(Weak::upgrade) else { return };
        let is_lost = {
            let mut state = hold.state();
            state.lost |= bit(at);
            (state.counted & !state.lost).count_ones() < hold.needed as u32
        };
        let events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (true, Some(events)) = (is_lost, events) {
            events.lost(id, LossReason::Gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(counted: &[usize], nodes: usize) -> Arc<QuorumHold> {
        let counted = counted.iter().map(|at| bit(*at)).sum();
        let begun = Begun { counted, stands: 0, votes: vec![Vote::Open; nodes], taints: vec![0; nodes], number: 0 };
        QuorumHold::new(AttemptId(1), 1, nodes / 2 + 1, begun, &Lost::new())
    }

    #[test]
    fn a_round_needs_a_quorum_of_those_that_voted() {
        let hold = hold(&[0, 1], 3);
        let mut round = Round::default();
        assert_eq!(hold.hear(&mut round, 2, Found::Mine, 1), Standing::Open);
        assert_eq!(hold.hear(&mut round, 0, Found::Mine, 1), Standing::Open, "2 has not voted for it");
        assert_eq!(
            hold.hear(&mut round, 1, Found::Gone, 1),
            Standing::Lost,
            "2 may have been taken after others had it"
        );
    }

    #[test]
    fn what_is_ours_with_a_quorum_counts_from_then_on() {
        let hold = hold(&[0, 1], 3);
        let mut round = Round::default();
        hold.hear(&mut round, 0, Found::Mine, 1);
        assert_eq!(hold.hear(&mut round, 1, Found::Mine, 1), Standing::Kept);
        assert_eq!(hold.begin_to_fill(&round, 2), Some(1));
        assert_eq!(hold.begin_to_fill(&round, 2), None, "once at a time");
        assert_eq!(hold.hear(&mut round, 2, Found::Mine, 1), Standing::Kept);
        let mut round = Round::default();
        assert_eq!(hold.hear(&mut round, 1, Found::Gone, 1), Standing::Open);
        assert_eq!(hold.hear(&mut round, 0, Found::Mine, 1), Standing::Open);
        assert_eq!(hold.hear(&mut round, 2, Found::Mine, 1), Standing::Kept);
    }

    #[test]
    fn nothing_is_filled_up_without_a_quorum_or_after_the_end() {
        let hold = hold(&[0, 1], 3);
        let mut round = Round::default();
        hold.hear(&mut round, 0, Found::Mine, 1);
        assert_eq!(hold.begin_to_fill(&round, 2), None);
        hold.hear(&mut round, 1, Found::Mine, 1);
        hold.end();
        assert_eq!(hold.begin_to_fill(&round, 2), None);
    }

    #[test]
    fn a_majority_of_breaks_is_a_loss() {
        let hold = hold(&[0, 1, 2], 3);
        let registry = hold.registry.clone();
        registry.reported(0, AttemptId(1));
        assert_eq!(hold.state().lost, 1);
        registry.reported(1, AttemptId(1));
        assert_eq!(hold.state().lost, 3);
        drop(hold);
        assert!(registry.holds().is_empty());
    }
}
