//! Visits every state that a model can reach, nearest first, so that the counter-example it finds is a shortest one.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// What can happen, and what must hold.
pub trait Model {
    /// All that matters for what can happen next.
    type State: Clone + Hash;
    /// One thing that can happen.
    type Action: Copy;

    /// Where it begins.
    fn start(&self) -> Self::State;

    /// Adds to `actions` what can happen in a state.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);

    /// What comes of it.
    ///
    /// # Errors
    ///
    /// What was violated, if this step must not be.
    fn step(&self, state: &Self::State, action: Self::Action) -> Result<Self::State, String>;

    /// Looks at a state.
    ///
    /// # Errors
    ///
    /// What it violates.
    fn check(&self, state: &Self::State) -> Result<(), String>;

    /// A step in one line, for people: what happens in a state, and what comes of it.
    fn show(&self, before: &Self::State, action: Self::Action, after: Option<&Self::State>) -> String;
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    /// How many different states were visited.
    pub states: usize,
    /// How many steps between them were taken.
    pub steps: usize,
    /// How many steps the farthest state is from the start.
    pub depth: u32,
    /// How long it took.
    pub took: Duration,
    /// The first violation, if there is one.
    pub violation: Option<Violation>,
}

/// A violation and the shortest way to it.
#[derive(Debug)]
pub struct Violation {
    /// What was violated.
    pub what: String,
    /// Each step with the state after it.
    pub trace: Vec<String>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, took, violation } = self;
        write!(f, "{states} states, {steps} steps, depth {depth}, {:.1} s", took.as_secs_f64())?;
        if let Some(Violation { what, trace }) = violation {
            write!(f, "; violated after {} steps: {what}", trace.len())?;
            for line in trace {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

/// Hashes without regard for adversaries. The last step of [`fingerprint`] mixes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quick(u64);

impl Quick {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte) + 1);
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64 + 1);
    }

    fn write_isize(&mut self, word: isize) {
        self.add(word as u64 + 1);
    }
}

/// Stands for a state in the set of those that were seen. Of a million states two have the same with odds of 3 in 10^8.
pub fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Quick::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// What is already a fingerprint needs no further hashing.
pub type Plain = BuildHasherDefault<Quick>;

/// Explores a model to its end, or to its first violation.
///
/// # Panics
///
/// If there are more than `limit` states: a search that was cut off has proved nothing.
pub fn explore<M: Model>(model: &M, limit: usize) -> Explored {
    let begun = Instant::now();
    let start = model.start();
    let mut seen: HashSet<u64, Plain> = HashSet::default();
    seen.insert(fingerprint(&start));
    // How each state was reached: from which other, by what.
    let mut origins: Vec<(u32, Option<M::Action>)> = vec![(0, None)];
    let mut explored = Explored { states: 1, steps: 0, depth: 0, took: Duration::ZERO, violation: None };
    let mut broken = model.check(&start).err().map(|what| (what, 0, None));
    let mut frontier = VecDeque::from([(start, 0_u32, 0_u32)]);
    let mut actions = Vec::new();
    'search: while let Some((state, number, depth)) = frontier.pop_front() {
        if broken.is_some() {
            break;
        }
        explored.depth = depth;
        actions.clear();
        model.actions(&state, &mut actions);
        for &action in &actions {
            explored.steps += 1;
            let next = match model.step(&state, action) {
                Ok(next) => next,
                Err(what) => {
                    broken = Some((what, number, Some(action)));
                    break 'search;
                }
            };
            if !seen.insert(fingerprint(&next)) {
                continue;
            }
            explored.states += 1;
            assert!(explored.states <= limit, "more than {limit} states");
            let new = origins.len() as u32;
            origins.push((number, Some(action)));
            if let Err(what) = model.check(&next) {
                broken = Some((what, new, None));
                break 'search;
            }
            frontier.push_back((next, new, depth + 1));
        }
    }
    explored.violation = broken.map(|(what, number, last)| {
        let mut way: Vec<_> = last.into_iter().collect();
        let mut at = number;
        while let (before, Some(action)) = origins[at as usize] {
            way.push(action);
            at = before;
        }
        way.reverse();
        Violation { what, trace: retrace(model, &way) }
    });
    explored.took = begun.elapsed();
    explored
}

fn retrace<M: Model>(model: &M, way: &[M::Action]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut state = model.start();
    for (at, &action) in way.iter().enumerate() {
        let next = model.step(&state, action).ok();
        lines.push(format!("{:>3} {}", at + 1, model.show(&state, action, next.as_ref())));
        let Some(next) = next else { break };
        state = next;
    }
    lines
}
