//! What becomes of a state if from now on everything is delivered, nothing fails, waiters ask when it is time and holders
//! release at once.

use super::state::{Act, Action, Phase, State};
use super::{HandOff, LEASE, Mutant};
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

impl HandOff {
    /// Follows a state to its end. Where something is due at once it is enough to look at the state after that, which
    /// is reached as well: attempts are finite, so it does not go on for ever.
    pub(super) fn check_end(&self, state: &State) -> Result<(), String> {
        if (0..self.setup.clients).any(|client| self.due(state, client).is_some()) {
            return Ok(());
        }
        let mut way = Vec::new();
        let mut state = state.clone();
        let mut ends = self.ends.borrow_mut();
        let mut end = loop {
            let waits = state.clients.iter().any(|client| client.waits());
            if !waits && is_quiet(&state) {
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
        if end.served > self.setup.bound() {
            return Err(format!("a waiter has not had the lock {} ticks after the last fault", self.setup.bound()));
        }
        if end.quiet > self.setup.bound() + LEASE {
            return Err(format!("something is left {} ticks after the last fault", self.setup.bound() + LEASE));
        }
        Ok(())
    }

    fn pass_tick(&self, state: &mut State) -> Result<(), String> {
        let mut happened = 0;
        loop {
            let before = happened;
            for client in 0..self.setup.clients {
                while let Some(act) = self.due(state, client) {
                    self.act(state, Action { client: client as u8, act })?;
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
        self.act(state, Action { client: 0, act: Act::Tick })?;
        state.make_canonical();
        Ok(())
    }

    /// Whether time may pass where everything is prompt.
    pub(super) fn may_pass(&self, state: &State) -> bool {
        (0..self.setup.clients)
            .all(|client| matches!(self.due(state, client), None | Some(Act::ServeStray | Act::Release)))
    }

    /// What happens next to a client to which nothing bad happens.
    fn due(&self, state: &State, client: usize) -> Option<Act> {
        let client = state.clients.get(client)?;
        if !client.out.is_empty() {
            return Some(Act::Serve);
        }
        if !client.inbox.is_empty() {
            return Some(Act::Hear);
        }
        if !client.back.is_empty() {
            return Some(Act::Return);
        }
        match client.phase {
            Phase::Asking { sent: None, .. } => return Some(Act::Ask),
            // Nothing is under way.
            Phase::Asking { sent: Some(_), .. } => return Some(Act::GiveUp),
            Phase::Listening { sent, .. } if sent > 0 && !self.is(Mutant::NoTimer) => return Some(Act::Ask),
            _ if !client.stray.is_empty() => return Some(Act::ServeStray),
            Phase::Holding { .. } => return Some(Act::Release),
            Phase::Listening { .. } | Phase::Idle | Phase::Dead => {}
        }
        None
    }
}

fn is_quiet(state: &State) -> bool {
    let calm = |client: super::Client| matches!(client.phase, Phase::Idle | Phase::Dead) && client.is_silent();
    state.lock.is_none() && state.queue.iter().all(|entry| entry.left == 0) && state.clients.iter().all(calm)
}
