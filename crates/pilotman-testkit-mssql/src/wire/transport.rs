//! The two directions of a connection, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ServerConfig, ServerConnection};

use super::packet::{Assembly, FIRST_SIZE, HEADER, Header, Kind, Message, packet};
use crate::gate::Gate;

type Shared = Arc<Mutex<Option<ServerConnection>>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Option<ServerConnection>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the client sends.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: TcpStream,
    tls: Shared,
    gate: Arc<Gate>,
    assembly: Assembly,
}

/// What the client gets.
#[derive(Debug)]
pub(crate) struct Sender {
    stream: TcpStream,
    tls: Shared,
    gate: Arc<Gate>,
}

/// Both directions of a new connection.
pub(crate) fn open(stream: &TcpStream, gate: &Arc<Gate>) -> io::Result<(Receiver, Sender)> {
    stream.set_nodelay(true)?;
    let tls = Shared::default();
    let receiver = Receiver {
        stream: stream.try_clone()?,
        tls: Arc::clone(&tls),
        gate: Arc::clone(gate),
        assembly: Assembly::default(),
    };
    Ok((receiver, Sender { stream: stream.try_clone()?, tls, gate: Arc::clone(gate) }))
}

impl Receiver {
    /// The next message, or `None` after the client's last.
    pub(crate) fn message(&mut self) -> io::Result<Option<Message>> {
        loop {
            let Some((header, body)) = self.packet()? else { return Ok(None) };
            // An attention may come between two packets of a message, and has none of its own parts.
            if header.kind == Kind::Attention {
                return Assembly::default().add(header, &body);
            }
            if let Some(message) = self.assembly.add(header, &body)? {
                return Ok(Some(message));
            }
        }
    }

    fn packet(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let header = Header::parse(header)?;
        let mut body = vec![0; header.body];
        if !self.fill(&mut body)? {
            return Ok(None);
        }
        Ok(Some((header, body)))
    }

    /// Fills the buffer. `false` if the stream ends before.
    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<bool> {
        while !buffer.is_empty() {
            match self.some(buffer)? {
                0 => return Ok(false),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(true)
    }

    fn some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(tls) = lock(&self.tls).as_mut() {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            } else {
                return self.raw(buffer);
            }
            let mut records = [0; 4096];
            let count = self.raw(&mut records)?;
            if count == 0 {
                return Ok(0);
            }
            let mut records = &records[..count];
            if let Some(tls) = lock(&self.tls).as_mut() {
                while !records.is_empty() {
                    tls.read_tls(&mut records)?;
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
            }
        }
    }

    /// A frozen server neither reads nor notices that a client is gone.
    fn raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        self.gate.pass();
        read
    }

    /// The handshake, whose records travel in packets.
    pub(crate) fn encrypt(&mut self, config: &Arc<ServerConfig>, sender: &mut Sender) -> io::Result<()> {
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            if tls.wants_write() {
                let mut records = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut records)?;
                }
                sender.message(Kind::PreLogin, 0, FIRST_SIZE, &records)?;
            } else {
                let Some(message) = self.message()? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
                let mut records = message.body.as_slice();
                while !records.is_empty() {
                    tls.read_tls(&mut records)?;
                    if let Err(error) = tls.process_new_packets() {
                        // The alert that says why.
                        let mut alert = Vec::new();
                        tls.write_tls(&mut alert)?;
                        sender.message(Kind::PreLogin, 0, FIRST_SIZE, &alert)?;
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
        let mut records = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut records)?;
        }
        if !records.is_empty() {
            sender.message(Kind::PreLogin, 0, FIRST_SIZE, &records)?;
        }
        *lock(&self.tls) = Some(tls);
        Ok(())
    }

    /// The handshake of TDS 8: TLS from the first byte.
    pub(crate) fn encrypt_directly(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        *lock(&self.tls) = Some(tls);
        Ok(())
    }

    /// Goes on without encryption, as after a login that alone was encrypted.
    pub(crate) fn decrypt(&mut self) {
        *lock(&self.tls) = None;
    }
}

impl Sender {
    /// Sends bytes as they are, or encrypted if the connection is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gate.pass();
        // What is freed when the server ends isn't granted to anybody.
        if self.gate.ended() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut records = Vec::new();
        let mut guard = lock(&self.tls);
        let Some(tls) = guard.as_mut() else {
            drop(guard);
            return self.stream.write_all(bytes);
        };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut records)?;
        }
        drop(guard);
        self.stream.write_all(&records)
    }

    /// Sends a whole message in packets of at most `size` bytes.
    pub(crate) fn message(&mut self, kind: Kind, session: i32, size: usize, body: &[u8]) -> io::Result<()> {
        let mut packets = Vec::new();
        for (number, (part, last)) in parts(body, size).into_iter().enumerate() {
            packets.extend(packet(kind, number_of(number), session, last, part));
        }
        self.bytes(&packets)
    }

    pub(crate) fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The bodies of the packets that `body` is divided into, and which one is the last.
pub(crate) fn parts(body: &[u8], size: usize) -> Vec<(&[u8], bool)> {
    let room = size.saturating_sub(HEADER).max(1);
    let count = body.len().div_ceil(room).max(1);
    (0..count).map(|n| (&body[n * room..body.len().min((n + 1) * room)], n + 1 == count)).collect()
}

/// Packets are numbered from 1, modulo 256.
pub(crate) fn number_of(index: usize) -> u8 {
    u8::try_from((index + 1) % 256).unwrap_or(0)
}
