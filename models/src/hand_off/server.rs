//! The scripts, line by line as they are in `mutex_acquire.lua`, `mutex_advance.lua`, `mutex_release.lua`,
//! `mutex_renew.lua` and `common.lua`.

use super::state::{Entry, Id, Lock, Message, Request, State, What};
use super::{FIRST, HAND_OFFS, HandOff, LEASE, Mutant, STEP};

impl HandOff {
    /// Runs a script.
    pub(super) fn run(&self, state: &mut State, client: usize, request: Request) {
        let id = Id { client: client as u8, attempt: request.attempt };
        let answer = match request.what {
            What::Acquire => Some(self.acquire(state, id)),
            What::Renew => Some(self.renew(state, id)),
            What::Release | What::Abandon => {
                self.release(state, id, request.what == What::Abandon);
                None
            }
        };
        let client = state.client(client);
        if let Some(answer) = answer
            && request.awaited
            && client.connected
        {
            client.inbox.push(answer);
        }
    }

    fn acquire(&self, state: &mut State, id: Id) -> Message {
        if state.lock.is_none() {
            self.stand(state, id);
            self.advance(state, 0);
            if state.lock.is_none() && place_of(state, id).is_some() {
                leave(state, id);
                return self.take(state, id);
            }
        }
        if let Some(lock) = &mut state.lock
            && lock.owner == id
        {
            lock.left = LEASE;
            let token = lock.token;
            leave(state, id);
            return Message::Ours { token };
        }
        Message::Others { ticket: self.stand(state, id) }
    }

    fn take(&self, state: &mut State, id: Id) -> Message {
        let token = self.mint(state);
        state.lock = Some(Lock { owner: id, token, left: LEASE, count: 0 });
        Message::Ours { token }
    }

    fn release(&self, state: &mut State, id: Id, leaves: bool) {
        let left = leaves && leave(state, id);
        let Some(lock) = state.lock else {
            if left {
                self.advance(state, 0);
            }
            return;
        };
        if lock.owner != id && !self.is(Mutant::AnyOwner) || leaves && self.is(Mutant::LeavesQueueOnly) {
            return;
        }
        state.lock = None;
        if !state.queue.is_empty() {
            if lock.count + 1 >= HAND_OFFS {
                self.wake(state);
            } else {
                self.advance(state, lock.count + 1);
            }
        }
    }

    fn renew(&self, state: &mut State, id: Id) -> Message {
        match &mut state.lock {
            Some(lock) if lock.owner == id => lock.left = LEASE,
            None if self.is(Mutant::RenewalCreates) => {
                let token = state.counter;
                state.lock = Some(Lock { owner: id, token, left: LEASE, count: 0 });
            }
            _ => return Message::Gone,
        }
        Message::Renewed
    }

    fn mint(&self, state: &mut State) -> u8 {
        if self.is(Mutant::TokenByClock) && state.behind {
            return 0;
        }
        state.counter += 1;
        state.counter
    }

    fn stand(&self, state: &mut State, id: Id) -> u8 {
        if let Some(entry) = state.queue.iter_mut().find(|entry| entry.id == id) {
            entry.left = FIRST;
            return entry.ticket;
        }
        let ticket = if self.is(Mutant::TicketByClock) && state.behind {
            state.queue.iter().last().map_or(0, |last| last.ticket + 1)
        } else {
            // Not the next number: that one is left to those who count on from the last in the queue.
            state.highest_ticket() + 2
        };
        state.queue.push(Entry { id, ticket, left: FIRST });
        ticket
    }

    fn living(&self, state: &mut State, at: usize) -> Option<Entry> {
        while let Some(entry) = state.queue.get(at) {
            if entry.left > 0 || self.is(Mutant::NoTimer) {
                return Some(entry);
            }
            state.queue.remove(at);
        }
        None
    }

    fn advance(&self, state: &mut State, count: u8) {
        let mut at = 0;
        while let Some(Entry { id, ticket, .. }) = self.living(state, at) {
            let token = self.mint(state);
            if publish(state, id, Message::Granted { attempt: id.attempt, ticket, token }) {
                leave(state, id);
                state.lock = Some(Lock { owner: id, token, left: FIRST, count });
                return;
            }
            at += 1;
        }
    }

    fn wake(&self, state: &mut State) {
        let mut at = 0;
        while let Some(Entry { id, .. }) = self.living(state, at) {
            if publish(state, id, Message::Free { attempt: id.attempt }) {
                return;
            }
            at += 1;
        }
    }
}

fn place_of(state: &State, id: Id) -> Option<usize> {
    state.queue.iter().position(|entry| entry.id == id)
}

fn leave(state: &mut State, id: Id) -> bool {
    place_of(state, id).and_then(|at| state.queue.remove(at)).is_some()
}

/// Whether anybody was there to hear it, as far as the server knows.
fn publish(state: &mut State, id: Id, message: Message) -> bool {
    let client = state.client(usize::from(id.client));
    if client.connected {
        // Who has left the attempt has no ear for it.
        if client.attempt == id.attempt && client.waits() {
            client.inbox.push(message);
        }
        return true;
    }
    client.ghost
}

/// The server's time passes.
pub(super) fn tick(state: &mut State) {
    if let Some(lock) = &mut state.lock {
        lock.left -= 1;
        if lock.left == 0 {
            state.lock = None;
        }
    }
    for entry in state.queue.iter_mut() {
        entry.left = entry.left.saturating_sub(1);
    }
}

/// The server's clock is set back: what ends by it ends later, and who was dead may count as alive again.
pub(super) fn step_back(state: &mut State) {
    state.behind = true;
    if let Some(lock) = &mut state.lock {
        lock.left += STEP;
    }
    for entry in state.queue.iter_mut() {
        entry.left += STEP;
    }
}
