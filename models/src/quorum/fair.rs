//! What becomes of a state if from now on everything is delivered, nothing fails, waiters ask in every tick, and again
//! with yield while they have some votes but not enough, and holders release at once.

use super::state::{Phase, State};
use super::{Act, Action, Mode, Mutant, NODES, Plan, Q, Quorum};
use crate::explore::fingerprint;

/// After so many ticks nothing more is to be expected.
const GIVEN_UP: u8 = 60;
/// More cannot happen within a tick.
const WITHIN_A_TICK: usize = 300;

/// In how many ticks all who waited have had the lock, and in how many nothing is left.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct End {
    pub(super) served: u8,
    pub(super) quiet: u8,
}

impl Quorum {
    /// Follows a state to its end.
    pub(super) fn check_end(&self, state: &State) -> Result<(), String> {
        let mut way = Vec::new();
        let mut state = state.clone();
        let mut ends = self.ends.borrow_mut();
        let mut end = loop {
            let waits = state.clients.iter().any(|client| client.waits());
            let busy =
                state.clients.iter().any(|client| matches!(client.phase, Phase::Wanting | Phase::Holding { .. }));
            if !busy && state.is_silent() && state.is_empty() {
                break End::default();
            }
            let print = fingerprint(&state);
            if let Some(end) = ends.get(&print) {
                break *end;
            }
            if way.len() > usize::from(GIVEN_UP) {
                break End { served: if waits { GIVEN_UP } else { 0 }, quiet: GIVEN_UP };
            }
            way.push((print, waits));
            self.pass_tick(&mut state)?;
        };
        while let Some((print, waits)) = way.pop() {
            end.quiet = (end.quiet + 1).min(GIVEN_UP);
            end.served = if waits { (end.served + 1).min(GIVEN_UP) } else { 0 };
            ends.insert(print, end);
        }
        let mut slowest = self.slowest.borrow_mut();
        slowest.served = slowest.served.max(end.served);
        slowest.quiet = slowest.quiet.max(end.quiet);
        if end.served > self.setup.bound {
            return Err(format!("a waiter has not had the lock {} ticks after the last fault", self.setup.bound));
        }
        if end.quiet > self.setup.bound {
            return Err(format!("something is left {} ticks after the last fault", self.setup.bound));
        }
        Ok(())
    }

    fn pass_tick(&self, state: &mut State) -> Result<(), String> {
        let mut happened = 0;
        // Where a client has yielded in this tick.
        let mut yielded = [[false; NODES]; super::CLIENTS];
        loop {
            let before = happened;
            for (client, yielded) in yielded.iter_mut().enumerate().take(self.setup.plans.len()) {
                while let Some((act, node)) = self.due(state, client, yielded) {
                    self.act(state, Action { client: client as u8, node: node as u8, act, mode: Mode::Prompt })?;
                    happened += 1;
                    if happened > WITHIN_A_TICK {
                        return Err("without end something happens at once".to_owned());
                    }
                }
            }
            if happened == before {
                break;
            }
        }
        self.act(state, Action { client: 0, node: 0, act: Act::Tick, mode: Mode::Prompt })?;
        state.make_canonical();
        Ok(())
    }

    /// What happens next to a client to which nothing bad happens, and at which node.
    fn due(&self, state: &State, number: usize, yielded: &mut [bool; NODES]) -> Option<(Act, usize)> {
        let client = state.get(number);
        let nodes = || state.nodes.iter().enumerate().map(|(at, node)| (at, node, &node.links[number]));
        for (at, _, link) in nodes() {
            if !link.stray.is_empty() {
                return Some((Act::ServeStray, at));
            }
            if !link.out.is_empty() {
                return Some((Act::Serve, at));
            }
            if !link.answers.is_empty() {
                return Some((Act::HearAnswer, at));
            }
            if !link.pushes.is_empty() {
                return Some((Act::HearPush, at));
            }
        }
        match client.phase {
            Phase::Wanting => {
                let ask = nodes().find(|(_, node, link)| !node.down && link.asked > 0 && !link.votes());
                if let Some((at, ..)) = ask {
                    return Some((Act::Ask { yields: false }, at));
                }
                if client.plan == Plan::Try {
                    return Some((Act::GiveUp, 0));
                }
                let ask = nodes().find(|(at, node, link)| !node.down && link.votes() && !yielded[*at]);
                if let Some((at, _, link)) = ask
                    && state.votes(number) < Q
                {
                    yielded[at] = true;
                    if !self.is(Mutant::NoYield) {
                        return Some((Act::Ask { yields: true }, at));
                    }
                    if link.asked > 0 {
                        return Some((Act::Ask { yields: false }, at));
                    }
                }
                None
            }
            Phase::Holding { .. } => Some((Act::Release, 0)),
            _ => None,
        }
    }
}
