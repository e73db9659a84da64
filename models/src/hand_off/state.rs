//! What the server, the network and the clients look like at one moment. All times are relative to it: how old, or how
//! long still.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::Setup;
use crate::list::List;

/// One attempt of one client: what the id of an attempt stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) client: u8,
    pub(super) attempt: u8,
}

/// The key of the mutex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) owner: Id,
    pub(super) token: u8,
    /// How long until the key expires.
    pub(super) left: u8,
    /// Hand-offs in a row.
    pub(super) count: u8,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) ticket: u8,
    /// How long it counts as alive; 0: it is dead, but still there.
    pub(super) left: u8,
}

/// What a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) what: What,
    pub(super) attempt: u8,
    /// Whether the client still wants the answer.
    pub(super) awaited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum What {
    Acquire,
    Renew,
    Release,
    /// A release that leaves the queue as well.
    Abandon,
}

/// What a client is sent. Answers are always those to its present attempt's last question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Message {
    Ours {
        token: u8,
    },
    Others {
        ticket: u8,
    },
    Renewed,
    Gone,
    /// Pushed.
    Granted {
        attempt: u8,
        ticket: u8,
        token: u8,
    },
    /// Pushed.
    Free {
        attempt: u8,
    },
}

impl Message {
    pub(super) fn is_push(self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Free { .. })
    }
}

/// Pushes that came while the client was waiting for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Mail {
    /// Tickets with their tokens.
    pub(super) granted: List<(u8, u8), 4>,
    pub(super) free: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    /// Asks, or is about to. `sent`: how long ago it did.
    Asking {
        sent: Option<u8>,
        mail: Mail,
    },
    /// Has a place in the queue, by the answer to what it sent so long ago.
    Listening {
        sent: u8,
        ticket: u8,
    },
    /// Takes the lock for its own, for so long still. `renewing`: how long ago the renewal under way was sent.
    Holding {
        left: u8,
        renewing: Option<u8>,
    },
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) phase: Phase,
    /// The number of the present attempt, or of the last one.
    pub(super) attempt: u8,
    pub(super) attempts_left: u8,
    /// It has a connection.
    pub(super) connected: bool,
    /// The server takes a connection for open that is not.
    pub(super) ghost: bool,
    /// On their way to the server, in order.
    pub(super) out: List<Request, 6>,
    /// On their way over a connection that the client has given up.
    pub(super) stray: List<Request, 8>,
    /// On their way from the server, in order.
    pub(super) inbox: List<Message, 6>,
    /// To be given back as soon as there is a connection.
    pub(super) back: List<Request, 4>,
}

impl Client {
    /// Nothing of it is under way.
    pub(super) fn is_silent(&self) -> bool {
        self.out.is_empty() && self.stray.is_empty() && self.inbox.is_empty() && self.back.is_empty()
    }
}

/// How many faults of each kind there can be, or can be still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A connection ends. What was on its way to the client is lost; what was on its way to the server may still come,
    /// after what is sent over the next connection.
    pub break_off: u8,
    /// A push is lost.
    pub lose_push: u8,
    /// An answer is lost.
    pub lose_reply: u8,
    /// A client asks again although its question is only slow.
    pub give_up: u8,
    /// A client ends without a word.
    pub crash: u8,
    /// A waiter is told to wait no longer.
    pub cancel: u8,
    /// The server's clock is set back.
    pub step_back: u8,
}

/// What the clients are called, which makes no difference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names(pub(super) [char; 3]);

