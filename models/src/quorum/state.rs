//! What the nodes, the connections and the clients look like at one moment. All times are relative to it: how old, or how
//! long still.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::{CLIENTS, LEASE, NODES, Plan, Setup};
use crate::explore::fingerprint;
use crate::list::List;

/// The key of the mutex on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) owner: u8,
    /// How long until the key expires.
    pub(super) left: u8,
    /// Used only where nodes give tickets of their own.
    pub(super) ticket: u8,
}

/// A place in the queue of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) ticket: u8,
    pub(super) place: u8,
    /// How long it counts as alive.
    pub(super) left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    Ask { yields: bool },
    Renew,
    Fill,
    Release,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) what: What,
    pub(super) seq: u8,
    /// How long a node will yield by it still, by the node's clock.
    pub(super) rest: u8,
    /// How long ago it was sent.
    pub(super) age: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Ours,
    /// With the place in the queue of one who waits.
    Others {
        place: u8,
    },
    Renewed {
        mine: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) told: Told,
    /// How long ago the question was sent.
    pub(super) age: u8,
    /// The question was one with yield.
    pub(super) yields: bool,
    /// By the node's clock no question of the client's that had no answer makes it yield any more.
    pub(super) safe: bool,
    pub(super) quarantine: bool,
}

/// "The lock is yours, by this place."
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Push {
    pub(super) place: u8,
    pub(super) quarantine: bool,
}

/// The last answer was "not yours, your place is this".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) place: u8,
    /// For how long a push would make the lock its own.
    pub(super) left: u8,
    pub(super) quarantine: bool,
}

/// What there is between a client and a node, and what each of both keeps about the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// The node's: the client's place in its queue.
    pub(super) entry: Option<Entry>,
    /// The client has asked within this tick: 0, or not: 1.
    pub(super) asked: u8,
    /// How long the node's vote for the client is valid still.
    pub(super) vote: u8,
    /// A question with yield is under way.
    pub(super) yielding: bool,
    /// How long the node may yield still, by its own clock, by a question that is under way or that had no answer. Also when
    /// that time has passed, until an answer has said so.
    pub(super) taint: Option<u8>,
    pub(super) known: Option<Known>,
    /// The hold rests on this node, among others.
    pub(super) counted: bool,
    /// What this node said in the present round of renewals.
    pub(super) round: Option<bool>,
    pub(super) out: List<Request, 4>,
    /// Sent over a connection that has ended; may be run at any time.
    pub(super) stray: List<Request, 4>,
    pub(super) answers: List<Answer, 2>,
    /// Pushes may be overtaken by answers.
    pub(super) pushes: List<Push, 2>,
}

impl Link {
    fn new() -> Self {
        Self {
            entry: None,
            asked: 1,
            vote: 0,
            yielding: false,
            taint: None,
            known: None,
            counted: false,
            round: None,
            out: List::default(),
            stray: List::default(),
            answers: List::default(),
            pushes: List::default(),
        }
    }

    /// What the client keeps and what is on its way to it is gone.
    pub(super) fn forget(&mut self) {
        *self = Self { entry: self.entry, out: self.out, stray: self.stray, ..Self::new() };
    }

    pub(super) fn votes(&self) -> bool {
        self.vote > 0 && !self.yielding
    }

    /// A question with yield had no answer, so that what the node says may be undone.
    pub(super) fn is_tainted(&self) -> bool {
        self.taint.is_some() && !self.yielding
    }

    /// A client has at most two questions under way at a node.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() + self.answers.len() < 2
    }

    fn is_silent(&self) -> bool {
        self.out.is_empty() && self.stray.is_empty() && self.answers.is_empty() && self.pushes.is_empty()
    }

    /// Numbers of questions and places, to be changed.
    fn each_number(&mut self, mut number: impl FnMut(&mut u8)) {
        for entry in self.entry.iter_mut() {
            number(&mut entry.place);
        }
        self.known.iter_mut().for_each(|known| number(&mut known.place));
        self.out.iter_mut().chain(self.stray.iter_mut()).for_each(|request| number(&mut request.seq));
        self.pushes.iter_mut().for_each(|push| number(&mut push.place));
        for answer in self.answers.iter_mut() {
            if let Told::Others { place } = &mut answer.told {
                number(place);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) lock: Option<Lock>,
    /// How long its answers are no votes for new holds.
    pub(super) quarantine: u8,
    pub(super) down: bool,
    pub(super) links: [Link; CLIENTS],
    /// What it is called, which makes no difference.
    pub(super) name: char,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.lock, self.quarantine, self.down, self.links).hash(state);
    }
}

