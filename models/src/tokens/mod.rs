//! One fencing token for three nodes of which two are a quorum, whatever is proposed and whichever nodes are missed.
//!
//! A node gives each grant a token larger than all that it gave before, and not less than what is proposed. With the tokens
//! of its votes a client takes the largest; where fewer than a quorum gave that one, it first raises nodes to it, which they
//! do only while the lock is the client's there. A hold that goes on under another holder of its process gets a new token in
//! the same way, of the nodes that the lock is its own on.
//!
//! Anything that is sent comes at any time or never; where a client stops waiting for it, the answer is not heard. Keys end at
//! any time, by a release or because a lease ends. That a client takes a key for its own until the key ends, and no longer, is
//! what `quorum` is about; so is the queue: a push is here no different from an answer, but what is proposed with it may be
//! old. Clients begin again when they have ended, as somebody else.
//!
//! Without lost data there is no time: any proposal can be made at any moment. Where a node may lose what it has, time passes
//! in ticks, a node gives at most one token in each (in reality: one in a microsecond), and proposals are those of the tick or
//! of so many to come. A node that has lost its counter has nothing but the proposal to begin with.
//!
//! Nodes are alike, so states that differ only in which is which are one. The number of tokens that are given is limited.

mod state;

use crate::explore::Model;
pub use state::State;
use state::{Lock, Node, Open, Phase};

/// How many nodes there are.
pub const NODES: usize = 3;
/// How many of them are a quorum.
pub const Q: usize = 2;
/// How many clients there are at a time.
pub const CLIENTS: usize = 2;

/// The time at the beginning. 0 is no token.
const FIRST: u8 = 1;

/// The protocol with one thing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The largest token of the votes is the token, and no node is told.
    TakesLargest,
    /// A node is raised also while the lock is somebody else's there.
    RaisesForAnybody,
    /// Nodes keep no counter: the token is what is proposed.
    KeepsNoCounter,
    /// A client whose votes have ended while nodes were being raised goes on.
    EntersLate,
    /// Raising sets the token of the key also where that is larger.
    RaiseLowers,
    /// What the nodes give to a hold that goes on is not agreed upon.
    HandsOnLargest,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How many tokens can be given by nodes, in all.
    pub mints: u8,
    /// Proposals are apart by so much.
    pub apart: u8,
    /// How often a node can lose all it has.
    pub losses: u8,
    /// How many ticks it takes at least until a node that has lost what it had gives a token.
    pub away: u8,
    /// How many ticks can pass.
    pub ticks: u8,
    /// Whether proposals may come late, such as that of a release.
    pub late: bool,
    /// Whether a node that has no counter gives no token smaller than the time by its own clock.
    pub own_clock: bool,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Time passes.
    Tick,
    /// A key is gone: released or expired.
    Free,
    /// A node loses all it has. It is in quarantine from then on.
    Lose,
    /// What was granted before the loss has ended by all clocks.
    EndQuarantine,
    /// A client is granted the lock on a node; with what is proposed.
    Grant(u8),
    /// It asks where it has the lock already.
    AskAgain,
    /// With a quorum of tokens it tries to make the largest the token.
    Agree,
    /// A node is raised.
    Raise,
    /// The token is that of enough nodes.
    Enter,
    /// It stops raising and asks again.
    Retry,
    /// A holder passes the lock on within its process.
    HandOn,
    /// A node gives a hold a new token; with what is proposed.
    Mint(u8),
    /// A holder takes the lock on one more node.
    Fill,
    /// A client is done, or has given up. Its keys stay until they end.
    End,
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
pub struct Tokens {
    setup: Setup,
}

