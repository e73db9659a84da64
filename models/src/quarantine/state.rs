//! What the nodes have and what the clients know at one moment. All times are how long still.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::{CLIENTS, NODES, Q, Setup};
use crate::explore::fingerprint;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) owner: u8,
    pub(super) left: u8,
}

/// What stands in the place of the nonce while a node has never had a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Nonce {
    /// The present one of this entering client.
    By(u8),
    /// An earlier one, which nobody will put there again.
    Other,
}

/// What a node knows about the set that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Notes {
    pub(super) nonce: Option<Nonce>,
    /// How long the quarantine lasts.
    pub(super) left: u8,
    /// They are of the time before the node was started anew, and nobody has looked since.
    pub(super) stale: bool,
}

/// What an entering client knows of one node, or is to do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Seen {
    /// It is done with it for now.
    Nothing,
    /// It is this node's turn.
    Due,
    /// The nonce that was seen there is there still.
    Same,
    /// It is not there any more.
    Changed,
}

impl Entering {
    /// Whether there is something to do at a node of which this is known.
    pub(super) fn is_due(self, seen: Seen) -> bool {
        match self {
            Self::Idle => false,
            Self::Asking | Self::Lifting => seen == Seen::Due,
            Self::Claiming => seen != Seen::Nothing,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Entering {
    Idle,
    /// Enters all that belong to no set, and sees which nonce each node has.
    Asking,
    Claiming,
    Lifting,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) notes: Option<Notes>,
    pub(super) lock: Option<Lock>,
    /// How long the locking clients take the lock for theirs here.
    pub(super) votes: [u8; CLIENTS],
    pub(super) seen: [Seen; CLIENTS],
    /// The locking clients have found it open once; of those that don't know a quorum of such nodes yet.
    pub(super) found_open: [bool; CLIENTS],
    /// What it is called, which makes no difference.
    pub(super) name: char,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.notes, self.lock, self.votes, self.seen, self.found_open).hash(state);
    }
}

impl Node {
    /// The nonce is another one, or is gone.
    pub(super) fn changed(&mut self) {
        for seen in self.seen.iter_mut().filter(|seen| **seen == Seen::Same) {
            *seen = Seen::Changed;
        }
    }

    pub(super) fn set_nonce(&mut self, nonce: Option<Nonce>) {
        if let Some(notes) = &mut self.notes
            && (notes.nonce != nonce || nonce == Some(Nonce::Other))
        {
            notes.nonce = nonce;
            self.changed();
        }
    }

    /// Whoever looks finds that the node was started anew.
    pub(super) fn look(&mut self, lease: u8) {
        if let Some(notes) = &mut self.notes
            && notes.stale
        {
            *notes = Notes { nonce: None, left: lease, stale: false };
            self.changed();
        }
    }
}

