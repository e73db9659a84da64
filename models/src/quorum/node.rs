//! The scripts that a node runs. Each is atomic.

use super::state::{Answer, Entry, Lock, Push, Request, State, Told, What};
use super::{CLIENTS, FIRST, LEASE, Mutant, Plan, Quorum};
use crate::list::List;

/// Who is pushed what.
pub(super) type Pushes = List<(u8, Push), 3>;

/// One script on one node.
struct Script<'a> {
    model: &'a Quorum,
    state: &'a mut State,
    node: usize,
    pushes: Pushes,
}

impl Quorum {
    /// Runs a script: what is answered, and what is pushed.
    pub(super) fn run(
        &self,
        state: &mut State,
        node: usize,
        client: usize,
        request: Request,
    ) -> (Option<Answer>, Pushes) {
        let mut script = Script { model: self, state, node, pushes: List::default() };
        let told = match request.what {
            What::Ask { yields } => Some(script.ask(client, request.seq, yields.then_some(request.rest))),
            What::Renew => Some(Told::Renewed { mine: script.renew(client) }),
            What::Fill => {
                script.fill(client, request.seq);
                None
            }
            What::Release => {
                script.release(client);
                None
            }
        };
        let pushes = script.pushes;
        let answer = told.map(|told| Answer {
            told,
            age: request.age,
            yields: request.what == What::Ask { yields: true },
            safe: state.nodes[node].links[client].taint == Some(0),
            quarantine: self.is_quarantined(state, node),
        });
        (answer, pushes)
    }

    fn is_quarantined(&self, state: &State, node: usize) -> bool {
        state.nodes[node].quarantine > 0
    }
}

impl Script<'_> {
    fn is(&self, mutant: Mutant) -> bool {
        self.model.is(mutant)
    }

    fn lock(&mut self) -> &mut Option<Lock> {
        &mut self.state.nodes[self.node].lock
    }

    fn mine(&mut self, client: usize) -> Option<&mut Lock> {
        self.lock().as_mut().filter(|lock| usize::from(lock.owner) == client)
    }

    fn entry(&mut self, client: usize) -> &mut Option<Entry> {
        &mut self.state.link(self.node, client).entry
    }

    /// The first in the queue whose process listens.
    fn first(&self) -> Option<(usize, Entry)> {
        (0..self.state.clients.len())
            .filter(|client| self.state.get(*client).hears())
            .filter_map(|client| Some((client, self.state.nodes[self.node].links[client].entry?)))
            .min_by_key(|(client, entry)| (entry.ticket, *client))
    }

    /// The ticket with which a client stands in the queue.
    fn ticket(&mut self, client: usize) -> u8 {
        if !self.is(Mutant::OwnTickets) {
            return self.state.get(client).ticket;
        }
        let node = &self.state.nodes[self.node];
        let last = (0..CLIENTS).filter_map(|client| node.links[client].entry).map(|entry| entry.ticket).max();
        last.max(node.lock.map(|lock| lock.ticket)).unwrap_or(0) + 1
    }

    fn stand(&mut self, client: usize, ticket: u8, place: u8) {
        *self.entry(client) = Some(Entry { ticket, place, left: FIRST });
    }

    /// The lock goes to the first in the queue.
    fn advance(&mut self) {
        if self.lock().is_some() {
            return;
        }
        let Some((client, Entry { ticket, place, .. })) = self.first() else { return };
        let quarantine = self.model.is_quarantined(self.state, self.node) && !self.is(Mutant::PushHidesQuarantine);
        self.pushes.push((client as u8, Push { place, quarantine }));
        *self.entry(client) = None;
        let ticket = if self.is(Mutant::OwnTickets) { ticket } else { 0 };
        *self.lock() = Some(Lock { owner: client as u8, left: FIRST, ticket });
    }

    fn ask(&mut self, client: usize, seq: u8, yields: Option<u8>) -> Told {
        let waits = self.state.get(client).plan == Plan::Wait;
        let given = if waits { FIRST } else { LEASE };
        if let Some(lock) = self.mine(client).copied() {
            let ticket = if self.is(Mutant::OwnTickets) { lock.ticket } else { self.state.get(client).ticket };
            let earlier = self.first().is_some_and(|(_, entry)| entry.ticket < ticket);
            let obeys = yields.is_some_and(|rest| rest > 0 || self.is(Mutant::YieldsLate));
            if !(obeys && earlier && waits) {
                let shortens = self.is(Mutant::Shortens);
                let lock = Lock { left: if shortens { given } else { lock.left.max(given) }, ..lock };
                *self.lock() = Some(lock);
                *self.entry(client) = None;
                return Told::Ours;
            }
            *self.lock() = None;
            let ticket = self.ticket(client);
            self.stand(client, ticket, seq);
            self.advance();
        } else if waits {
            let entry = *self.entry(client);
            let ticket = entry.map_or_else(|| self.ticket(client), |entry| entry.ticket);
            self.stand(client, ticket, entry.map_or(seq, |entry| entry.place));
            self.advance();
        }
        if self.mine(client).is_some() {
            return Told::Ours;
        }
        if self.lock().is_none() && self.first().is_none() {
            *self.lock() = Some(Lock { owner: client as u8, left: given, ticket: 0 });
            *self.entry(client) = None;
            return Told::Ours;
        }
        Told::Others { place: self.entry(client).map_or(0, |entry| entry.place) }
    }

    fn renew(&mut self, client: usize) -> bool {
        if let Some(lock) = self.mine(client) {
            lock.left = LEASE;
            return true;
        }
        if self.is(Mutant::RenewalCreates) && self.lock().is_none() {
            *self.lock() = Some(Lock { owner: client as u8, left: LEASE, ticket: 0 });
            return true;
        }
        false
    }

    fn fill(&mut self, client: usize, seq: u8) {
        if self.mine(client).is_some() {
            return;
        }
        *self.entry(client) = None;
        if self.lock().is_none() && self.first().is_none() {
            *self.lock() = Some(Lock { owner: client as u8, left: LEASE, ticket: 0 });
        } else {
            self.stand(client, 0, seq);
        }
    }

    fn release(&mut self, client: usize) {
        *self.entry(client) = None;
        if self.mine(client).is_some() {
            *self.lock() = None;
        }
        self.advance();
    }
}