impl Tokens {
    /// A model of this.
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }

    fn is_timed(&self) -> bool {
        self.setup.losses > 0
    }

    fn proposals(&self, state: &State) -> impl Iterator<Item = u8> + use<> {
        let late = (self.setup.late && state.now > FIRST).then_some(FIRST);
        late.into_iter().chain(state.now..=state.now + self.setup.apart)
    }

    fn can_mint(&self, state: &State, node: &Node) -> bool {
        state.mints > 0 && !(self.is_timed() && node.minted)
    }

    fn mint(&self, state: &mut State, at: usize, proposal: u8) -> u8 {
        state.mints -= 1;
        let now = state.now;
        let node = &mut state.nodes[at];
        node.minted = self.is_timed();
        let floor = match node.counter {
            _ if self.is(Mutant::KeepsNoCounter) => 0,
            Some(last) => last + 1,
            None if self.setup.own_clock => now,
            None => 0,
        };
        let token = proposal.max(floor);
        node.counter = Some(token);
        token
    }

    /// With these tokens it tries to make the largest the token.
    fn agree(&self, state: &mut State, client: usize) {
        let holds = state.clients[client].holds();
        let given = |node: &Node| node.links[client].given;
        let Some(token) = state.nodes.iter().filter_map(given).max() else { return };
        let plain = self.is(Mutant::TakesLargest) || holds && self.is(Mutant::HandsOnLargest);
        for node in &mut state.nodes {
            let link = &mut node.links[client];
            link.raised = link.given.is_some_and(|given| given == token || plain);
            link.open = match link.given {
                Some(given) if given < token && !plain => Open::Raise { token, heard: true },
                _ => link.open.unheard(),
            };
            link.given = None;
        }
        state.clients[client] = Phase::Agreeing { token, holds };
    }

    fn act(&self, state: &mut State, Action { client, node, act }: Action) -> Result<(), String> {
        let (client, at) = (usize::from(client), usize::from(node));
        let owner = client as u8;
        match act {
            Act::Tick => state.tick(),
            Act::Free => state.nodes[at].free(),
            Act::Lose => {
                state.losses -= 1;
                let node = &mut state.nodes[at];
                (node.lock, node.counter, node.quarantine, node.away) = (None, None, true, self.setup.away);
            }
            Act::EndQuarantine => state.nodes[at].end_quarantine(),
            Act::Grant(proposal) => {
                let token = self.mint(state, at, proposal);
                let node = &mut state.nodes[at];
                node.lock = Some(Lock { owner, token });
                if !node.quarantine {
                    let link = &mut node.links[client];
                    (link.valid, link.given) = (true, Some(token));
                }
            }
            Act::AskAgain => {
                let node = &mut state.nodes[at];
                let link = &mut node.links[client];
                (link.valid, link.given) = (true, node.lock.map(|lock| lock.token));
            }
            Act::Agree => self.agree(state, client),
            Act::Raise => {
                let (is_any, lowers) = (self.is(Mutant::RaisesForAnybody), self.is(Mutant::RaiseLowers));
                let node = &mut state.nodes[at];
                if let Open::Raise { token, heard } = std::mem::replace(&mut node.links[client].open, Open::Nothing)
                    && (node.is_of(client) || is_any)
                {
                    node.counter = node.counter.max(Some(token));
                    node.lock.iter_mut().filter(|lock| lock.owner == owner).for_each(|lock| {
                        lock.token = if lowers { token } else { lock.token.max(token) };
                    });
                    node.links[client].raised |= heard;
                }
            }
            Act::Enter => {
                let Phase::Agreeing { token, .. } = state.clients[client] else { return Ok(()) };
                if token <= state.last {
                    return Err(format!("a holder has the token {token} after one with {}", state.last));
                }
                state.last = token;
                state.clients[client] = Phase::Holding { token };
                state.nodes.iter_mut().for_each(|node| node.links[client].settle());
            }
            Act::Retry => {
                state.clients[client] = Phase::Wanting;
                for node in &mut state.nodes {
                    let link = &mut node.links[client];
                    link.settle();
                    link.valid = false;
                }
            }
            Act::HandOn => {
                state.clients[client] = Phase::Minting;
                state.nodes.iter_mut().map(|node| &mut node.links[client]).for_each(|link| {
                    if link.open == Open::Nothing {
                        link.open = Open::Mint;
                    }
                });
            }
            Act::Mint(proposal) => {
                state.nodes[at].links[client].open = Open::Nothing;
                if state.nodes[at].is_of(client) {
                    let token = self.mint(state, at, proposal);
                    let node = &mut state.nodes[at];
                    node.lock = Some(Lock { owner, token });
                    // Once it has enough it listens no more.
                    node.links[client].given = (state.clients[client] == Phase::Minting).then_some(token);
                }
            }
            Act::Fill => {
                if let Phase::Holding { token } = state.clients[client] {
                    let node = &mut state.nodes[at];
                    node.lock = Some(Lock { owner, token });
                    node.counter = node.counter.max(Some(token));
                    node.links[client].valid = true;
                }
            }
            Act::End => state.end(client),
        }
        Ok(())
    }
}

