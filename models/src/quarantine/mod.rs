//! How nodes are entered into a quorum, and who may end a node's quarantine: three nodes of which two are a quorum, of which
//! none has been used yet or all have been.
//!
//! *Entering* clients look after nodes that answer that they belong to no set: they enter them in quarantine, each with a
//! nonce, and if no node has ever had a say, they claim all and then lift the quarantine of all. *Locking* clients take the
//! lock on nodes in any order, renew and release. Both act at any time or never, so slow clients and slow requests need no
//! fault of their own. What a client sends is run when it likes and answered at once: a late answer is as good as a client
//! that goes on late.
//!
//! What is not prevented: when all nodes have lost what they had, and none of them has had a say since, they look as if they
//! had never been used.
//!
//! Time passes in ticks, for all alike. A hold rests on as few nodes as can be: there is no filling up here. Left out are
//! queues (see `quorum`), tokens, and what clients know of a node's quarantine by their own clocks, which makes them only more
//! careful. A nonce that was replaced never returns, so it is enough to know whether what was seen is still there.

mod entering;
mod state;

use crate::explore::Model;
use state::Entering;
pub use state::State;

/// How many nodes there are.
pub const NODES: usize = 3;
/// How many of them are a quorum.
pub const Q: usize = 2;
/// How many clients there are at most of each sort.
pub const CLIENTS: usize = 2;

/// The protocol with one thing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Nodes are entered without a quarantine.
    NoQuarantine,
    /// A client that has seen that no node was ever used opens all of them.
    LiftsWithoutClaims,
    /// A claim takes the place of any nonce.
    ClaimsAnyNonce,
    /// The quarantine of a node is lifted whatever nonce is there.
    LiftsAnyNonce,
    /// Claims need not all succeed.
    LiftsWithSomeClaims,
    /// A nonce stays when the quarantine has ended by itself, after which the node can be used.
    NonceOutlivesQuarantine,
    /// Votes count that were asked for before a quorum of the nodes was known to be open.
    VotesBeforeOpened,
    /// A node that was started anew with what it had saved goes on as before.
    TrustsRestart,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Whether the nodes are in use already.
    pub used: bool,
    /// How many clients enter nodes.
    pub entering: usize,
    /// How long a lease and a quarantine last, in ticks.
    pub lease: u8,
    /// How often a node can lose all it has.
    pub losses: u8,
    /// How often a node can be started anew with its notes, but without the lock.
    pub restarts: u8,
    /// Whether these happen only while all nodes have a say.
    pub one_by_one: bool,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Time passes.
    Tick,
    /// A node loses all it has.
    Lose,
    /// A node is started anew with its notes, but without the lock.
    Restart,
    /// An entering client has found a node that belonged to no set, and begins.
    Enter,
    /// It goes on with this node, in what it is about.
    GoOn,
    /// It gives up, or has done all.
    Stop,
    /// A locking client asks this node for the lock.
    Ask,
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
}

/// The model.
#[derive(Debug)]
pub struct Quarantine {
    setup: Setup,
}

impl Quarantine {
    /// A model of this.
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }

    /// What comes of it, with each node in its place.
    fn act(&self, state: &mut State, Action { client, node, act }: Action) {
        let (client, at) = (usize::from(client), usize::from(node));
        match act {
            Act::Tick => state.tick(self.is(Mutant::NonceOutlivesQuarantine)),
            Act::Lose => {
                state.losses -= 1;
                let node = &mut state.nodes[at];
                (node.notes, node.lock) = (None, None);
                node.changed();
            }
            Act::Restart => {
                state.restarts -= 1;
                let node = &mut state.nodes[at];
                node.lock = None;
                node.notes.iter_mut().for_each(|notes| notes.stale = !self.is(Mutant::TrustsRestart));
            }
            Act::Enter => state.turn(client, Entering::Asking),
            Act::GoOn => self.go_on(state, client, at),
            Act::Stop => state.stop(client),
            Act::Ask => {
                let opened = state.opened[client] || self.is(Mutant::VotesBeforeOpened);
                let node = &mut state.nodes[at];
                node.lock = Some(state::Lock { owner: client as u8, left: self.setup.lease });
                node.votes[client] = if opened { self.setup.lease } else { 0 };
                node.found_open[client] = true;
                state.learn(client);
            }
        }
    }
}

impl Model for Quarantine {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State::new(&self.setup)
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let mut add = |when: bool, client: usize, node: usize, act: Act| {
            if when {
                actions.push(Action { client: client as u8, node: node as u8, act });
            }
        };
        add(true, 0, 0, Act::Tick);
        let open = |node: &state::Node| node.notes.is_some_and(|notes| notes.left == 0 && !notes.stale);
        let may_fail = !self.setup.one_by_one || state.nodes.iter().all(open);
        for (at, node) in state.nodes.iter().enumerate() {
            add(may_fail && state.losses > 0 && node.notes.is_some(), 0, at, Act::Lose);
            add(may_fail && state.restarts > 0 && node.notes.is_some(), 0, at, Act::Restart);
            for client in 0..CLIENTS {
                let entering = state.entering[client];
                add(entering.is_due(node.seen[client]), client, at, Act::GoOn);
                let says = node.notes.is_some_and(|notes| !notes.stale && notes.left == 0);
                add(says && node.lock.is_none_or(|lock| usize::from(lock.owner) == client), client, at, Act::Ask);
            }
        }
        let unused = |node: &state::Node| node.notes.is_none_or(|notes| notes.stale || notes.nonce.is_some());
        let any = state.nodes.iter().any(unused);
        for client in 0..CLIENTS {
            let may = any && client < self.setup.entering;
            add(may && state.entering[client] == Entering::Idle, client, 0, Act::Enter);
            add(state.entering[client] != Entering::Idle, client, 0, Act::Stop);
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, String> {
        let mut next = state.clone();
        self.act(&mut next, action);
        next.make_canonical();
        Ok(next)
    }

    fn check(&self, state: &State) -> Result<(), String> {
        match (0..CLIENTS).filter(|client| state.holds(*client)).count() {
            0 | 1 => Ok(()),
            holders => Err(format!("{holders} clients take the lock for theirs at the same time")),
        }
    }

    fn show(&self, before: &State, Action { client, node, act }: Action, after: Option<&State>) -> String {
        let after = after.map_or_else(|| "(violated)".to_owned(), State::to_string);
        let who = match act {
            Act::Tick | Act::Lose | Act::Restart => ' ',
            Act::Enter | Act::GoOn | Act::Stop => (b'X' + client) as char,
            Act::Ask => (b'A' + client) as char,
        };
        format!("{who} {act:?} at {}\n        {after}", before.nodes[usize::from(node)].name)
    }
}