impl Node {
    /// Of numbers of questions and places only the order matters.
    fn rank(&mut self) {
        for link in &mut self.links {
            let mut used = 0_u64;
            link.each_number(|number| used |= 1 << *number);
            link.each_number(|number| *number = (used & ((1 << *number) - 1)).count_ones() as u8);
        }
    }

    /// A number larger than all that this client has used here and that are still known.
    pub(super) fn next_number(&self, client: usize) -> u8 {
        let mut highest = 0;
        self.links[client].clone().each_number(|number| highest = highest.max(*number + 1));
        highest
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Round {
    pub(super) age: u8,
    /// Enough nodes have said that the lock is still its own.
    pub(super) done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    /// Wants the lock, now or, by its plan, later.
    Wanting,
    /// Takes the lock for its own, for so long still.
    Holding {
        left: u8,
        round: Option<Round>,
    },
    Done,
    /// `noticed`: the nodes know that nobody is listening.
    Dead {
        noticed: bool,
    },
}

/// One attempt of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) phase: Phase,
    pub(super) plan: Plan,
    pub(super) ticket: u8,
    /// Those before it: they stood on a quorum of nodes before it began.
    pub(super) after: u8,
    /// Its key was deleted on a node, and then another held while it did.
    pub(super) rivalled: bool,
    /// Its key was deleted on a node.
    pub(super) robbed: bool,
    /// All nodes had renewed it in the same round then.
    pub(super) was_full: bool,
}

impl Client {
    pub(super) fn holds(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. })
    }

    pub(super) fn waits(&self) -> bool {
        self.phase == Phase::Wanting && self.plan == Plan::Wait
    }

    /// Pushes reach its process, as far as the nodes know.
    pub(super) fn hears(&self) -> bool {
        !matches!(self.phase, Phase::Dead { noticed: true })
    }
}

/// How many faults of each kind there can be, or can be still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A question, a renewal or a release takes its time, or its answer does.
    pub slow: u8,
    /// The pushes that come of one script take their time.
    pub slow_push: u8,
    /// The pushes that come of one script are lost.
    pub lose_push: u8,
    /// A connection ends. What was on its way to the client is lost; what was on its way to the node may still come, after
    /// what is sent over the next connection.
    pub break_off: u8,
    /// A client ends without a word.
    pub crash: u8,
    /// A waiter is told to wait no longer.
    pub cancel: u8,
    /// A node cannot be reached for as long as it likes.
    pub down: u8,
    /// A node restarts without its data.
    pub restart: u8,
    /// A node's clock steps ahead, and this is noticed before anybody asks it.
    pub step: u8,
    /// The same, and nobody notices.
    pub step_unnoticed: u8,
    /// Somebody deletes the key of the mutex on a node. Nobody can notice.
    pub vanish: u8,
    /// Clients that begin at the same time measure the time of the nodes differently.
    pub skew: u8,
}

/// The nodes, the network and the clients at one moment.
#[derive(Debug, Clone, Hash)]
pub struct State {
    pub(super) nodes: [Node; NODES],
    pub(super) clients: List<Client, CLIENTS>,
    pub(super) begun: u8,
    /// Something was lost or came late, so that something may be left until its lease ends.
    pub(super) untidy: bool,
    pub(super) left: Faults,
    pub(super) together: u8,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let node = |name| Node { lock: None, quarantine: 0, down: false, links: [Link::new(); CLIENTS], name };
        let mut clients = List::default();
        for plan in setup.plans {
            clients.push(Client {
                phase: Phase::Idle,
                plan: *plan,
                ticket: 0,
                after: 0,
                rivalled: false,
                robbed: false,
                was_full: false,
            });
        }
        Self {
            nodes: [node('1'), node('2'), node('3')],
            clients,
            begun: 0,
            untidy: false,
            left: setup.faults,
            together: setup.together,
        }
    }

    /// Whether a fault can happen of which there are so many left.
    pub(super) fn can(&self, left: u8) -> bool {
        left > 0 && self.together > 0
    }

    pub(super) fn client(&mut self, client: usize) -> &mut Client {
        self.clients.get_mut(client).expect("actions name clients that there are")
    }

    pub(super) fn get(&self, client: usize) -> Client {
        self.clients.get(client).expect("actions name clients that there are")
    }

    pub(super) fn link(&mut self, node: usize, client: usize) -> &mut Link {
        &mut self.nodes[node].links[client]
    }

    /// How many nodes vote for a client.
    pub(super) fn votes(&self, client: usize) -> usize {
        self.nodes.iter().filter(|node| node.links[client].votes()).count()
    }

    pub(super) fn is_silent(&self) -> bool {
        self.nodes.iter().all(|node| node.links.iter().all(Link::is_silent))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| node.lock.is_none() && node.links.iter().all(|link| link.entry.is_none()))
    }

    /// Nodes are alike, so states that differ only in which is which are one.
    pub(super) fn make_canonical(&mut self) {
        self.nodes.iter_mut().for_each(Node::rank);
        self.nodes.sort_by_cached_key(fingerprint);
    }

    /// Time passes, for all alike.
    pub(super) fn tick(&mut self) {
        for node in &mut self.nodes {
            node.pass(1);
            node.quarantine = node.quarantine.saturating_sub(1);
            for link in &mut node.links {
                link.vote = link.vote.saturating_sub(1);
                link.asked = 1;
                if let Some(known) = &mut link.known {
                    known.left -= 1;
                    if known.left == 0 {
                        link.known = None;
                    }
                }
                for request in link.out.iter_mut().chain(link.stray.iter_mut()) {
                    request.age = (request.age + 1).min(LEASE);
                }
                link.answers.iter_mut().for_each(|answer| answer.age = (answer.age + 1).min(LEASE));
            }
        }
    }
}

