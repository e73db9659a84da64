//! The hand-off of a mutex over three nodes of which two are a quorum.
//!
//! Time passes in ticks, for all alike. A client may do what it does at any time, and need not: so pauses need no fault
//! of their own. What is sent is run, answered and read at once, unless it is slow, which is a fault: then it takes as long
//! as it likes, and what is sent after it over the same connection waits behind it. Answers come in order; pushes may be
//! overtaken by answers. What was sent over a connection that has ended may be run at any time, also after what is sent over
//! the next one.
//!
//! A question with yield is obeyed for [`OBEYED`] ticks by the clock of the node. If it has no answer, the node is *tainted*:
//! what it says is no vote, and nothing that a hold rests on, until it has answered at a time when it obeys no more. The time
//! by its clock is known exactly here. A client may have two questions under way at a node where it really has one.
//!
//! # What is promised
//!
//! With the faults that a test names: never do two clients take the lock for theirs at once; from every state, if all is
//! delivered and nothing fails any more, whoever waits has had the lock, and nothing is left, within the bound that the test
//! names.
//!
//! A waiter that has its place on a quorum of the nodes is not overtaken by one that begins after that: with any one fault, as
//! long as waiters ask in every tick. It may be if the other one has an earlier ticket because it measures the time
//! differently, or if it asks so rarely that it loses its places. Then there is no other bound than that everybody is served:
//! tickets grow with time, so whoever waits is first at last.
//!
//! Two things are not prevented, because nobody can notice them in time: when the clock of a node steps, or the key is deleted
//! there, while a hold has a bare majority. A hold that all nodes have renewed survives it.
//!
//! Left out are tokens (see `tokens`), how a client finds that a node is in quarantine (see `quarantine`), and
//! that clocks run at different speeds, for which the drift is taken off in the real protocol. A renewal or a release
//! reaches all nodes within one step, unless it is slow at one of them.
//!
//! Clients of the same plan are alike, so they begin in order. Nodes are alike, so states that differ only in which
//! is which are one.

mod client;
mod fair;
mod node;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;

use crate::explore::{Model, Plain};
use state::Phase;
pub use state::{Faults, State};

/// How many nodes there are.
pub const NODES: usize = 3;
/// How many of them are a quorum.
pub const Q: usize = 2;
/// How many clients there are at most.
pub const CLIENTS: usize = 3;
/// How long a lease lasts, in ticks.
pub const LEASE: u8 = 3;
/// How long what is handed to a waiter is its own at first, and how long a waiter counts as alive after it asked.
pub const FIRST: u8 = 2;

/// By a question with yield a node yields from when it was sent for so long, by its own clock.
pub const OBEYED: u8 = 2;

/// How a client goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Waits until it has the lock.
    Wait,
    /// Takes the lock if it is free.
    Try,
}

/// The protocol with one thing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A renewal makes a lock anew that is gone, and counts it.
    RenewalCreates,
    /// A node that a holder has just filled counts in the same round.
    CountsFilled,
    /// A node that lost its data votes at once.
    NoQuarantine,
    /// A vote is kept while a question with yield is under way.
    VotesWhileYielding,
    /// A waiter takes any push for its own, also one by an earlier place in the queue.
    AnyPlace,
    /// A pushed vote counts from when the push came.
    FromArrival,
    /// Waiters don't yield.
    NoYield,
    /// Each node gives tickets of its own.
    OwnTickets,
    /// The answer to a waiter counts for a whole lease, although the key is for the first lease only.
    WholeLease,
    /// A question with yield is obeyed however late it comes.
    YieldsLate,
    /// What a node says counts also while it may yet yield by a question that had no answer.
    IgnoresTaint,
    /// A holder doesn't know of such questions that it asked before it held.
    ForgetsTaint,
    /// A question of a waiter shortens what a renewal made longer.
    Shortens,
    /// Pushes don't say whether the node is in quarantine.
    PushHidesQuarantine,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// What each client is about.
    pub plans: &'static [Plan],
    /// How many faults of each kind there can be.
    pub faults: Faults,
    /// How many of all kinds together.
    pub together: u8,
    /// Whether waiters ask every node in every tick.
    pub prompt: bool,
    /// Whether a waiter that stood on a quorum of nodes before another began must not be overtaken by it.
    pub ordered: bool,
    /// In so many ticks without a fault all who wait have had the lock.
    pub bound: u8,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Time passes.
    Tick,
    /// A client begins; `skewed`: with an earlier ticket than the one that began before it.
    Begin {
        /// See above.
        skewed: bool,
    },
    /// A client asks a node.
    Ask {
        /// It gives the lock to one who comes before it.
        yields: bool,
    },
    /// A client that tried has failed.
    GiveUp,
    /// A waiter gives up.
    Cancel,
    /// A holder renews.
    Renew,
    /// A holder releases.
    Release,
    /// A node runs the first script that is under way.
    Serve,
    /// The same, over a connection that has ended.
    ServeStray,
    /// A client reads a late answer.
    HearAnswer,
    /// A client reads a late push.
    HearPush,
    /// A connection ends.
    Break,
    /// A client ends.
    Crash {
        /// The nodes find that at once.
        noticed: bool,
    },
    /// A node cannot be reached.
    Down,
    /// It can be again.
    Up,
    /// A node restarts without its data.
    Restart,
    /// A node's clock steps ahead.
    Step {
        /// How far.
        by: u8,
        /// Somebody notices before anybody asks.
        noticed: bool,
    },
    /// The key of the mutex is deleted on a node.
    Vanish,
}

