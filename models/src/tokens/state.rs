//! What the nodes have and what the clients know at one moment.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::{CLIENTS, FIRST, NODES, Setup};
use crate::explore::fingerprint;

/// Who has ended and left a key behind.
const NOBODY: u8 = CLIENTS as u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) owner: u8,
    pub(super) token: u8,
}

/// What a client has sent to a node that has not been run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Open {
    Nothing,
    Raise {
        token: u8,
        /// The client waits for the answer.
        heard: bool,
    },
    Mint,
}

impl Open {
    /// Nobody waits for the answer any more.
    pub(super) fn unheard(self) -> Self {
        match self {
            Self::Raise { token, .. } => Self::Raise { token, heard: false },
            other => other,
        }
    }
}

/// What a client knows of a node, and what is on its way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// The client takes the key for its own.
    pub(super) valid: bool,
    /// The token that the node gave.
    pub(super) given: Option<u8>,
    /// The node gives no smaller token than the one that is being agreed upon.
    pub(super) raised: bool,
    pub(super) open: Open,
}

impl Link {
    const NEW: Self = Self { valid: false, given: None, raised: false, open: Open::Nothing };

    /// A token has been agreed upon, or not.
    pub(super) fn settle(&mut self) {
        (self.given, self.raised, self.open) = (None, false, self.open.unheard());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Wanting,
    Agreeing {
        token: u8,
        /// It is a hold that goes on.
        holds: bool,
    },
    Holding {
        token: u8,
    },
    Minting,
}

impl Phase {
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Agreeing { holds: true, .. } | Self::Holding { .. } | Self::Minting)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) lock: Option<Lock>,
    /// The last token that was given here.
    pub(super) counter: Option<u8>,
    /// A token was given in this tick.
    pub(super) minted: bool,
    pub(super) quarantine: bool,
    /// How long it does nothing.
    pub(super) away: u8,
    pub(super) links: [Link; CLIENTS],
    /// What it is called, which makes no difference.
    pub(super) name: char,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.lock, self.counter, self.minted, self.quarantine, self.away, self.links).hash(state);
    }
}

impl Node {
    pub(super) fn is_of(&self, client: usize) -> bool {
        self.lock.is_some_and(|lock| usize::from(lock.owner) == client)
    }

    /// A client's votes with a key end with it at the latest, its own clock being as good as the node's.
    pub(super) fn free(&mut self) {
        if let Some(lock) = self.lock.take()
            && let Some(link) = self.links.get_mut(usize::from(lock.owner))
        {
            link.valid = false;
            link.given = None;
        }
    }

    pub(super) fn end_quarantine(&mut self) {
        self.quarantine = false;
        for client in 0..CLIENTS {
            if !self.is_of(client) {
                (self.links[client].valid, self.links[client].given) = (false, None);
            }
        }
    }
}

/// The nodes and the clients at one moment.
#[derive(Debug, Clone, Hash)]
pub struct State {
    pub(super) nodes: [Node; NODES],
    pub(super) clients: [Phase; CLIENTS],
    /// The token of the last holder.
    pub(super) last: u8,
    pub(super) now: u8,
    pub(super) mints: u8,
    pub(super) losses: u8,
    pub(super) ticks: u8,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let node = |name| Node {
            lock: None,
            counter: None,
            minted: false,
            quarantine: false,
            away: 0,
            links: [Link::NEW; CLIENTS],
            name,
        };
        Self {
            nodes: [node('1'), node('2'), node('3')],
            clients: [Phase::Wanting; CLIENTS],
            last: 0,
            now: FIRST,
            mints: setup.mints,
            losses: setup.losses,
            ticks: setup.ticks,
        }
    }

    pub(super) fn tick(&mut self) {
        self.ticks -= 1;
        self.now += 1;
        for node in &mut self.nodes {
            (node.minted, node.away) = (false, node.away.saturating_sub(1));
        }
    }

    pub(super) fn end(&mut self, client: usize) {
        self.clients[client] = Phase::Wanting;
        for node in &mut self.nodes {
            node.links[client] = Link::NEW;
            node.lock.iter_mut().filter(|lock| usize::from(lock.owner) == client).for_each(|lock| lock.owner = NOBODY);
        }
    }

    /// Nodes are alike, so states that differ only in which is which are one.
    pub(super) fn make_canonical(&mut self) {
        self.nodes.sort_by_cached_key(fingerprint);
    }
}

/// `node: owner.token, last token; what clients know | ... || clients, time`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |client: usize| (b'A' + client as u8) as char;
        let mut nodes = self.nodes;
        nodes.sort_by_key(|node| node.name);
        for node in nodes {
            write!(f, "{}: ", node.name)?;
            match node.lock {
                Some(Lock { owner: NOBODY, token }) => write!(f, "left.{token}")?,
                Some(lock) => write!(f, "{}.{}", name(lock.owner.into()), lock.token)?,
                None => write!(f, "free")?,
            }
            match node.counter {
                Some(last) => write!(f, ", last {last}")?,
                None => write!(f, ", no counter")?,
            }
            if node.quarantine {
                write!(f, " QUARANTINE")?;
            }
            if node.away > 0 {
                write!(f, " AWAY {}", node.away)?;
            }
            for (client, link) in node.links.iter().enumerate().filter(|(_, link)| **link != Link::NEW) {
                write!(f, "; {}", name(client))?;
                for (word, is) in [("valid", link.valid), ("raised", link.raised)] {
                    write!(f, "{}", if is { format!(" {word}") } else { String::new() })?;
                }
                if let Some(given) = link.given {
                    write!(f, " given {given}")?;
                }
                if link.open != Open::Nothing {
                    write!(f, " {:?}", link.open)?;
                }
            }
            write!(f, " | ")?;
        }
        for (client, phase) in self.clients.iter().enumerate() {
            write!(f, " {} {phase:?}", name(client))?;
        }
        write!(f, ", time {}", self.now)
    }
}
