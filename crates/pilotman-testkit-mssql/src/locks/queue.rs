//! One resource: its holders, and those who wait for it in order.

use super::{Mode, Owner, Ticket};

/// One owner's hold.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) owner: Owner,
    pub(super) mode: Mode,
    /// How many releases it takes.
    pub(super) count: u32,
}

/// One request that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) owner: Owner,
    /// What the owner will hold, together with what it has already.
    pub(super) mode: Mode,
    /// Whether it has a hold already, which it wants to strengthen.
    pub(super) converts: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) holders: Vec<Holder>,
    pub(super) waiters: Vec<Waiter>,
}

impl Queue {
    pub(super) fn held(&self, owner: Owner) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.owner == owner)
    }

    /// Whether `owner` could hold `mode` now, with `ahead` waiting before it.
    pub(super) fn free_for(&self, owner: Owner, mode: Mode, converts: bool, ahead: &[Waiter]) -> bool {
        let holders = self.holders.iter().all(|held| held.owner == owner || held.mode.goes_with(mode));
        // Who strengthens a hold doesn't stand behind those who wait for that hold to end.
        holders && (converts || ahead.iter().all(|waiter| waiter.mode.goes_with(mode)))
    }

    pub(super) fn grant(&mut self, owner: Owner, mode: Mode) {
        match self.holders.iter_mut().find(|holder| holder.owner == owner) {
            Some(holder) => {
                holder.mode = holder.mode.and(mode);
                holder.count += 1;
            }
            None => self.holders.push(Holder { owner, mode, count: 1 }),
        }
    }

    /// Conversions stand before new requests, each in the order in which they came.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        let place = if waiter.converts {
            self.waiters.iter().position(|other| !other.converts).unwrap_or(self.waiters.len())
        } else {
            self.waiters.len()
        };
        self.waiters.insert(place, waiter);
    }

    /// Grants what can be granted now, first come first served, and tells whom.
    pub(super) fn serve(&mut self) -> Vec<Waiter> {
        let mut served = Vec::new();
        let mut place = 0;
        while place < self.waiters.len() {
            let waiter = &self.waiters[place];
            if self.free_for(waiter.owner, waiter.mode, waiter.converts, &self.waiters[..place]) {
                let waiter = self.waiters.remove(place);
                self.grant(waiter.owner, waiter.mode);
                served.push(waiter);
            } else {
                place += 1;
            }
        }
        served
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }

    /// The sessions that the waiter at `place` waits for.
    pub(super) fn blockers(&self, place: usize) -> Vec<i32> {
        let waiter = &self.waiters[place];
        let mut sessions: Vec<i32> = self
            .holders
            .iter()
            .filter(|held| held.owner != waiter.owner && !held.mode.goes_with(waiter.mode))
            .map(|held| held.owner.session)
            .collect();
        if !waiter.converts {
            let ahead = self.waiters[..place].iter().filter(|other| !other.mode.goes_with(waiter.mode));
            sessions.extend(ahead.map(|other| other.owner.session));
        }
        sessions
    }
}
