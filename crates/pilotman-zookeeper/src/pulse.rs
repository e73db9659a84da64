//! How long the ensemble surely keeps a session. No I/O.
//!
//! A server that answers a heartbeat has not thereby told the leader of it: it does so when the leader next asks, which
//! is each half tick, and a server that was cut off from its leader answers for a while all the same. So heartbeats are
//! writes, which only a leader with a quorum answers, and one counts when a later one was answered that was sent at
//! least [`Pulse::gap`] after its own answer had come: by then it surely was there, and between the two the leader has
//! asked. What it was told then came before the later heartbeat on the same connection.

use std::collections::VecDeque;
use std::time::Duration;

use pilotman_core::clock::Time;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Pulse {
    timeout: Duration,
    gap: Duration,
    /// When the last thing was sent of which the leader surely knows.
    known: Time,
    /// Those answered heartbeats of which it may not know yet, oldest first: when they were sent, and when their answers were here.
    answered: VecDeque<(Time, Time)>,
}

impl Pulse {
    /// Of a session that was asked for at `opened`: the leader makes sessions itself.
    pub(crate) fn new(timeout: Duration, opened: Time) -> Self {
        Self { timeout, gap: Self::gap(timeout), known: opened, answered: VecDeque::new() }
    }

    /// After which time of silence the ensemble ends the session.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// It does so earlier than was thought. The leader asks no more often for that: the gap is shorter only where the member's
    /// tick is known to allow it.
    pub(crate) fn shorten(&mut self, timeout: Duration, tick: Option<Duration>) {
        self.timeout = self.timeout.min(timeout);
        if let Some(tick) = tick {
            self.gap = self.gap.min(Self::gap(self.timeout).max(tick / 2));
        }
    }

    /// How often a heartbeat is due.
    pub(crate) fn cadence(timeout: Duration) -> Duration {
        timeout / 10
    }

    /// How far apart two heartbeats are between which the leader has surely asked its followers. A time-out has two ticks
    /// at least, unless an administrator allows less, and the leader asks twice in one.
    pub(crate) fn gap(timeout: Duration) -> Duration {
        timeout / 4
    }

    /// A heartbeat that was sent then has been answered now.
    pub(crate) fn answered(&mut self, sent: Time, now: Time) {
        while let Some(&(earlier, there)) = self.answered.front() {
            if sent.since(there) < self.gap {
                break;
            }
            self.known = self.known.max(earlier);
            self.answered.pop_front();
        }
        if self.answered.back().is_none_or(|&(last, _)| last < sent) {
            self.answered.push_back((sent, now));
        }
    }

    /// Until when the ensemble surely keeps the session.
    pub(crate) fn surely_until(&self) -> Time {
        self.known.after(self.timeout)
    }

    /// From when a lease of at most the time-out counts that is renewed now: it must not end after the session may.
    pub(crate) fn valid_from(&self, lease: Duration, now: Time) -> Time {
        self.surely_until().before(lease).min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_time_is_that_of_the_request_for_the_session() {
        let pulse = Pulse::new(TIMEOUT, at(100));
        assert_eq!(pulse.surely_until(), at(108));
        assert_eq!(pulse.valid_from(TIMEOUT, at(101)), at(100));
        assert_eq!(pulse.valid_from(Duration::from_secs(2), at(101)), at(101), "a short lease is not cut");
        assert_eq!(pulse.valid_from(Duration::from_secs(2), at(107)), at(106), "unless the session ends first");
    }

    #[test]
    fn a_heartbeat_counts_when_a_later_one_is_answered() {
        let mut pulse = Pulse::new(TIMEOUT, at(100));
        pulse.answered(at(101), at(101));
        assert_eq!(pulse.surely_until(), at(108), "not yet");
        pulse.answered(at(102), at(102));
        assert_eq!(pulse.surely_until(), at(108), "the leader may not have asked in between");
        pulse.answered(at(103), at(103));
        assert_eq!(pulse.surely_until(), at(109));
        pulse.answered(at(110), at(110));
        assert_eq!(pulse.surely_until(), at(111), "that of 103 counts, that of 110 not yet");
    }

    #[test]
    fn a_heartbeat_that_was_long_on_its_way_counts_from_its_answer() {
        let mut pulse = Pulse::new(TIMEOUT, at(100));
        pulse.answered(at(101), at(104));
        pulse.answered(at(105), at(105));
        assert_eq!(pulse.surely_until(), at(108), "the leader may have asked before it was there");
        pulse.answered(at(106), at(106));
        assert_eq!(pulse.surely_until(), at(109));
    }

    #[test]
    fn a_session_that_is_shortened_is_counted_on_for_less() {
        let mut pulse = Pulse::new(TIMEOUT, at(100));
        let tick = Some(Duration::from_secs(2));
        pulse.shorten(Duration::from_secs(20), tick);
        assert_eq!(pulse.surely_until(), at(108), "never for more");
        pulse.shorten(Duration::from_secs(4), tick);
        assert_eq!((pulse.surely_until(), pulse.timeout()), (at(104), Duration::from_secs(4)));
        pulse.answered(at(101), at(101));
        pulse.answered(at(102), at(102));
        assert_eq!(pulse.surely_until(), at(105));
    }

    #[test]
    fn a_shorter_session_does_not_have_the_leader_ask_more_often() {
        for tick in [None, Some(Duration::from_secs(4))] {
            let mut pulse = Pulse::new(TIMEOUT, at(100));
            pulse.shorten(Duration::from_secs(4), tick);
            pulse.answered(at(101), at(101));
            pulse.answered(at(102), at(102));
            assert_eq!(pulse.surely_until(), at(104), "the leader may not have asked in between");
            pulse.answered(at(103), at(103));
            assert_eq!(pulse.surely_until(), at(105));
        }
    }

    #[test]
    fn answers_out_of_order_take_nothing_back() {
        let mut pulse = Pulse::new(TIMEOUT, at(100));
        for sent in [101, 104, 102, 107] {
            pulse.answered(at(sent), at(sent));
        }
        assert_eq!(pulse.surely_until(), at(112));
    }
}
