//! Entering nodes, and ending the quarantine of nodes that have never been used.

use super::state::{Entering, Nonce, Notes, Seen, State};
use super::{Mutant, Quarantine};

impl Quarantine {
    /// A node that belongs to no set is entered; what was there already stays.
    fn enter(&self, state: &mut State, client: usize, at: usize) {
        let node = &mut state.nodes[at];
        node.look(self.setup.lease);
        if node.notes.is_some() {
            return;
        }
        let quarantined = !self.is(Mutant::NoQuarantine);
        node.notes = Some(Notes {
            nonce: quarantined.then_some(Nonce::By(client as u8)),
            left: if quarantined { self.setup.lease } else { 0 },
            stale: false,
        });
    }

    /// It does at this node what it is about.
    pub(super) fn go_on(&self, state: &mut State, client: usize, at: usize) {
        let own = Some(Nonce::By(client as u8));
        let due = |state: &State| state.nodes.iter().any(|node| node.seen[client] == Seen::Due);
        match state.entering[client] {
            Entering::Idle => {}
            Entering::Asking => {
                self.enter(state, client, at);
                let node = &mut state.nodes[at];
                node.seen[client] = Seen::Same;
                if node.notes.is_some_and(|notes| notes.nonce.is_none()) {
                    return state.stop(client);
                }
                if !due(state) {
                    match self.is(Mutant::LiftsWithoutClaims) {
                        true => state.turn(client, Entering::Lifting),
                        false => state.entering[client] = Entering::Claiming,
                    }
                }
            }
            Entering::Claiming => {
                let node = &mut state.nodes[at];
                node.look(self.setup.lease);
                let is_same = node.seen[client] == Seen::Same || self.is(Mutant::ClaimsAnyNonce);
                node.seen[client] = Seen::Nothing;
                if is_same && node.notes.is_some_and(|notes| notes.nonce.is_some()) {
                    node.set_nonce(own);
                } else if !self.is(Mutant::LiftsWithSomeClaims) {
                    return state.turn(client, Entering::Asking);
                }
                if state.nodes.iter().all(|node| node.seen[client] == Seen::Nothing) {
                    state.turn(client, Entering::Lifting);
                }
            }
            Entering::Lifting => {
                let any = self.is(Mutant::LiftsAnyNonce) || self.is(Mutant::LiftsWithoutClaims);
                let node = &mut state.nodes[at];
                node.look(self.setup.lease);
                node.seen[client] = Seen::Nothing;
                let lifts = |notes: Notes| notes.nonce == own || any && notes.nonce.is_some();
                if node.notes.is_some_and(lifts) {
                    node.set_nonce(None);
                    node.notes.iter_mut().for_each(|notes| notes.left = 0);
                }
                if !due(state) {
                    state.stop(client);
                }
            }
        }
    }
}
