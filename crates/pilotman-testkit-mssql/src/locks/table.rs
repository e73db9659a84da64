//! All application locks of a server.

use std::collections::{BTreeMap, HashMap};

use super::deadlock::{self, Graph};
use super::queue::{Queue, Waiter};
use super::{Key, Mode, Owner};

/// One request that waits, or has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It holds.
    Granted,
    /// It waits.
    Waits(Ticket),
    /// It would have to wait, and was not to.
    Refused,
}

/// How a request that waits stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It still waits.
    Still,
    /// It holds now.
    Granted,
    /// It was chosen to resolve a deadlock, and waits no longer.
    Victim,
}

/// The owner doesn't hold that lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHeld;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What is locked.
    pub key: Key,
    /// For whom.
    pub owner: Owner,
    /// The mode: of a waiter, what it would hold.
    pub mode: Mode,
    /// Whether it is held. If not, the owner waits.
    pub granted: bool,
    /// Whether the owner waits for a stronger mode than it holds, which is a row of its own.
    pub converts: bool,
}

/// All application locks of a server.
#[derive(Debug, Default)]
pub struct Table {
    queues: BTreeMap<Key, Queue>,
    tickets: u64,
    /// The tickets that don't wait any more, until they are asked about.
    decided: HashMap<Ticket, Waiting>,
    woken: Vec<i32>,
}

impl Table {
    /// Asks for a lock. Who holds it already gets it again, and what it holds becomes what both modes make.
    pub fn ask(&mut self, owner: Owner, key: &Key, mode: Mode, may_wait: bool) -> Asked {
        let queue = self.queues.entry(key.clone()).or_default();
        let held = queue.held(owner).map(|holder| holder.mode);
        let converts = held.is_some();
        let wanted = held.map_or(mode, |held| held.and(mode));
        if queue.free_for(owner, wanted, converts, &queue.waiters) {
            queue.grant(owner, wanted);
            return Asked::Granted;
        }
        if !may_wait {
            return Asked::Refused;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        queue.wait(Waiter { ticket, owner, mode: wanted, converts });
        Asked::Waits(ticket)
    }

    /// Whether `owner` would get the lock without waiting.
    pub fn would_grant(&self, owner: Owner, key: &Key, mode: Mode) -> bool {
        let Some(queue) = self.queues.get(key) else { return true };
        let held = queue.held(owner).map(|holder| holder.mode);
        let wanted = held.map_or(mode, |held| held.and(mode));
        queue.free_for(owner, wanted, held.is_some(), &queue.waiters)
    }

    /// How a waiting request stands.
    pub fn look(&self, ticket: Ticket) -> Waiting {
        self.decided.get(&ticket).copied().unwrap_or(Waiting::Still)
    }

    /// Ends a wait. Tells what became of it: a lock that came just before is held.
    pub fn end_wait(&mut self, key: &Key, ticket: Ticket) -> Waiting {
        if let Some(decided) = self.decided.remove(&ticket) {
            return decided;
        }
        if let Some(queue) = self.queues.get_mut(key) {
            queue.waiters.retain(|waiter| waiter.ticket != ticket);
        }
        self.serve(key);
        Waiting::Still
    }

    /// Gives back once.
    ///
    /// # Errors
    ///
    /// When the owner doesn't hold it.
    pub fn release(&mut self, owner: Owner, key: &Key) -> Result<(), NotHeld> {
        let queue = self.queues.get_mut(key).ok_or(NotHeld)?;
        let place = queue.holders.iter().position(|holder| holder.owner == owner).ok_or(NotHeld)?;
        let holder = &mut queue.holders[place];
        holder.count -= 1;
        if holder.count == 0 {
            queue.holders.remove(place);
            self.serve(key);
        }
        Ok(())
    }

    /// Gives back all that owners hold for which `gone` is true, and ends their waits.
    pub fn forget(&mut self, gone: impl Fn(Owner) -> bool) {
        let keys: Vec<Key> = self.queues.keys().cloned().collect();
        for key in keys {
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            queue.holders.retain(|holder| !gone(holder.owner));
            queue.waiters.retain(|waiter| !gone(waiter.owner));
            self.serve(&key);
        }
    }

    /// What the owner holds.
    pub fn mode(&self, owner: Owner, key: &Key) -> Option<Mode> {
        self.queues.get(key)?.held(owner).map(|holder| holder.mode)
    }

    /// How many releases the owner's hold takes.
    pub fn count(&self, owner: Owner, key: &Key) -> u32 {
        self.queues.get(key).and_then(|queue| queue.held(owner)).map_or(0, |holder| holder.count)
    }

    /// The sessions whose wait was decided since the last call.
    pub fn take_woken(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.woken)
    }

    /// Resolves every deadlock. The victim is the session of the lowest priority in the cycle, and among equals the
    /// one that began to wait last. Tells the victims.
    pub fn resolve_deadlocks(&mut self, priority: impl Fn(i32) -> i32) -> Vec<i32> {
        let mut victims = Vec::new();
        while let Some(cycle) = deadlock::cycle(&self.graph()) {
            let waiters = self.queues.iter().flat_map(|(key, queue)| {
                queue.waiters.iter().map(move |waiter| (waiter.owner.session, waiter.ticket, key))
            });
            let victim = waiters
                .filter(|(session, ..)| cycle.contains(session))
                .min_by_key(|&(session, ticket, _)| (priority(session), std::cmp::Reverse(ticket)))
                .map(|(session, ticket, key)| (session, ticket, key.clone()));
            let Some((session, ticket, key)) = victim else { break };
            if let Some(queue) = self.queues.get_mut(&key) {
                queue.waiters.retain(|waiter| waiter.ticket != ticket);
            }
            self.decided.insert(ticket, Waiting::Victim);
            self.woken.push(session);
            self.serve(&key);
            victims.push(session);
        }
        victims
    }

    /// Whether anybody waits.
    pub fn has_waiters(&self) -> bool {
        self.queues.values().any(|queue| !queue.waiters.is_empty())
    }

    /// Who is blocked by whom: the session that waits, and those that it waits for.
    pub fn blocked(&self) -> BTreeMap<i32, Vec<i32>> {
        self.graph()
    }

    /// Every hold and every wait, by resource, holders first, waiters in their order.
    pub fn rows(&self) -> Vec<Held> {
        let mut rows = Vec::new();
        for (key, queue) in &self.queues {
            for holder in &queue.holders {
                let (owner, mode) = (holder.owner, holder.mode);
                rows.push(Held { key: key.clone(), owner, mode, granted: true, converts: false });
            }
            for waiter in &queue.waiters {
                let (owner, mode, converts) = (waiter.owner, waiter.mode, waiter.converts);
                rows.push(Held { key: key.clone(), owner, mode, granted: false, converts });
            }
        }
        rows
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for queue in self.queues.values() {
            for (place, waiter) in queue.waiters.iter().enumerate() {
                graph.entry(waiter.owner.session).or_default().extend(queue.blockers(place));
            }
        }
        graph
    }

    fn serve(&mut self, key: &Key) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        for waiter in queue.serve() {
            self.decided.insert(waiter.ticket, Waiting::Granted);
            self.woken.push(waiter.owner.session);
        }
        if queue.is_empty() {
            self.queues.remove(key);
        }
    }
}
