//! Clients are alike, so states that differ only in who is who are one.
//! Of tokens only their order matters, of tickets their order and which one follows another directly. So both are
//! replaced by ranks, and states that differ in nothing else are one.

use std::hash::{Hash, Hasher};

use super::state::{Id, Message, Phase, State};
use crate::explore::Quick;
use crate::list::List;

impl State {
    fn each(&mut self, mut token: impl FnMut(&mut u8), mut ticket: impl FnMut(&mut u8)) {
        token(&mut self.counter);
        token(&mut self.highest);
        if let Some(lock) = &mut self.lock {
            token(&mut lock.token);
        }
        for entry in self.queue.iter_mut() {
            ticket(&mut entry.ticket);
        }
        for client in self.clients.iter_mut() {
            match &mut client.phase {
                Phase::Asking { mail, .. } => {
                    for (of, with) in mail.granted.iter_mut() {
                        ticket(of);
                        token(with);
                    }
                }
                Phase::Listening { ticket: of, .. } => ticket(of),
                Phase::Idle | Phase::Holding { .. } | Phase::Dead => {}
            }
            for message in client.inbox.iter_mut() {
                match message {
                    Message::Ours { token: with } => token(with),
                    Message::Others { ticket: of } => ticket(of),
                    Message::Granted { ticket: of, token: with, .. } => {
                        ticket(of);
                        token(with);
                    }
                    Message::Renewed | Message::Gone | Message::Free { .. } => {}
                }
            }
        }
    }

    /// The highest ticket that anybody knows of.
    pub(super) fn highest_ticket(&self) -> u8 {
        let mut highest = 0;
        self.clone().each(|_| {}, |ticket| highest = highest.max(*ticket));
        highest
    }

    /// Makes one of all states that differ in nothing that matters.
    pub(super) fn make_canonical(&mut self) {
        self.rank();
        self.sort();
    }

    /// Puts the clients in an order that depends on nothing but what they are like.
    fn sort(&mut self) {
        let mut sorted: List<(u64, u8), 3> = List::default();
        for (number, client) in self.clients.iter().enumerate() {
            let mine = |id: Id| usize::from(id.client) == number;
            let mut print = Quick::default();
            client.hash(&mut print);
            print.write_u8(self.lock.is_some_and(|lock| mine(lock.owner)).into());
            for (at, entry) in self.queue.iter().enumerate().filter(|(_, entry)| mine(entry.id)) {
                (at, entry.id.attempt).hash(&mut print);
            }
            sorted.push((print.finish(), number as u8));
        }
        let in_order = |sorted: &List<(u64, u8), 3>| sorted.iter().zip(sorted.iter().skip(1)).all(|(a, b)| a.0 <= b.0);
        if in_order(&sorted) {
            return;
        }
        let mut order: Vec<_> = sorted.iter().collect();
        order.sort_unstable();
        let (clients, names) = (self.clients, self.names);
        let mut new = [0_u8; 3];
        self.clients = List::default();
        for (to, &(_, from)) in order.iter().enumerate() {
            let from = usize::from(from);
            clients.get(from).into_iter().for_each(|client| self.clients.push(client));
            self.names.0[to] = names.0[from];
            new[from] = to as u8;
        }
        if let Some(lock) = &mut self.lock {
            lock.owner.client = new[usize::from(lock.owner.client)];
        }
        for entry in self.queue.iter_mut() {
            entry.id.client = new[usize::from(entry.id.client)];
        }
    }

    /// Replaces tokens and tickets by their ranks.
    fn rank(&mut self) {
        let (mut tokens, mut tickets) = (0_u64, 0_u64);
        self.each(|token| tokens |= 1 << *token, |ticket| tickets |= 1 << *ticket);
        // A gap stays one, of one number whatever it was.
        let mut ranks = [0_u8; 64];
        let (mut rank, mut before) = (0, None);
        for ticket in (0..64).filter(|ticket| tickets >> ticket & 1 == 1) {
            rank += if before == Some(ticket - 1) { 1 } else { 2 };
            before = Some(ticket);
            ranks[ticket as usize] = rank;
        }
        self.each(
            |token| *token = (tokens & ((1 << *token) - 1)).count_ones() as u8,
            |ticket| *ticket = ranks[usize::from(*ticket)],
        );
    }
}
