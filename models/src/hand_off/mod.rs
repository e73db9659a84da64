//! The hand-off of a mutex on one Redis, as the scripts and the waiting of `pilotman-redis` do it.
//!
//! Time passes in ticks, for all alike. Nothing is urgent: a message may be under way and a client may pause for as long
//! as the rest of the world likes, so slow networks and stopped processes need no fault of their own. What else can go
//! wrong is a fault, of which there are only so many.

mod canonical;
mod client;
mod fair;
mod server;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;

use crate::explore::{Model, Plain};
pub use state::{Act, Action, Faults, State};
use state::{Client, Phase};

/// How a lease lasts, in ticks.
pub const LEASE: u8 = 4;
/// How long a lock that is handed to a waiter is its own at first, and how long a waiter counts as alive after it asked.
pub const FIRST: u8 = 3;
/// A hold is renewed when so much is left of it: when a third has passed.
pub const RENEW: u8 = 2;
/// How far the server's clock can step back.
pub const STEP: u8 = 4;
/// After so many hand-offs in a row the lock is left free.
pub const HAND_OFFS: u8 = 2;

/// The protocol with one thing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A waiter takes any push for its own, also one of an earlier place in the queue.
    AnyTicket,
    /// A pushed hold counts from when the push came.
    FromArrival,
    /// A pushed hold counts for the whole lease; the server gives the first lease only.
    WholeLease,
    /// A release doesn't look whose lock it takes away.
    AnyOwner,
    /// A renewal makes a lock anew that is gone.
    RenewalCreates,
    /// Waiters rely on pushes: they don't ask again, and nobody takes them for dead.
    NoTimer,
    /// An attempt that is given up leaves its place in the queue, but not the lock that it was handed meanwhile.
    LeavesQueueOnly,
    /// Tokens are the server's time, without a counter.
    TokenByClock,
    /// Numbers of places in the queue are the server's time, or one more than the last in the queue.
    TicketByClock,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How many clients there are: three at most.
    pub clients: usize,
    /// How often each of them wants the lock.
    pub attempts: [u8; 3],
    /// How many faults of each kind there can be.
    pub faults: Faults,
    /// How many of all kinds together.
    pub together: u8,
    /// Whether everything that is under way comes within a tick, and clients do what is due within one, but for strays
    /// and for how long a hold lasts.
    pub prompt: bool,
    /// What has happened already.
    pub before: &'static [Action],
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// The model. In [`Setup::bound`] ticks everybody who waits must have had the lock.
#[derive(Debug)]
pub struct HandOff {
    setup: Setup,
    ends: RefCell<HashMap<u64, fair::End, Plain>>,
    slowest: RefCell<fair::End>,
}

impl Setup {
    /// In so many ticks without a fault everybody who waits has had the lock: a lease in which nobody can have it, and for
    /// each attempt a first lease in which it is a dead one's.
    pub fn bound(&self) -> u8 {
        let back = if self.faults.step_back > 0 { STEP } else { 0 };
        LEASE + back + FIRST * self.attempts[..self.clients].iter().sum::<u8>()
    }
}

impl HandOff {
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
}

impl Model for HandOff {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut state = State::new(&self.setup);
        for action in self.setup.before {
            self.act(&mut state, *action).expect("nothing is violated before it begins");
        }
        state.make_canonical();
        state
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.setup.prompt || self.may_pass(state) {
            actions.push(Action { client: 0, act: Act::Tick });
        }
        for client in 0..self.setup.clients {
            self.acts(state, client, &mut |act| actions.push(Action { client: client as u8, act }));
        }
        if state.can(state.left.step_back) {
            actions.push(Action { client: 0, act: Act::StepBack });
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, String> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        next.make_canonical();
        Ok(next)
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let undisturbed = |client: Client| client.phase == Phase::Idle && client.is_silent();
        if !state.strayed && state.clients.iter().all(undisturbed) && (state.lock.is_some() || !state.queue.is_empty())
        {
            return Err("nobody wants the lock or has it, and something is left on the server".to_owned());
        }
        self.check_end(state)
    }

    fn show(&self, before: &State, action: Action, after: Option<&State>) -> String {
        let after = after.map_or_else(|| "(violated)".to_owned(), State::to_string);
        format!("{:<14} {after}", before.show(action))
    }
}
