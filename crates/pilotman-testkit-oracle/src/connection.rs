//! One connection: a thread that reads packets, and one that carries out what they say.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use crate::database::{OraError, Outcome};
use crate::dbms_lock::Sid;
use crate::faults::{Fault, Reply};
use crate::message::{self, Call, Cursor, Cursors, Execute};
use crate::packet::{self, Length, Packet};
use crate::password::{self, Challenge};
use crate::server::{Session, Shared};
use crate::ttc::{Reader, Unread, Writer};

const MARKER_BREAK: u8 = 1;
const MARKER_RESET: u8 = 2;
const MARKER_INTERRUPT: u8 = 3;

/// Why a connection is over. What the client did wrong is noted in [`Shared`] before.
struct Over;

type Step<T = ()> = Result<T, Over>;

struct Connection {
    shared: Arc<Shared>,
    number: u64,
    stream: TcpStream,
    packets: Receiver<Packet>,
    /// What was received of a message.
    received: Vec<u8>,
    largest: usize,
    login: HashMap<String, String>,
    challenge: Option<Challenge>,
    sid: Arc<OnceLock<Sid>>,
    cursors: Cursors,
    last_cursor: u16,
}

/// Serves a connection until its end.
pub(crate) fn serve(shared: &Arc<Shared>, number: u64, stream: TcpStream) {
    let sid = Arc::new(OnceLock::new());
    let Ok((mut connection, reader)) = Connection::accept(shared, number, stream, &sid) else { return };
    while connection.step().is_ok() {}
    if let Some(sid) = sid.get() {
        shared.end_session(*sid);
    }
    let _ = connection.stream.shutdown(Shutdown::Both);
    drop(connection);
    let _ = reader.join();
}

/// Hands on what the client sends; an interrupt takes effect at once.
fn read_packets(shared: &Shared, number: u64, mut stream: TcpStream, sid: &OnceLock<Sid>, to: &mpsc::Sender<Packet>) {
    loop {
        let packet = packet::read(&mut stream, Length::Long);
        shared.gate.pass(number);
        let Ok(Some(packet)) = packet else { break };
        if let (Some(sid), packet::MARKER, [_, _, MARKER_INTERRUPT | MARKER_BREAK]) =
            (sid.get(), packet.kind, packet.body.as_slice())
        {
            shared.database.interrupt(*sid);
        }
        if to.send(packet).is_err() {
            break;
        }
    }
    if let Some(sid) = sid.get() {
        shared.end_session(*sid);
    }
}

