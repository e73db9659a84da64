//! How a contest stands.

use pilotman_core::clock::Time;
use pilotman_core::{Vote, Votes};

use super::{Contest, Held, Standing};
use crate::lock::ends;

/// How it looks.
pub(super) enum Look {
    Won,
    /// It can't be won for now; whether somebody else can have it.
    Lost {
        to_another: bool,
    },
    /// Too few nodes can vote.
    Hopeless,
    Open,
}

impl Contest<'_> {
    /// The votes that count now.
    pub(super) fn votes(&self, now: Time) -> impl Iterator<Item = (usize, Held)> {
        let (since, can_check) = (self.quorum.votes_count_from(), self.quorum.can_check());
        self.nodes.iter().enumerate().filter_map(move |(at, node)| {
            let vote = node.vote.filter(|vote| now < ends(vote.from, self.lasts) && vote.from >= since)?;
            let member = &self.quorum.members[at];
            let counts = !node.aside && !member.is_aside(now) && (member.is_checked(now) || !can_check);
            counts.then_some((at, vote))
        })
    }

    pub(super) fn look(&self, now: Time) -> Look {
        let needed = self.lock.needed;
        let won = self.votes(now).count();
        if won >= needed {
            return Look::Won;
        }
        let limit = |at: usize| self.quorum.members[at].node.spec.connect_timeout;
        let waits = self.ticket.is_some();
        let is_bad = |at: usize, node: &Standing| {
            node.error.as_ref().is_some_and(|error| {
                let long = node.failing.is_some_and(|(since, _)| now.since(since) >= limit(at));
                !waits || long || !error.is_retryable()
            })
        };
        let aside = |at: usize| self.nodes[at].aside || self.quorum.members[at].is_aside(now);
        let (mut open, mut bad) = (0, 0);
        for (at, node) in self.nodes.iter().enumerate() {
            if is_bad(at, node) || !waits && node.asking.is_none() && aside(at) {
                bad += 1;
            } else if node.asking.is_some() {
                open += 1;
            }
        }
        if self.nodes.len() - bad < needed {
            return Look::Hopeless;
        }
        if won + open >= needed {
            return Look::Open;
        }
        let holders = || self.nodes.iter().filter_map(|node| node.answered.as_ref()).map(|answered| &answered.holder);
        // What we offer to yield is ours until the node says otherwise: with two who took it for the other one's, both would
        // give up.
        let is_unknown = |node: &&Standing| node.vote.is_none() && node.answered.is_none() && !node.is_offered();
        let unknown = self.nodes.iter().filter(is_unknown).count();
        let to_another = holders().any(|one| {
            // Several readers or permits: they have it.
            one.is_empty() || holders().filter(|other| *other == one).count() + unknown >= needed
        });
        let has_some = self.nodes.iter().any(Standing::has_part);
        Look::Lost { to_another: to_another || !has_some }
    }

    pub(super) fn tally(&self) -> Votes {
        let now = self.quorum.now();
        let vote = |at: usize, node: &Standing| match node {
            Standing { error: Some(error), .. } => Vote::Failed(error.clone()),
            Standing { vote: Some(_), .. } if self.votes(now).any(|(voting, _)| voting == at) => Vote::Granted,
            Standing { vote: Some(_), .. } => Vote::SetAside,
            Standing { answered: Some(_), .. } => Vote::Conflicted,
            _ => Vote::Open,
        };
        let votes =
            self.nodes.iter().enumerate().map(|(at, node)| (self.quorum.members[at].label.clone(), vote(at, node)));
        Votes::new(self.lock.needed, votes)
    }

    pub(super) fn remember(&self) {
        self.lock.set_refusal(Some(self.tally()));
    }
}