impl Node {
    /// Its clock goes ahead.
    pub(super) fn pass(&mut self, time: u8) {
        self.lock = self.lock.filter(|lock| lock.left > time).map(|lock| Lock { left: lock.left - time, ..lock });
        for link in &mut self.links {
            link.entry =
                link.entry.filter(|entry| entry.left > time).map(|entry| Entry { left: entry.left - time, ..entry });
            link.taint = link.taint.map(|taint| taint.saturating_sub(time));
            let requests = link.out.iter_mut().chain(link.stray.iter_mut());
            requests.for_each(|request| request.rest = request.rest.saturating_sub(time));
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, seq, rest, age } = self;
        match what {
            What::Ask { yields } => {
                write!(f, "Ask{seq}{} {age}", if *yields { format!("y{rest}") } else { String::new() })
            }
            _ => write!(f, "{what:?} {age}"),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}{}", self.told, self.age, if self.quarantine { " quarantined" } else { "" })
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "granted@{}{}", self.place, if self.quarantine { " quarantined" } else { "" })
    }
}

/// `node: owner left, queue as client@place left; vote left, what is under way | ... || clients`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |client: usize| (b'A' + client as u8) as char;
        let mut nodes = self.nodes;
        nodes.sort_by_key(|node| node.name);
        for node in nodes {
            write!(f, "{}: ", node.name)?;
            match node.lock {
                Some(lock) => write!(f, "{} {}", name(lock.owner.into()), lock.left)?,
                None => write!(f, "free")?,
            }
            if node.down {
                write!(f, " DOWN")?;
            }
            if node.quarantine > 0 {
                write!(f, " QUARANTINE {}", node.quarantine)?;
            }
            for (client, link) in node.links.iter().enumerate() {
                if let Some(entry) = link.entry {
                    write!(f, ", {}@{} {}", name(client), entry.place, entry.left)?;
                }
            }
            for (client, link) in node.links.iter().enumerate() {
                let who = name(client);
                if link.vote > 0 {
                    write!(f, "; votes {who} {}{}", link.vote, if link.yielding { " (yielding)" } else { "" })?;
                } else if link.yielding {
                    write!(f, "; {who} yielding")?;
                }
                if let Some(taint) = link.taint.filter(|_| !link.yielding) {
                    write!(f, "; {who} tainted {taint}")?;
                }
                if link.counted {
                    write!(f, "; counted by {who}")?;
                }
                for (sign, list) in [('>', link.out), ('~', link.stray)].iter().filter(|(_, list)| !list.is_empty()) {
                    write!(f, "; {who}{sign}{:?}", list.iter().collect::<Vec<_>>())?;
                }
                if !link.answers.is_empty() {
                    write!(f, "; {who}<{:?}", link.answers.iter().collect::<Vec<_>>())?;
                }
                if !link.pushes.is_empty() {
                    write!(f, "; {who}<{:?}", link.pushes.iter().collect::<Vec<_>>())?;
                }
            }
            write!(f, " | ")?;
        }
        for (at, client) in self.clients.iter().enumerate() {
            match client.phase {
                Phase::Holding { left, .. } => write!(f, " {} HOLDS {left}", name(at))?,
                phase => write!(f, " {} {phase:?}", name(at))?,
            }
        }
        Ok(())
    }
}
