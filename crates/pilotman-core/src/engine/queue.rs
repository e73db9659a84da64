//! The queue of this process for one lock: who may ask the backend, who waits, who gets a hold that comes back.
//!
//! It is a plain state machine, guarded by a mutex outside, so that a model checker can run it against every
//! interleaving of its callers. `W` is whatever stands for a waiter.

use std::collections::VecDeque;

/// How many times in a row a hold may go from one holder of this process to the next, before others get a turn.
pub(crate) const MAX_HAND_OFFS: u32 = 16;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Queue<W> {
    /// Waiters in the order in which they came, with their tickets.
    waiting: VecDeque<Ticketed<W>>,
    next_ticket: u64,
    /// Holds of this process, and attempts that are under way outside the driver.
    out: u32,
    /// How many holds this process can have at once.
    limit: u32,
    /// Whether a driver asks the backend on behalf of the first waiter.
    driving: bool,
    /// Local hand-offs since the backend last granted.
    hand_offs: u32,
    /// How many there may be until others get a turn.
    turn: u32,
    /// Whether those who come during a turn wait for the next one, because other processes stand in a queue too.
    fair: bool,
}

/// Whether a driver has to be started. There is never more than one for a queue.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Start,
    Leave,
}

/// A waiter with the ticket that says since when it waits.
pub(crate) type Ticketed<W> = (u64, W);

/// What becomes of a hold that comes back.
#[derive(Debug)]
pub(crate) enum Back<W> {
    /// This waiter gets it.
    Next(Ticketed<W>),
    /// The backend gets it, and [`Queue::returned`] has to be called then.
    Owed,
    /// The backend gets it, and that is accounted for.
    Settled,
}

impl<W> Queue<W> {
    /// `limit`: how many holds there can be at once. `fair`: the backend has a queue in which other processes may stand.
    pub(crate) fn new(limit: Option<u32>, fair: bool) -> Self {
        Self {
            waiting: VecDeque::new(),
            next_ticket: 0,
            out: 0,
            limit: limit.unwrap_or(u32::MAX),
            driving: false,
            hand_offs: 0,
            turn: MAX_HAND_OFFS,
            fair,
        }
    }

    /// Whether the caller may make an attempt of its own, past the driver: nobody is before it, and this process could
    /// have another hold. If so, it must call [`Self::keep`] or [`Self::unreserve`] afterwards.
    pub(crate) fn reserve(&mut self) -> bool {
        // A driver without a waiter is about to end.
        let free = self.waiting.is_empty() && self.out < self.limit;
        if free {
            self.out += 1;
            self.hand_offs = 0;
            self.turn = MAX_HAND_OFFS;
        }
        free
    }

    /// The attempt for which [`Self::reserve`] was called led to nothing.
    pub(crate) fn unreserve(&mut self) -> Driver {
        self.out -= 1;
        self.driver()
    }

    /// Puts a waiter at the end. Returns its ticket.
    pub(crate) fn push(&mut self, waiter: W) -> (u64, Driver) {
        self.next_ticket += 1;
        self.waiting.push_back((self.next_ticket, waiter));
        (self.next_ticket, self.driver())
    }

    /// Takes a waiter out, if it is still in.
    pub(crate) fn cancel(&mut self, ticket: u64) -> Option<W> {
        let at = self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        self.waiting.remove(at).map(|(_, waiter)| waiter)
    }

    /// Whether somebody waits and this process could have another hold.
    pub(crate) fn wanted(&self) -> bool {
        !self.waiting.is_empty() && self.out < self.limit
    }

    fn driver(&mut self) -> Driver {
        if !self.driving && self.wanted() {
            self.driving = true;
            Driver::Start
        } else {
            Driver::Leave
        }
    }

    /// The driver asks whether it is still wanted. If not, it has to end: it counts as ended from here on.
    pub(crate) fn drive(&mut self) -> bool {
        self.driving = self.wanted();
        self.driving
    }

