//! One connection: in each direction a thread that reads and one that writes, so that a delay is no bottleneck.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cut, Flow, POLL, State, Way};

/// A server that says nothing for this long has replied to all that it got.
const QUIET: Duration = Duration::from_millis(20);
/// How often a write that the peer doesn't take looks whether the connection was cut.
const WRITE_SLICE: Duration = Duration::from_millis(20);

/// See the [module](self). It ends, and its sockets are closed, when its four threads have.
#[derive(Debug)]
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
    /// Whether replies are lost from now on, for [`super::Proxy::lose_reply`].
    is_losing: AtomicBool,
    // The last field: it is counted as open until the sockets are closed.
    open: Open,
}

#[derive(Debug)]
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a reader hands to its writer.
enum Piece {
    Bytes(Vec<u8>, Instant),
    End,
}

/// Starts to pass on what comes.
pub(super) fn start(state: Arc<State>, client: TcpStream, server: TcpStream) -> io::Result<Arc<Connection>> {
    for stream in [&client, &server] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_SLICE))?;
    }
    state.open.fetch_add(1, Ordering::SeqCst);
    let (is_cut, is_losing) = (AtomicBool::new(false), AtomicBool::new(false));
    let connection = Arc::new(Connection { client, server, is_cut, is_losing, open: Open(state) });
    let started = start_threads(&connection);
    if started.is_err() {
        connection.cut(Cut::Close);
    }
    started.map(|()| connection)
}

fn start_threads(connection: &Arc<Connection>) -> io::Result<()> {
    for way in [Way::Requests, Way::Replies] {
        let (sender, receiver) = mpsc::channel();
        let (reading, writing) = (connection.clone(), connection.clone());
        thread::Builder::new().name("proxy-read".to_owned()).spawn(move || reading.read(way, &sender))?;
        thread::Builder::new().name("proxy-write".to_owned()).spawn(move || writing.write(way, &receiver))?;
    }
    Ok(())
}

impl Connection {
    pub(super) fn cut(&self, how: Cut) {
        if self.is_cut.swap(true, Ordering::SeqCst) {
            return;
        }
        for stream in [&self.client, &self.server] {
            // Errors say that the peer was faster, and then it is cut.
            let _ = match how {
                Cut::Close => stream.shutdown(Shutdown::Both),
                // The close at the end of the threads becomes a reset; until then only the readers are woken.
                Cut::Reset => reset_at_close(stream).and_then(|()| stream.shutdown(Shutdown::Read)),
            };
        }
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    fn source(&self, way: Way) -> &TcpStream {
        if way == Way::Requests { &self.client } else { &self.server }
    }

    fn destination(&self, way: Way) -> &TcpStream {
        if way == Way::Requests { &self.server } else { &self.client }
    }

    fn read(&self, way: Way, pieces: &Sender<Piece>) {
        let mut buffer = vec![0; 64 * 1024];
        let mut source = self.source(way);
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => Piece::End,
                Ok(length) => Piece::Bytes(buffer[..length].to_vec(), Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A reset is passed on as one.
                Err(_) => return self.cut(Cut::Reset),
            };
            let is_end = matches!(piece, Piece::End);
            // The writer is gone when the connection was cut.
            if pieces.send(piece).is_err() || is_end || self.is_cut() {
                return;
            }
        }
    }

    fn write(&self, way: Way, pieces: &Receiver<Piece>) {
        let mut search = Search::default();
        let mut has_replied = false;
        loop {
            // No time limit is needed before a reply was lost.
            let limit = if has_replied { QUIET } else { Duration::MAX };
            match pieces.recv_timeout(limit) {
                Ok(Piece::End) | Err(_) if has_replied => {
                    self.cut(Cut::Close);
                    self.open.0.lost_replies.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Err(_) => return,
                Ok(Piece::Bytes(bytes, read_at)) => {
                    let Some(passes) = self.wait_turn(way, read_at) else { return };
                    if way == Way::Replies && self.is_losing.load(Ordering::SeqCst) {
                        has_replied = true;
                    } else if passes {
                        if way == Way::Requests && search.finds(&self.open.0, &bytes) {
                            // Before the server gets it, and so before it can reply.
                            self.is_losing.store(true, Ordering::SeqCst);
                        }
                        if self.write_all(way, &bytes).is_err() {
                            return self.cut(Cut::Reset);
                        }
                    }
                }
                Ok(Piece::End) => {
                    if self.wait_open(way) {
                        // It fails if the peer has gone, too.
                        let _ = self.destination(way).shutdown(Shutdown::Write);
                    }
                    return;
                }
            }
        }
    }

    /// Waits until bytes that were read at this time may go on. `Some(false)`: they are lost; `None`: all is.
    fn wait_turn(&self, way: Way, read_at: Instant) -> Option<bool> {
        loop {
            if self.is_cut() {
                return None;
            }
            let (flow, delay) = {
                let rules = self.open.0.rules();
                (rules.flow[way as usize], rules.delay[way as usize])
            };
            let early = delay.saturating_sub(read_at.elapsed());
            match flow {
                Flow::Drop => return Some(false),
                Flow::Pass if early.is_zero() => return Some(true),
                Flow::Pass => thread::sleep(early.min(POLL)),
                Flow::Hold => thread::sleep(POLL),
            }
        }
    }

    /// Waits until a close may be told to the other side. `false`: the connection was cut.
    fn wait_open(&self, way: Way) -> bool {
        while self.open.0.rules().flow[way as usize] != Flow::Pass {
            if self.is_cut() {
                return false;
            }
            thread::sleep(POLL);
        }
        !self.is_cut()
    }

    fn write_all(&self, way: Way, mut bytes: &[u8]) -> io::Result<()> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let mut destination = self.destination(way);
        let passed = &self.open.0.passed[way as usize];
        while !bytes.is_empty() {
            // Counted first: whoever sees what a byte did finds it counted.
            passed.fetch_add(bytes.len(), Ordering::SeqCst);
            let written = destination.write(bytes);
            passed.fetch_sub(bytes.len() - written.as_ref().copied().unwrap_or(0), Ordering::SeqCst);
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) && !self.is_cut() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Looks for the needle, also where it came in two pieces.
#[derive(Debug, Default)]
struct Search {
    before: Vec<u8>,
}

impl Search {
    fn finds(&mut self, state: &State, bytes: &[u8]) -> bool {
        let mut rules = state.rules();
        let Some(lose) = &mut rules.lose else {
            self.before.clear();
            return false;
        };
        let length = lose.needle.len();
        self.before.extend_from_slice(bytes);
        let matches = self.before.windows(length).filter(|window| *window == lose.needle).count();
        // One byte less than the needle: what was counted is not counted again.
        self.before.drain(..self.before.len().saturating_sub(length - 1));
        if matches > lose.skip {
            rules.lose = None;
            return true;
        }
        lose.skip -= matches;
        false
    }
}

#[cfg(unix)]
fn reset_at_close(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

#[cfg(not(unix))]
fn reset_at_close(_: &TcpStream) -> io::Result<()> {
    Ok(())
}