/// What of it comes late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Prompt,
    /// What is sent.
    SlowRequest,
    /// The answer.
    SlowAnswer,
    /// The pushes to others.
    SlowPush,
    /// The pushes to others never come.
    LosePush,
}

/// What can happen, to whom, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The number of the client.
    pub client: u8,
    /// The number of the node.
    pub node: u8,
    /// What it is.
    pub act: Act,
    /// How it comes.
    pub mode: Mode,
}

/// The model.
#[derive(Debug)]
pub struct Quorum {
    setup: Setup,
    ends: RefCell<HashMap<u64, fair::End, Plain>>,
    slowest: RefCell<fair::End>,
}

impl Quorum {
    /// A model of this.
    pub fn new(setup: Setup) -> Self {
        Self { setup, ends: RefCell::default(), slowest: RefCell::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }

    /// The longest time, in ticks, that it took from any state until all who waited had had the lock, and until nothing
    /// was left, with everything delivered and nothing failing any more.
    pub fn slowest(&self) -> (u8, u8) {
        let slowest = self.slowest.borrow();
        (slowest.served, slowest.quiet)
    }

    fn may_pass(&self, state: &State) -> bool {
        let asked = |(number, client): (usize, state::Client)| {
            let prompt =
                |node: &state::Node| node.down || node.links[number].asked == 0 || !node.links[number].out.is_empty();
            client.phase != Phase::Wanting || state.nodes.iter().all(prompt)
        };
        state.clients.iter().enumerate().all(asked)
    }
}

impl Model for Quorum {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut state = State::new(&self.setup);
        state.make_canonical();
        state
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let mut add = |when: bool, node: usize, act: Act| {
            if when {
                actions.push(Action { client: 0, node: node as u8, act, mode: Mode::Prompt });
            }
        };
        add(!self.setup.prompt || self.may_pass(state), 0, Act::Tick);
        let left = state.left;
        for (at, node) in state.nodes.iter().enumerate() {
            add(!node.down && state.can(left.down), at, Act::Down);
            add(node.down, at, Act::Up);
            add(state.can(left.restart), at, Act::Restart);
            for by in 1..=2 {
                add(state.can(left.step), at, Act::Step { by, noticed: true });
                add(state.can(left.step_unnoticed), at, Act::Step { by, noticed: false });
            }
            add(node.lock.is_some() && state.can(left.vanish), at, Act::Vanish);
        }
        for client in 0..self.setup.plans.len() {
            self.acts(state, client, &mut |action| actions.push(action));
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, String> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        next.make_canonical();
        Ok(next)
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let over = state.clients.iter().all(|client| matches!(client.phase, Phase::Idle | Phase::Done));
        if !state.untidy && over && state.is_silent() && !state.is_empty() {
            return Err("nobody wants the lock or has it, and something is left on a node".to_owned());
        }
        self.check_end(state)
    }

    fn show(&self, before: &State, action: Action, after: Option<&State>) -> String {
        let after = after.map_or_else(|| "(violated)".to_owned(), State::to_string);
        let Action { client, node, act, mode } = action;
        let who = (b'A' + client) as char;
        let mode = if mode == Mode::Prompt { String::new() } else { format!(" {mode:?}") };
        format!("{who} {act:?} at {}{mode}\n        {after}", before.nodes[usize::from(node)].name)
    }
}