    /// The backend granted a hold to the driver. `None`: nobody waits any longer, and the hold has to be given back
    /// like any other.
    pub(crate) fn grant(&mut self) -> Option<W> {
        self.out += 1;
        self.hand_offs = 0;
        let next = self.waiting.pop_front().map(|(_, waiter)| waiter);
        self.turn = match self.fair {
            // One at least: who comes next in this process may have come before those of others.
            true => u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).clamp(1, MAX_HAND_OFFS),
            false => MAX_HAND_OFFS,
        };
        next
    }

    /// A hold comes back in good order: who gets it without the backend being asked?
    pub(crate) fn hand_on(&mut self) -> Option<Ticketed<W>> {
        if self.hand_offs >= self.turn {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.hand_offs += 1;
        Some(next)
    }

    /// Whether others are due a turn although waiters of this process are left.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.hand_offs >= self.turn && !self.waiting.is_empty()
    }

    /// Puts a waiter back to where it was before it was to get a hold that turned out to be none.
    pub(crate) fn put_back(&mut self, (ticket, waiter): Ticketed<W>) -> Driver {
        let at = self.waiting.partition_point(|(other, _)| *other < ticket);
        self.waiting.insert(at, (ticket, waiter));
        self.driver()
    }

    /// As [`Self::hand_on`]; if nobody waits at all, the hold counts as no longer this process's at once, and
    /// [`Self::returned`] must not be called for it. For backends where giving back is a matter of microseconds, during
    /// which an attempt of this process may find the lock taken.
    pub(crate) fn hand_on_or_return(&mut self) -> Back<W> {
        if self.waiting.is_empty() {
            self.out -= 1;
            return Back::Settled;
        }
        self.hand_on().map_or(Back::Owed, Back::Next)
    }

    /// A hold is no longer this process's.
    pub(crate) fn returned(&mut self) -> Driver {
        self.out -= 1;
        self.driver()
    }

    /// The driver ended out of turn.
    pub(crate) fn driver_died(&mut self) {
        self.driving = false;
    }

    /// Takes all waiters out.
    pub(crate) fn drain(&mut self) -> Vec<W> {
        self.waiting.drain(..).map(|(_, waiter)| waiter).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many holds and attempts are out.
    pub(crate) fn out(&self) -> u32 {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_served_in_order_and_others_get_a_turn() {
        let mut queue = Queue::new(Some(1), false);
        assert!(queue.reserve());
        for waiter in 0..40 {
            assert_eq!(queue.push(waiter).1, Driver::Leave, "a hold is out, so nobody may ask the backend");
        }
        for waiter in 0..MAX_HAND_OFFS {
            assert_eq!(queue.hand_on(), Some((u64::from(waiter) + 1, waiter)));
        }
        assert_eq!(queue.hand_on(), None);
        assert_eq!(queue.returned(), Driver::Start);
        assert!(queue.drive());
        assert_eq!(queue.grant(), Some(16));
        assert!(!queue.drive());
        let next = queue.hand_on().unwrap();
        assert_eq!(next, (18, 17));
        assert_eq!(queue.put_back(next), Driver::Leave);
        assert_eq!(queue.hand_on(), Some((18, 17)));
    }

    #[test]
    fn who_comes_during_a_turn_waits_for_the_next_one() {
        let mut queue = Queue::new(Some(1), true);
        for waiter in 0..3 {
            let _ = queue.push(waiter);
        }
        assert_eq!(queue.grant(), Some(0));
        assert!(!queue.drive());
        let _ = queue.push(3);
        assert_eq!((queue.hand_on(), queue.hand_on()), (Some((2, 1)), Some((3, 2))));
        assert_eq!(queue.hand_on(), None, "others may wait longer");
        assert!(queue.is_exhausted());
        assert_eq!(queue.returned(), Driver::Start);
        assert_eq!(queue.grant(), Some(3));
        let _ = (queue.push(4), queue.push(5));
        assert_eq!((queue.hand_on(), queue.hand_on()), (Some((5, 4)), None), "one at least");
    }

    #[test]
    fn nobody_overtakes_a_waiter() {
        let mut queue = Queue::new(Some(2), false);
        assert!(queue.reserve() && queue.reserve() && !queue.reserve());
        let (ticket, _) = queue.push("first");
        assert_eq!(queue.unreserve(), Driver::Start);
        assert!(!queue.reserve());
        assert_eq!(queue.cancel(ticket), Some("first"));
        assert_eq!(queue.cancel(ticket), None);
        assert!(!queue.drive());
        assert!(queue.reserve());
    }

    #[test]
    fn a_grant_that_nobody_waits_for_comes_back() {
        let mut queue = Queue::<()>::new(Some(1), false);
        let (ticket, driver) = queue.push(());
        assert_eq!(driver, Driver::Start);
        queue.cancel(ticket);
        assert_eq!(queue.grant(), None);
        assert_eq!(queue.out(), 1);
        assert_eq!(queue.returned(), Driver::Leave);
        assert_eq!(queue.out(), 0);
    }
}