impl Connection {
    /// Connects: reads what service the client wants.
    fn accept(
        shared: &Arc<Shared>,
        number: u64,
        mut stream: TcpStream,
        sid: &Arc<OnceLock<Sid>>,
    ) -> Step<(Self, JoinHandle<()>)> {
        let first = packet::read(&mut stream, Length::Short).ok().flatten().ok_or(Over)?;
        shared.gate.pass(number);
        let body = first.body;
        let number_at = |at: usize| body.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]).into());
        let (packet::CONNECT, Some(sdu), Some(length), Some(offset)) =
            (first.kind, body.get(50..54), number_at(16), number_at(18))
        else {
            shared.note("not a packet that connects".into());
            return Err(Over);
        };
        let sdu = sdu.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        // The data follow the packet when they are long. The offset counts from the beginning of the header.
        let mut data = body.get(usize::max(offset, 8) - 8..).unwrap_or_default().to_vec();
        while data.len() < length {
            let next = packet::read(&mut stream, Length::Short).ok().flatten().ok_or(Over)?;
            data.extend_from_slice(&next.body);
        }
        let (sender, packets) = mpsc::channel();
        let mut connection = Self {
            shared: Arc::clone(shared),
            number,
            stream,
            packets,
            received: Vec::new(),
            largest: sdu.clamp(512, shared.settings.largest_packet.max(512)),
            login: HashMap::new(),
            challenge: None,
            sid: Arc::clone(sid),
            cursors: Cursors::new(),
            last_cursor: 0,
        };
        let data = String::from_utf8_lossy(&data).to_uppercase();
        if !data.contains(&format!("(SERVICE_NAME={})", shared.settings.service.to_uppercase())) {
            let text = b"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR=12514)(ERROR_STACK=(ERROR=(CODE=12514)(EMFI=4))))";
            let refusal = [&[0, 0], &(text.len() as u16).to_be_bytes()[..], text].concat();
            connection.send(Reply::Accept, &packet::write(packet::REFUSE, Length::Short, &refusal, usize::MAX))?;
            return Err(Over);
        }
        // Version 318: neither a mark at the end of a response nor a login in one message.
        let mut accept = vec![0; 37];
        accept[..2].copy_from_slice(&318_u16.to_be_bytes());
        accept[24..28].copy_from_slice(&(connection.largest as u32).to_be_bytes());
        connection.send(Reply::Accept, &packet::write(packet::ACCEPT, Length::Short, &accept, usize::MAX))?;
        let (shared, sid) = (Arc::clone(shared), Arc::clone(sid));
        let stream = connection.stream.try_clone().map_err(|_| Over)?;
        let reader = thread::spawn(move || read_packets(&shared, number, stream, &sid, &sender));
        Ok((connection, reader))
    }

    /// One call.
    fn step(&mut self) -> Step {
        let (asides, call) = self.receive()?;
        for cursor in asides.closed_cursors {
            self.cursors.remove(&cursor);
        }
        if let Some(sid) = self.sid.get() {
            self.shared.label(*sid, asides.labels);
        }
        let (reply, answer) = match call {
            Call::Protocol => (Reply::Protocol, message::protocol()),
            Call::DataTypes => (Reply::DataTypes, message::data_types()),
            Call::Login { second: false, user, pairs } => (Reply::Challenge, self.challenge(&user, pairs)),
            Call::Login { second: true, pairs, .. } => match self.login(&pairs) {
                Some(answer) => (Reply::Login, answer),
                None => {
                    let error = OraError::new(1017, "invalid username/password; logon denied");
                    self.reply(Reply::Login, message::failed(&error, 0))?;
                    return Err(Over);
                }
            },
            call => return self.session_call(call),
        };
        self.reply(reply, answer)
    }

    /// A call that only a session may make.
    fn session_call(&mut self, call: Call) -> Step {
        let Some(&sid) = self.sid.get() else {
            self.shared.note("a call before the login".into());
            return Err(Over);
        };
        let shared = Arc::clone(&self.shared);
        let cursor = match &call {
            Call::Execute(Execute { sql: None, cursor, .. }) => *cursor,
            _ => 0,
        };
        let (reply, result) = match call {
            Call::Execute(execute) => (Reply::Execute, self.execute(sid, execute)),
            Call::Fetch => (Reply::Execute, Err(OraError::new(1002, "fetch out of sequence"))),
            Call::Commit | Call::Rollback => {
                let result = shared.database.check(sid);
                shared.database.end_transaction(sid);
                (Reply::Transaction, result.map(|()| message::status()))
            }
            Call::Logoff => {
                shared.end_session(sid);
                (Reply::Logoff, Ok(message::status()))
            }
            Call::Ping => (Reply::Ping, shared.database.check(sid).map(|()| message::status())),
            Call::Protocol | Call::DataTypes | Call::Login { .. } => return Err(Over),
        };
        match result {
            Ok(answer) => self.reply(reply, answer),
            // The client has interrupted it, and waits for nothing but the reset.
            Err(OraError { code: 1013, .. }) => Ok(()),
            Err(error) => {
                if shared.settings.marks_errors {
                    self.send(reply, &marker(MARKER_BREAK))?;
                    self.await_reset()?;
                }
                self.reply(reply, message::failed(&error, cursor))?;
                if error.code == 28 { Err(Over) } else { Ok(()) }
            }
        }
    }

    fn challenge(&mut self, user: &str, pairs: HashMap<String, String>) -> Writer {
        self.login = pairs;
        // A user that doesn't exist is told nothing else than one that does.
        let verifier = self.shared.verifier(user);
        let challenge = verifier.challenge();
        let answer = message::login(&[
            ("AUTH_SESSKEY", password::hex(&challenge.sent), 0),
            ("AUTH_VFR_DATA", password::hex(&verifier.salt), password::VERIFIER_12C),
            ("AUTH_PBKDF2_CSK_SALT", password::hex(&challenge.salt), 0),
            ("AUTH_PBKDF2_VGEN_COUNT", password::ITERATIONS.to_string(), 0),
            ("AUTH_PBKDF2_SDER_COUNT", password::SESSION_ITERATIONS.to_string(), 0),
        ]);
        self.login.insert("user".into(), user.to_uppercase());
        self.challenge = Some(challenge);
        answer
    }

    /// Checks the password; `None` if it's wrong.
    fn login(&mut self, pairs: &HashMap<String, String>) -> Option<Writer> {
        let challenge = self.challenge.take()?;
        let binary = |key: &str| pairs.get(key).and_then(|value| password::unhex(value));
        let verifier = self.shared.verifier(self.login.get("user")?);
        let key = verifier.shared_key(&challenge, &binary("AUTH_SESSKEY")?)?;
        let password = password::open(&key, &binary("AUTH_PASSWORD")?)?;
        if password != self.shared.settings.password.as_bytes() {
            return None;
        }
        let sid = self.shared.database.open();
        let serial = self.shared.database.serial(sid);
        let label = |key: &str| self.login.get(key).cloned().unwrap_or_default();
        let session = Session {
            sid,
            serial,
            user: label("user"),
            program: label("AUTH_PROGRAM_NM"),
            machine: label("AUTH_MACHINE"),
            labels: HashMap::new(),
        };
        self.shared.begin_session(self.number, session);
        self.sid.set(sid).ok()?;
        Some(message::login(&[
            ("AUTH_SVR_RESPONSE", password::hex(&password::proof(&key)), 0),
            // 19.3
            ("AUTH_VERSION_NO", (19 << 24 | 3 << 16).to_string(), 0),
            ("AUTH_SESSION_ID", sid.to_string(), 0),
            ("AUTH_SERIAL_NUM", serial.to_string(), 0),
            ("AUTH_MAX_OPEN_CURSORS", "300".into(), 0),
            ("AUTH_MAX_IDEN_LENGTH", "128".into(), 0),
            ("AUTH_SC_SERVICE_NAME", self.shared.settings.service.clone(), 0),
            ("AUTH_SC_DBUNIQUE_NAME", "STANDIN".into(), 0),
            ("AUTH_INSTANCENAME", "standin".into(), 0),
        ]))
    }

    fn execute(&mut self, sid: Sid, execute: Execute) -> Result<Writer, OraError> {
        let Execute { sql, mut cursor, executions, types, values } = execute;
        if executions > 1 {
            return Err(OraError::new(3001, "unimplemented feature"));
        }
        let is_new = sql.is_some();
        if let Some(sql) = sql {
            self.last_cursor = self.last_cursor.checked_add(1).unwrap_or(1);
            cursor = self.last_cursor;
            self.cursors.insert(cursor, Cursor { sql, types: Vec::new(), inputs: Vec::new() });
        }
        // The reader has looked for it.
        let known = self.cursors.get_mut(&cursor).ok_or_else(|| OraError::new(1001, "invalid cursor"))?;
        if !types.is_empty() {
            known.types = types;
        }
        let outcome = self.shared.database.execute(sid, &known.sql, &values).inspect_err(|_| {
            if is_new {
                self.cursors.remove(&cursor);
            }
        })?;
        let known = self.cursors.get_mut(&cursor).ok_or_else(|| OraError::new(1001, "invalid cursor"))?;
        Ok(match outcome {
            Outcome::Block { outs, inputs } => {
                known.inputs = inputs;
                message::block(cursor, &known.types, &outs, &known.inputs)
            }
            Outcome::Rows { columns, rows } => message::rows(cursor, &columns, &rows),
            Outcome::Done => message::block(cursor, &[], &[], &[]),
        })
    }

    /// The next message. It has no mark at its end: it's whole when it can be read.
    fn receive(&mut self) -> Step<(message::Asides, Call)> {
        loop {
            if !self.received.is_empty() {
                let mut reader = Reader::new(&self.received);
                match message::read(&mut reader, &self.cursors) {
                    Ok(_) if reader.left() > 0 => {
                        self.shared.note(format!("{} bytes after a message", reader.left()));
                        return Err(Over);
                    }
                    Ok(message) => {
                        self.received.clear();
                        return Ok(message);
                    }
                    Err(Unread::Malformed(what)) => {
                        self.shared.note(what);
                        return Err(Over);
                    }
                    Err(Unread::Short) => {}
                }
            }
            let packet = self.packets.recv().map_err(|_| Over)?;
            match packet.kind {
                packet::DATA if packet.flags & packet::LAST != 0 => return Err(Over),
                packet::DATA => self.received.extend_from_slice(&packet.body),
                packet::MARKER => {
                    self.received.clear();
                    if packet.body.get(2) == Some(&MARKER_RESET) {
                        let error = OraError::new(1013, "user requested cancel of current operation");
                        let answer = message::failed(&error, 0).into_bytes();
                        let mut bytes = self.reset();
                        bytes.extend(packet::write(packet::DATA, Length::Long, &answer, self.largest));
                        self.send(Reply::Reset, &bytes)?;
                    }
                }
                other => {
                    self.shared.note(format!("a packet of type {other}"));
                    return Err(Over);
                }
            }
        }
    }

    /// What answers a marker that resets the connection.
    fn reset(&self) -> Vec<u8> {
        if let Some(sid) = self.sid.get() {
            self.shared.database.resume(*sid);
        }
        marker(MARKER_RESET)
    }

    /// After a marker of the server's own: the client resets the connection.
    fn await_reset(&mut self) -> Step {
        loop {
            let packet = self.packets.recv().map_err(|_| Over)?;
            if packet.kind == packet::MARKER && packet.body.get(2) == Some(&MARKER_RESET) {
                let bytes = self.reset();
                return self.send(Reply::Reset, &bytes);
            }
        }
    }

    fn reply(&mut self, reply: Reply, answer: Writer) -> Step {
        let bytes = packet::write(packet::DATA, Length::Long, &answer.into_bytes(), self.largest);
        self.send(reply, &bytes)
    }

    fn send(&mut self, reply: Reply, bytes: &[u8]) -> Step {
        let gate = &self.shared.gate;
        gate.pass(self.number);
        if gate.is_stopped() {
            // Lest a waiter is told of a lock that a session has left as the server stopped.
            return Err(Over);
        }
        let mut write = |bytes: &[u8]| self.stream.write_all(bytes).map_err(|_| Over);
        match gate.take(reply) {
            None => write(bytes),
            Some(Fault::Cut(count)) => {
                write(&bytes[..count.min(bytes.len())])?;
                Err(Over)
            }
            Some(Fault::Stall(count)) => {
                let (now, later) = bytes.split_at(count.min(bytes.len()));
                gate.stall(self.number);
                write(now)?;
                gate.pass(self.number);
                write(later)
            }
        }
    }
}

fn marker(kind: u8) -> Vec<u8> {
    packet::write(packet::MARKER, Length::Long, &[1, 0, kind], usize::MAX)
}
