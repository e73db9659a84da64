//! A TCP proxy between a client and a server that loses, delays and cuts what a test wants.

mod connection;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use connection::Connection;

/// How often a thread that has nothing to do looks whether that has changed.
const POLL: Duration = Duration::from_millis(1);
/// How long a server may take to accept a connection, and a port to become free again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Pass,
    /// They wait until the flow changes, as behind a network that is down for a while. So does a close.
    Hold,
    /// They are lost for good. A close waits.
    Drop,
}

/// How connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As by an orderly end of the other side.
    Close,
    /// As by a crash: the peers see a reset. (On Windows as [`Self::Close`].)
    Reset,
}

/// The directions of a connection, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

#[derive(Debug, Default)]
struct Rules {
    flow: [Flow; 2],
    delay: [Duration; 2],
    lose: Option<Lose>,
}

#[derive(Debug)]
struct Lose {
    needle: Vec<u8>,
    skip: usize,
}

#[derive(Debug, Default)]
struct State {
    rules: Mutex<Rules>,
    /// The ones that may still be open.
    connections: Mutex<Vec<Weak<Connection>>>,
    listener: Mutex<Option<TcpListener>>,
    stop: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    passed: [AtomicUsize; 2],
    lost_replies: AtomicUsize,
}

/// A proxy on a port of 127.0.0.1. Everything passes until it is told otherwise; what it is told goes for connections
/// that exist as well as for new ones. Dropping it closes all.
///
/// A client whose server is down is accepted and cut at once.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy before a server on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub fn before(port: u16) -> io::Result<Self> {
        Self::start((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Starts a proxy before the server at this address.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = listen(0)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State { listener: Mutex::new(Some(listener)), ..State::default() });
        let shared = state.clone();
        let acceptor = thread::Builder::new().name("proxy".to_owned()).spawn(move || accept(&shared, target))?;
        Ok(Self { state, port, acceptor: Some(acceptor) })
    }

    /// Where clients connect to: a port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets everything pass again, at once and to the end: both directions, new connections, and a reply that was
    /// still to be lost.
    ///
    /// # Errors
    ///
    /// When new connections were refused, and somebody else has taken the port since.
    pub fn pass(&self) -> io::Result<()> {
        *self.state.rules() = Rules::default();
        self.accept_again()
    }

    /// From now on, what happens to the bytes from clients to the server, also to those that are on their way.
    pub fn requests(&self, flow: Flow) {
        self.state.rules().flow[Way::Requests as usize] = flow;
    }

    /// From now on, what happens to the bytes from the server to clients, also to those that are on their way.
    pub fn replies(&self, flow: Flow) {
        self.state.rules().flow[Way::Replies as usize] = flow;
    }

    /// From now on, how long the bytes of each direction are on their way.
    pub fn delay(&self, requests: Duration, replies: Duration) {
        self.state.rules().delay = [requests, replies];
    }

    /// Has the reply to a request be lost, though the server gets the request: the first one with `needle` in its bytes,
    /// after `skip` others with it. All replies on its connection are lost from then on; once the server has replied and
    /// then been silent for 20 ms the connection is cut. Happens once; [`Self::lost_replies`] tells when.
    ///
    /// # Panics
    ///
    /// When the needle is empty.
    pub fn lose_reply(&self, needle: impl Into<Vec<u8>>, skip: usize) {
        let needle = needle.into();
        assert!(!needle.is_empty(), "an empty needle is in every request");
        self.state.rules().lose = Some(Lose { needle, skip });
    }

    /// How many replies were lost, and their connections cut, because of [`Self::lose_reply`].
    pub fn lost_replies(&self) -> usize {
        self.state.lost_replies.load(Ordering::SeqCst)
    }

    /// Waits until this many replies were lost because of [`Self::lose_reply`]. `false`: not in this time.
    pub fn wait_lost_replies(&self, count: usize, within: Duration) -> bool {
        wait(within, || self.lost_replies() >= count)
    }

    /// Cuts all connections that exist, and returns when they are cut.
    ///
    /// # Panics
    ///
    /// When that can't be done within 5 seconds.
    pub fn cut(&self, how: Cut) {
        // Without the lock none is accepted in between.
        let _listener = lock(&self.state.listener);
        for connection in lock(&self.state.connections).drain(..).filter_map(|connection| connection.upgrade()) {
            connection.cut(how);
        }
        assert!(wait(PATIENCE, || self.open_connections() == 0), "the proxy's connections don't end");
    }

    /// Refuses new connections from now on, as if nobody listened on the port. Those that exist go on.
    pub fn refuse(&self) {
        lock(&self.state.listener).take();
    }

    /// Accepts new connections again.
    ///
    /// # Errors
    ///
    /// When somebody else has taken the port since.
    pub fn accept_again(&self) -> io::Result<()> {
        let mut listener = lock(&self.state.listener);
        let start = Instant::now();
        while listener.is_none() {
            match listen(self.port) {
                Ok(again) => *listener = Some(again),
                // A socket of a client that was given the number; most don't live long.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                    thread::sleep(POLL);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// How many bytes were passed on to the server so far.
    pub fn request_bytes(&self) -> usize {
        self.state.passed[Way::Requests as usize].load(Ordering::SeqCst)
    }

    /// How many bytes were passed on to clients so far.
    pub fn reply_bytes(&self) -> usize {
        self.state.passed[Way::Replies as usize].load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.refuse();
        if let Some(acceptor) = self.acceptor.take() {
            // It only panics if a thread can't be started, and has said so then.
            let _ = acceptor.join();
        }
        for connection in lock(&self.state.connections).drain(..).filter_map(|connection| connection.upgrade()) {
            connection.cut(Cut::Close);
        }
        if !wait(PATIENCE, || self.open_connections() == 0) {
            eprintln!("{} connections of the proxy don't end", self.open_connections());
        }
    }
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }
}

/// Nothing that is locked here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > within {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(state: &Arc<State>, target: SocketAddr) {
    while !state.stop.load(Ordering::SeqCst) {
        if !accept_one(state, target) {
            thread::sleep(POLL);
        }
    }
}

/// `false`: nobody was there.
fn accept_one(state: &Arc<State>, target: SocketAddr) -> bool {
    let listener = lock(&state.listener);
    let Some(Ok((client, _))) = listener.as_ref().map(TcpListener::accept) else { return false };
    state.accepted.fetch_add(1, Ordering::SeqCst);
    let connection = TcpStream::connect_timeout(&target, PATIENCE)
        .and_then(|server| connection::start(state.clone(), client, server));
    // A server that is down: the client is dropped, and so cut.
    if let Ok(connection) = connection {
        let mut connections = lock(&state.connections);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&connection));
    }
    true
}
