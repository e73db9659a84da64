//! One session, as every thread may see it.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::wire::packet::Message;

/// What the thread that carries out requests finds.
#[derive(Debug)]
pub(crate) enum Item {
    Request(Message),
    /// The n-th attention.
    Attention(u64),
    /// The client is gone, or sent what isn't TDS.
    End,
    Killed,
}

/// What interrupts a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Attention,
    Gone,
    Killed,
}

/// What others see of the session's work.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    pub(crate) database: String,
    pub(crate) running: bool,
    pub(crate) transactions: u32,
    pub(crate) lock_timeout: i64,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) idle_since: Instant,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: i32,
    pub(crate) login: String,
    pub(crate) host: String,
    pub(crate) program: String,
    pub(crate) process: u32,
    pub(crate) client: SocketAddr,
    pub(crate) encrypted: bool,
    pub(crate) logged_in: SystemTime,
    pub(crate) deadlock_priority: AtomicI32,
    /// With the server's lock table: something happened that ends a wait.
    pub(crate) woken: Condvar,
    stream: TcpStream,
    activity: Mutex<Activity>,
    attentions: AtomicU64,
    answered: AtomicU64,
    gone: AtomicBool,
    killed: AtomicBool,
    inbox: Mutex<VecDeque<Item>>,
    arrived: Condvar,
}

/// What is known of a session from its login.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) login: String,
    pub(crate) host: String,
    pub(crate) program: String,
    pub(crate) process: u32,
    pub(crate) database: String,
    pub(crate) encrypted: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn new(id: i32, identity: Identity, stream: TcpStream, client: SocketAddr) -> Self {
        let now = SystemTime::now();
        let activity = Activity {
            database: identity.database,
            running: false,
            transactions: 0,
            lock_timeout: -1,
            began: now,
            ended: now,
            idle_since: Instant::now(),
        };
        Self {
            id,
            login: identity.login,
            host: identity.host,
            program: identity.program,
            process: identity.process,
            client,
            encrypted: identity.encrypted,
            logged_in: now,
            deadlock_priority: AtomicI32::new(0),
            woken: Condvar::new(),
            stream,
            activity: Mutex::new(activity),
            attentions: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    pub(crate) fn activity(&self) -> Activity {
        locked(&self.activity).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Activity)) {
        change(&mut locked(&self.activity));
    }

    /// What ends the statement that runs, if anything does.
    pub(crate) fn interrupted(&self) -> Option<Interrupt> {
        if self.killed.load(Ordering::SeqCst) {
            Some(Interrupt::Killed)
        } else if self.gone.load(Ordering::SeqCst) {
            Some(Interrupt::Gone)
        } else if self.attention_pending() {
            Some(Interrupt::Attention)
        } else {
            None
        }
    }

    pub(crate) fn attention_pending(&self) -> bool {
        self.attentions.load(Ordering::SeqCst) > self.answered.load(Ordering::SeqCst)
    }

    /// Says that every attention so far is answered.
    pub(crate) fn answer_attention(&self) {
        self.answered.store(self.attentions.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether the n-th attention is answered.
    pub(crate) fn answered(&self, attention: u64) -> bool {
        self.answered.load(Ordering::SeqCst) >= attention
    }

    /// Puts something into the inbox. The caller wakes the session if it may wait for a lock.
    pub(crate) fn post(&self, item: Item) {
        // Whoever looks at these and then waits holds the inbox.
        let mut inbox = locked(&self.inbox);
        match item {
            Item::End => self.gone.store(true, Ordering::SeqCst),
            Item::Killed => self.killed.store(true, Ordering::SeqCst),
            Item::Request(_) | Item::Attention(_) => {}
        }
        inbox.push_back(item);
        drop(inbox);
        self.arrived.notify_all();
    }

    /// An attention came.
    pub(crate) fn post_attention(&self) {
        let mut inbox = locked(&self.inbox);
        let number = self.attentions.fetch_add(1, Ordering::SeqCst) + 1;
        inbox.push_back(Item::Attention(number));
        drop(inbox);
        self.arrived.notify_all();
    }

    /// The next item. A session that was killed or whose client is gone does nothing else any more.
    pub(crate) fn next(&self) -> Item {
        let mut inbox = locked(&self.inbox);
        loop {
            if self.killed.load(Ordering::SeqCst) {
                return Item::Killed;
            }
            if self.gone.load(Ordering::SeqCst) {
                return Item::End;
            }
            if let Some(item) = inbox.pop_front() {
                return item;
            }
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until an attention or the end comes.
    pub(crate) fn wait_for_interrupt(&self) -> Interrupt {
        let mut inbox = locked(&self.inbox);
        loop {
            if let Some(interrupt) = self.interrupted() {
                return interrupt;
            }
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the client is gone, or the session was killed.
    pub(crate) fn wait_for_end(&self) {
        let mut inbox = locked(&self.inbox);
        while !matches!(self.interrupted(), Some(Interrupt::Gone | Interrupt::Killed)) {
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the connection.
    pub(crate) fn disconnect(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