/// The nodes and the clients at one moment.
#[derive(Debug, Clone, Hash)]
pub struct State {
    pub(super) nodes: [Node; NODES],
    pub(super) entering: [Entering; CLIENTS],
    /// The locking clients know that a quorum of the nodes has been open once.
    pub(super) opened: [bool; CLIENTS],
    pub(super) losses: u8,
    pub(super) restarts: u8,
    entering_clients: usize,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let notes = setup.used.then_some(Notes { nonce: None, left: 0, stale: false });
        let node = |name| Node {
            notes,
            lock: None,
            votes: [0; CLIENTS],
            seen: [Seen::Nothing; CLIENTS],
            found_open: [false; CLIENTS],
            name,
        };
        Self {
            nodes: [node('1'), node('2'), node('3')],
            entering: [Entering::Idle; CLIENTS],
            opened: [false; CLIENTS],
            losses: setup.losses,
            restarts: setup.restarts,
            entering_clients: setup.entering,
        }
    }

    pub(super) fn holds(&self, client: usize) -> bool {
        self.nodes.iter().filter(|node| node.votes[client] > 0).count() >= Q
    }

    /// What a locking client has found out.
    pub(super) fn learn(&mut self, client: usize) {
        self.opened[client] |= self.nodes.iter().filter(|node| node.found_open[client]).count() >= Q;
        if self.opened[client] {
            self.nodes.iter_mut().for_each(|node| node.found_open[client] = false);
        }
    }

    /// An entering client goes to its next step, with all nodes.
    pub(super) fn turn(&mut self, client: usize, entering: Entering) {
        self.entering[client] = entering;
        self.nodes.iter_mut().for_each(|node| node.seen[client] = Seen::Due);
    }

    /// An entering client is done; its nonce will not be used again.
    pub(super) fn stop(&mut self, client: usize) {
        self.entering[client] = Entering::Idle;
        for node in &mut self.nodes {
            node.seen[client] = Seen::Nothing;
            let notes = node.notes.as_mut().filter(|notes| notes.nonce == Some(Nonce::By(client as u8)));
            notes.into_iter().for_each(|notes| notes.nonce = Some(Nonce::Other));
        }
    }

    pub(super) fn tick(&mut self, nonces_stay: bool) {
        for node in &mut self.nodes {
            node.lock = node.lock.filter(|lock| lock.left > 1).map(|lock| Lock { left: lock.left - 1, ..lock });
            node.votes.iter_mut().for_each(|left| *left = left.saturating_sub(1));
            if let Some(notes) = node.notes.as_mut().filter(|notes| notes.left > 0) {
                notes.left -= 1;
                // From now on the node can be used.
                if notes.left == 0 && !nonces_stay {
                    node.set_nonce(None);
                }
            }
        }
    }

    /// Nodes are alike, and clients of the same sort, so states that differ only in which is which are one.
    pub(super) fn make_canonical(&mut self) {
        let mut best: Option<(u64, Self)> = None;
        // A client that can never enter nodes is not like one that does.
        let both = self.entering_clients > 1;
        let all = [(false, false), (true, false), (false, true), (true, true)];
        for (swap_locking, swap_entering) in all.into_iter().take(if both { 4 } else { 2 }) {
            let mut one = self.clone();
            if swap_locking {
                one.swap_locking();
            }
            if swap_entering {
                one.swap_entering();
            }
            one.nodes.sort_by_cached_key(fingerprint);
            let print = fingerprint(&one);
            if best.as_ref().is_none_or(|(least, _)| print < *least) {
                best = Some((print, one));
            }
        }
        if let Some((_, one)) = best {
            *self = one;
        }
    }

    fn swap_locking(&mut self) {
        self.opened.swap(0, 1);
        for node in &mut self.nodes {
            node.votes.swap(0, 1);
            node.found_open.swap(0, 1);
            node.lock.iter_mut().for_each(|lock| lock.owner = 1 - lock.owner);
        }
    }

    fn swap_entering(&mut self) {
        self.entering.swap(0, 1);
        for node in &mut self.nodes {
            node.seen.swap(0, 1);
            if let Some(Notes { nonce: Some(Nonce::By(client)), .. }) = &mut node.notes {
                *client = 1 - *client;
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.nodes;
        nodes.sort_by_key(|node| node.name);
        for node in nodes {
            write!(f, "{}: ", node.name)?;
            match node.notes {
                None => write!(f, "unknown")?,
                Some(Notes { nonce, left, stale }) => {
                    match nonce {
                        None => write!(f, "used")?,
                        Some(Nonce::By(client)) => write!(f, "nonce of {}", (b'X' + client) as char)?,
                        Some(Nonce::Other) => write!(f, "a nonce")?,
                    }
                    write!(f, "{}", if stale { ", started anew" } else { "" })?;
                    if left > 0 {
                        write!(f, ", quarantine {left}")?;
                    }
                }
            }
            if let Some(lock) = node.lock {
                write!(f, ", lock {} {}", (b'A' + lock.owner) as char, lock.left)?;
            }
            for (client, left) in node.votes.iter().enumerate().filter(|(_, left)| **left > 0) {
                write!(f, ", votes {} {left}", (b'A' + client as u8) as char)?;
            }
            write!(f, ", {:?} | ", node.seen)?;
        }
        write!(f, "X {:?}, Y {:?}; opened {:?}", self.entering[0], self.entering[1], self.opened)
    }
}
