//! One node as a member of the quorum: what is known of its clock, whether it has a say, what it was last asked in vain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotman_core::Error;
use pilotman_core::clock::Time;
use redis::Value;

use super::status::NodeStatus;
use crate::lock::number;
use crate::node::Node;

/// A reading of a clock is worth something for so long, and the best one if it came the fastest; and so long a comparison with
/// what is noted of it. A clock that was set since then would not be noticed.
const FRESH: Duration = Duration::from_secs(5);

/// A node that could not be connected is left alone for so long; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Member {
    pub(super) label: String,
    pub(super) node: Arc<Node>,
    /// One looks at what is noted there, for all who want to know.
    pub(super) looking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Until when its grants of new locks don't count.
    aside_until: Time,
    /// The same, as long as nobody opens it.
    unused_until: Time,
    clock: Option<Reading>,
    error: Option<Error>,
    /// When the node was last told that the set is in use.
    used: Time,
    /// Why it could not be connected, until when it is left alone, and for how long next time.
    down: Option<(Error, Time, Duration)>,
    /// The connection that was looked at last.
    generation: u64,
    run_id: String,
    checked: Option<Time>,
    noted: Option<i128>,
    looks: u64,
    refusal: Option<(Error, Time)>,
}

/// A node's clock at a moment of ours.
#[derive(Clone, Copy)]
struct Reading {
    micros: i128,
    at: Time,
    /// How long the answer took: the error is half of it at most.
    took: Duration,
}

impl Member {
    pub(super) fn new(label: String, node: Arc<Node>) -> Self {
        Self { label, node, looking: tokio::sync::Mutex::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its grants of new locks don't count until then.
    pub(super) fn set_aside(&self, until: Time) {
        let mut state = self.state();
        state.aside_until = state.aside_until.max(until);
    }

    /// It has not been used yet, and will have no say until then unless somebody opens it.
    pub(super) fn set_aside_unused(&self, until: Time) {
        self.state().unused_until = until;
    }

    /// Somebody has opened it.
    pub(super) fn end_aside_unused(&self) {
        self.state().unused_until = Time::ZERO;
    }

    /// The error of an attempt to connect that is not worth repeating yet.
    pub(super) fn failed_just_now(&self, now: Time) -> Option<Error> {
        let state = self.state();
        state.down.as_ref().filter(|(_, until, _)| now < *until).map(|(error, ..)| error.clone())
    }

    /// How an attempt to connect went.
    pub(super) fn connected(&self, now: Time, error: Option<&Error>) {
        let mut state = self.state();
        let pause = state.down.as_ref().map_or(RETRY_FIRST, |(.., pause)| *pause);
        state.down = error.map(|error| (error.clone(), now.after(pause), (pause * 2).min(RETRY_LONGEST)));
    }

    pub(super) fn is_aside(&self, now: Time) -> bool {
        let state = self.state();
        now < state.aside_until.max(state.unused_until)
    }

    /// Whether this changes what is known.
    pub(super) fn set_error(&self, error: Option<Error>) -> bool {
        let mut state = self.state();
        let changed = state.error.is_some() != error.is_some();
        state.error = error;
        changed
    }

    /// Takes an answer of `TIME` to a question sent at `sent`.
    pub(super) fn read_clock(&self, seconds: &Value, micros: &Value, sent: Time) {
        let (Some(seconds), Some(micros)) = (number(seconds), number(micros)) else { return };
        let now = self.node.now();
        let took = now.since(sent);
        let at = sent.after(took / 2);
        let mut state = self.state();
        if state.clock.is_none_or(|best| took <= best.took || now.since(best.at) > FRESH) {
            state.clock = Some(Reading { micros: i128::from(seconds) * 1_000_000 + i128::from(micros), at, took });
        }
    }

    /// The clock was set: what was read is worth nothing.
    pub(super) fn forget_clock(&self) {
        self.state().clock = None;
    }

    /// What its clock shows now, in microseconds since the epoch.
    pub(super) fn clock(&self, now: Time) -> Option<i128> {
        self.reading(now).map(|(micros, _)| micros)
    }

    /// The same, and by how much that may be wrong.
    pub(super) fn reading(&self, now: Time) -> Option<(i128, Duration)> {
        let reading = self.state().clock.filter(|reading| now.since(reading.at) <= FRESH)?;
        Some((reading.micros + now.since(reading.at).as_micros() as i128, reading.took / 2))
    }

    /// Whether it is time to tell the node that the set is in use.
    pub(super) fn is_use_due(&self, now: Time, every: Duration) -> bool {
        let mut state = self.state();
        let due = now >= state.used.after(every);
        if due {
            state.used = now;
        }
        due
    }

    /// Whether this connection was looked at, and the node found to be a member.
    pub(super) fn is_settled(&self, generation: u64) -> bool {
        self.state().generation == generation
    }

    pub(super) fn settled(&self, generation: u64, run_id: &str) {
        let mut state = self.state();
        state.generation = generation;
        state.checked = None;
        run_id.clone_into(&mut state.run_id);
    }

    /// Why the node is no member of ours, if that was found out just now.
    pub(super) fn refusal(&self, now: Time) -> Option<Error> {
        let state = self.state();
        state.refusal.as_ref().filter(|(_, until)| now < *until).map(|(error, _)| error.clone())
    }

    pub(super) fn refuse(&self, now: Time, error: &Error) {
        self.state().refusal = Some((error.clone(), now.after(RETRY_LONGEST)));
    }

    /// Whether its clock was compared with what is noted of it, not long ago.
    pub(super) fn is_checked(&self, now: Time) -> bool {
        self.node.spec.is_clustered() || self.state().checked.is_some_and(|at| now.since(at) <= FRESH)
    }

    pub(super) fn checked(&self, now: Time) {
        self.state().checked = Some(now);
    }

    /// By how many ms its clock is off from the middle, as it is noted there.
    pub(super) fn set_noted(&self, deviation: Option<i128>) {
        let mut state = self.state();
        state.noted = deviation;
        state.looks += 1;
    }

    /// How often it was looked at.
    pub(super) fn looks(&self) -> u64 {
        self.state().looks
    }

    pub(super) fn noted(&self) -> Option<i128> {
        self.state().noted
    }

    /// The run id of its server, if it is known.
    pub(super) fn run_id(&self) -> Option<String> {
        Some(self.state().run_id.clone()).filter(|id| !id.is_empty())
    }

    pub(super) fn status(&self, now: Time) -> NodeStatus {
        let state = self.state();
        NodeStatus {
            node: self.label.clone(),
            is_connected: self.node.is_connected(),
            set_aside: Some(state.aside_until.max(state.unused_until).since(now)).filter(|rest| !rest.is_zero()),
            error: state.error.clone(),
        }
    }
}