impl Model for Tokens {
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
        add(self.is_timed() && state.ticks > 0, 0, 0, Act::Tick);
        for (at, node) in state.nodes.iter().enumerate() {
            add(node.lock.is_some(), 0, at, Act::Free);
            add(state.losses > 0, 0, at, Act::Lose);
            add(node.quarantine, 0, at, Act::EndQuarantine);
        }
        for client in 0..CLIENTS {
            let phase = state.clients[client];
            let count =
                |of: fn(&state::Link) -> bool| state.nodes.iter().filter(|node| of(&node.links[client])).count();
            let valid = count(|link| link.valid) >= Q;
            let given = count(|link| link.given.is_some()) >= Q;
            let raised = count(|link| link.raised) >= Q;
            let agrees = matches!(phase, Phase::Agreeing { .. });
            for (at, node) in state.nodes.iter().enumerate() {
                let link = &node.links[client];
                let up = node.away == 0;
                let free = up && node.lock.is_none();
                let can_mint = up && self.can_mint(state, node);
                for proposal in self.proposals(state) {
                    add(phase == Phase::Wanting && free && can_mint, client, at, Act::Grant(proposal));
                    let mints = link.open == Open::Mint && (can_mint || !node.is_of(client));
                    add(mints && up, client, at, Act::Mint(proposal));
                }
                let again = node.is_of(client) && !node.quarantine && !link.valid && up;
                add(phase == Phase::Wanting && again, client, at, Act::AskAgain);
                add(matches!(link.open, Open::Raise { .. }) && up, client, at, Act::Raise);
                add(matches!(phase, Phase::Holding { .. }) && valid && free, client, at, Act::Fill);
            }
            let wants = phase == Phase::Wanting && valid || phase == Phase::Minting;
            add(wants && given, client, 0, Act::Agree);
            add(agrees && raised && (valid || self.is(Mutant::EntersLate)), client, 0, Act::Enter);
            let retries = matches!(phase, Phase::Agreeing { holds: false, .. });
            add(retries && !self.is_timed(), client, 0, Act::Retry);
            let hands_on = matches!(phase, Phase::Holding { .. }) && valid && state.mints > 0;
            add(hands_on && !self.is_timed(), client, 0, Act::HandOn);
            add(phase != Phase::Wanting || state.nodes.iter().any(|node| node.is_of(client)), client, 0, Act::End);
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, String> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        next.make_canonical();
        Ok(next)
    }

    fn check(&self, _: &State) -> Result<(), String> {
        Ok(())
    }

    fn show(&self, before: &State, Action { client, node, act }: Action, after: Option<&State>) -> String {
        let after = after.map_or_else(|| "(violated)".to_owned(), State::to_string);
        let who = match act {
            Act::Tick | Act::Free | Act::Lose | Act::EndQuarantine => ' ',
            _ => (b'A' + client) as char,
        };
        format!("{who} {act:?} at {}\n        {after}", before.nodes[usize::from(node)].name)
    }
}