impl Hash for Names {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The server, the network and the clients at one moment. All times are relative to it.
#[derive(Debug, Clone, Hash)]
pub struct State {
    pub(super) lock: Option<Lock>,
    pub(super) queue: List<Entry, 6>,
    /// The last token.
    pub(super) counter: u8,
    /// The server's clock is behind numbers that it has given out.
    pub(super) behind: bool,
    pub(super) clients: List<Client, 3>,
    /// The token of the last client that took the lock for its own.
    pub(super) highest: u8,
    /// An acquire came over a connection that its client had given up: then what it takes stays until the lease ends.
    pub(super) strayed: bool,
    pub(super) left: Faults,
    pub(super) together: u8,
    pub(super) names: Names,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Time passes.
    Tick,
    /// An attempt begins.
    Begin,
    /// A waiter asks for the lock or its place.
    Ask,
    /// The server runs the client's first script under way.
    Serve,
    /// The same, over a connection that the client has given up.
    ServeStray,
    /// The client reads what was sent to it first.
    Hear,
    /// The client waits no longer for an answer.
    GiveUp,
    /// The waiter gives up.
    Cancel,
    /// The holder renews.
    Renew,
    /// The holder releases.
    Release,
    /// What was to be given back when there is a connection is.
    Return,
    /// The connection ends.
    Break,
    /// The server finds that a connection has ended.
    Notice,
    /// The first push under way is lost.
    LosePush,
    /// The first answer under way is lost.
    LoseReply,
    /// The client ends.
    Crash,
    /// The server's clock is set back.
    StepBack,
}

/// What can happen, and to which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Its number.
    pub client: u8,
    /// What it is.
    pub act: Act,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let client = |attempts_left| Client {
            phase: Phase::Idle,
            attempt: 0,
            attempts_left,
            connected: true,
            ghost: false,
            out: List::default(),
            stray: List::default(),
            inbox: List::default(),
            back: List::default(),
        };
        let mut all = List::default();
        for &attempts in &setup.attempts[..setup.clients] {
            all.push(client(attempts));
        }
        Self {
            lock: None,
            queue: List::default(),
            counter: 0,
            behind: false,
            clients: all,
            highest: 0,
            strayed: false,
            left: setup.faults,
            together: setup.together,
            names: Names(['A', 'B', 'C']),
        }
    }

    /// Whether a fault can happen of which there are so many left.
    pub(super) fn can(&self, left: u8) -> bool {
        left > 0 && self.together > 0
    }

    /// The client of this number.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(super) fn client(&mut self, client: usize) -> &mut Client {
        self.clients.get_mut(client).expect("actions name clients that there are")
    }
}

impl State {
    fn name(&self, client: impl Into<usize>) -> char {
        self.names.0.get(client.into()).copied().unwrap_or('?')
    }

    /// What is about to happen, with the name of the client.
    pub(super) fn show(&self, Action { client, act }: Action) -> String {
        match act {
            Act::Tick | Act::StepBack => format!("{act:?}"),
            _ => format!("{} {act:?}", self.name(client)),
        }
    }

    fn id(&self, id: Id) -> String {
        format!("{}{}", self.name(id.client), id.attempt)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}{}", self.what, self.attempt, if self.awaited { "" } else { "*" })
    }
}

/// `server | clients`: the key as `owner#token left`, the queue as `id@ticket left`, each client with its phase and what
/// is under way (`>` to the server, `~` over a lost connection, `<` from it). Numbers of tokens and tickets are ranks.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lock {
            Some(lock) => write!(f, "{}#{} {}", self.id(lock.owner), lock.token, lock.left)?,
            None => write!(f, "free")?,
        }
        for entry in self.queue.iter() {
            write!(f, ", {}@{} {}", self.id(entry.id), entry.ticket, entry.left)?;
        }
        let mut clients: Vec<_> = self.names.0.into_iter().zip(self.clients.iter()).collect();
        clients.sort_by_key(|(name, _)| *name);
        for (name, client) in clients {
            write!(f, " | {name} ")?;
            match client.phase {
                Phase::Idle => write!(f, "idle")?,
                Phase::Asking { sent: None, .. } => write!(f, "to ask")?,
                Phase::Asking { sent: Some(sent), mail } => {
                    write!(f, "asks for {sent}")?;
                    for (ticket, token) in mail.granted.iter() {
                        write!(f, ", mail @{ticket}#{token}")?;
                    }
                }
                Phase::Listening { sent, ticket } => write!(f, "waits @{ticket}, sent {sent} ago")?,
                Phase::Holding { left, .. } => write!(f, "HOLDS for {left}")?,
                Phase::Dead => write!(f, "dead")?,
            }
            let lists = [('>', client.out.iter().collect::<Vec<_>>()), ('~', client.stray.iter().collect())];
            for (sign, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
                write!(f, " {sign}{list:?}")?;
            }
            if !client.inbox.is_empty() {
                write!(f, " <{:?}", client.inbox.iter().collect::<Vec<_>>())?;
            }
            if !client.connected {
                write!(f, " cut off{}", if client.ghost { ", unnoticed" } else { "" })?;
            }
        }
        Ok(())
    }
}
