//! A client that writes and reads the protocol byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use pilotman_testkit_mssql::StandIn;

use super::LONG;

pub(crate) const BATCH: u8 = 0x01;
pub(crate) const RPC: u8 = 0x03;
pub(crate) const REPLY: u8 = 0x04;
pub(crate) const ATTENTION: u8 = 0x06;
pub(crate) const LOGIN: u8 = 0x10;
pub(crate) const PRELOGIN: u8 = 0x12;

pub(crate) const LAST: u8 = 0x01;
pub(crate) const RESET: u8 = 0x08;

/// What a reply consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Columns(usize),
    Row,
    Status(i32),
    Returned,
    Error(i32),
    Info(i32),
    Changed(u8),
    LoginAck,
    Done { kind: u8, status: u16 },
}

impl Token {
    pub(crate) fn acknowledges(&self) -> bool {
        matches!(self, Self::Done { status, .. } if status & 0x20 != 0)
    }
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) transaction: u64,
    columns: Vec<u8>,
}

impl Raw {
    /// Connected, and nothing else.
    pub(crate) fn open(server: &StandIn) -> Self {
        let stream = TcpStream::connect(server.address()).expect("a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, transaction: 0, columns: Vec::new() }
    }

    /// Logged in, with packets of that size.
    pub(crate) fn login(server: &StandIn, packet_size: u32) -> Self {
        let mut raw = Self::open(server);
        raw.send(PRELOGIN, LAST, &prelogin(2));
        let (kind, body) = raw.message();
        assert_eq!((kind, body[raw_offset(&body, 1)]), (REPLY, 2));
        let (user, password) = server.credentials();
        raw.send(LOGIN, LAST, &login7(user, password, server.database(), packet_size));
        let tokens = raw.reply();
        assert!(tokens.contains(&Token::LoginAck), "{tokens:?}");
        raw
    }

    /// One packet.
    pub(crate) fn send(&mut self, kind: u8, status: u8, body: &[u8]) {
        let length = u16::try_from(body.len() + 8).unwrap().to_be_bytes();
        let mut packet = vec![kind, status, length[0], length[1], 0, 0, 1, 0];
        packet.extend(body);
        self.stream.write_all(&packet).expect("the packet is sent");
    }

    pub(crate) fn batch(&mut self, text: &str) {
        let mut body = self.headers();
        body.extend(utf16(text));
        self.send(BATCH, LAST, &body);
    }

    pub(crate) fn attention(&mut self) {
        self.send(ATTENTION, LAST, &[]);
    }

    /// A call with text and number parameters.
    pub(crate) fn call(&mut self, procedure: &str, parameters: &[(&str, Parameter<'_>)]) {
        let mut body = self.headers();
        body.extend(u16::try_from(procedure.len()).unwrap().to_le_bytes());
        body.extend(utf16(procedure));
        body.extend(0_u16.to_le_bytes());
        for (name, value) in parameters {
            body.push(u8::try_from(name.len()).unwrap());
            body.extend(utf16(name));
            body.push(0);
            match value {
                Parameter::Text(text) => {
                    let text = utf16(text);
                    body.push(0xe7);
                    body.extend(8000_u16.to_le_bytes());
                    body.extend([0x09, 0x04, 0xd0, 0x00, 0x34]);
                    body.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
                    body.extend(text);
                }
                Parameter::Int(number) => {
                    body.extend([0x26, 4, 4]);
                    body.extend(number.to_le_bytes());
                }
            }
        }
        self.send(RPC, LAST, &body);
    }

    pub(crate) fn lock(&mut self, resource: &str, timeout: i32) {
        let parameters = [
            ("@Resource", Parameter::Text(resource)),
            ("@LockMode", Parameter::Text("Exclusive")),
            ("@LockOwner", Parameter::Text("Session")),
            ("@LockTimeout", Parameter::Int(timeout)),
        ];
        self.call("sp_getapplock", &parameters);
    }

    pub(crate) fn headers(&self) -> Vec<u8> {
        let mut headers = 22_u32.to_le_bytes().to_vec();
        headers.extend(18_u32.to_le_bytes());
        headers.extend(2_u16.to_le_bytes());
        headers.extend(self.transaction.to_le_bytes());
        headers.extend(1_u32.to_le_bytes());
        headers
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("so many bytes");
        bytes
    }

    /// Whether the server closes the connection and says nothing before. One that stays open fails the test.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted),
        }
    }

    /// One packet: its header and body.
    pub(crate) fn packet(&mut self) -> (Vec<u8>, Vec<u8>) {
        let header = self.bytes(8);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let body = self.bytes(length - 8);
        (header, body)
    }

    /// One message: its kind and body.
    pub(crate) fn message(&mut self) -> (u8, Vec<u8>) {
        self.message_after(&[])
    }

    /// One message, the first bytes of which are read already.
    pub(crate) fn message_after(&mut self, read: &[u8]) -> (u8, Vec<u8>) {
        let mut known = read.to_vec();
        let mut whole = Vec::new();
        loop {
            if known.len() < 8 {
                let more = self.bytes(8 - known.len());
                known.extend(more);
            }
            let length = usize::from(u16::from_be_bytes([known[2], known[3]]));
            if known.len() < length {
                let more = self.bytes(length - known.len());
                known.extend(more);
            }
            let rest = known.split_off(length);
            let (kind, status) = (known[0], known[1]);
            whole.extend_from_slice(&known[8..]);
            if status & LAST != 0 {
                assert!(rest.is_empty(), "bytes of another message were read");
                return (kind, whole);
            }
            known = rest;
        }
    }

    /// One reply, as tokens. It has to end with the end of a token.
    pub(crate) fn reply(&mut self) -> Vec<Token> {
        self.reply_after(&[])
    }

    pub(crate) fn reply_after(&mut self, read: &[u8]) -> Vec<Token> {
        let (kind, body) = self.message_after(read);
        assert_eq!(kind, REPLY);
        self.tokens(&body)
    }

    /// What a batch gives.
    pub(crate) fn ask(&mut self, text: &str) -> Vec<Token> {
        self.batch(text);
        self.reply()
    }

    fn tokens(&mut self, body: &[u8]) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let kind = body[at];
            at += 1;
            let u16_at = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
            let i32_at = |at: usize| i32::from_le_bytes(body[at..at + 4].try_into().unwrap());
            match kind {
                0x81 => {
                    let count = u16_at(at);
                    at += 2;
                    self.columns.clear();
                    for _ in 0..count {
                        at += 6;
                        let kind = body[at];
                        self.columns.push(kind);
                        at += match kind {
                            0x26 | 0x68 | 0x6d | 0x6f | 0x24 => 2,
                            0xa5 => 3,
                            0xe7 => 8,
                            other => panic!("a column of type {other:#04x}"),
                        };
                        at += 1 + usize::from(body[at]) * 2;
                    }
                    tokens.push(Token::Columns(count.into()));
                }
                0xd1 => {
                    for kind in &self.columns {
                        at += match kind {
                            0xa5 | 0xe7 => match u16_at(at) {
                                0xffff => 2,
                                length => 2 + usize::from(length),
                            },
                            _ => 1 + usize::from(body[at]),
                        };
                    }
                    tokens.push(Token::Row);
                }
                0x79 => {
                    tokens.push(Token::Status(i32_at(at)));
                    at += 4;
                }
                0xac => {
                    at += 2;
                    at += 1 + usize::from(body[at]) * 2;
                    at += 7;
                    // Only numbers are returned here.
                    assert_eq!(body[at], 0x26);
                    at += 2;
                    at += 1 + usize::from(body[at]);
                    tokens.push(Token::Returned);
                }
                0xaa => tokens.push(Token::Error(i32_at(at + 2))),
                0xab => tokens.push(Token::Info(i32_at(at + 2))),
                0xad => tokens.push(Token::LoginAck),
                0xe3 => {
                    if body[at + 2] == 8 {
                        self.transaction = u64::from_le_bytes(body[at + 4..at + 12].try_into().unwrap());
                    }
                    if matches!(body[at + 2], 9 | 10) {
                        self.transaction = 0;
                    }
                    tokens.push(Token::Changed(body[at + 2]));
                }
                0xfd..=0xff => {
                    tokens.push(Token::Done { kind, status: u16_at(at) });
                    at += 12;
                }
                other => panic!("{other:#04x} isn't a token: {tokens:?}"),
            }
            if matches!(kind, 0xaa | 0xab | 0xad | 0xe3) {
                at += 2 + usize::from(u16_at(at));
            }
        }
        assert_eq!(at, body.len(), "the reply ends in the middle of a token: {tokens:?}");
        tokens
    }
}

pub(crate) enum Parameter<'a> {
    Text(&'a str),
    Int(i32),
}

pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The first message, with what it says about encryption.
pub(crate) fn prelogin(encryption: u8) -> Vec<u8> {
    vec![0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, encryption]
}

/// Where the data of an option is in an answer.
pub(crate) fn raw_offset(body: &[u8], option: u8) -> usize {
    let entry = body.chunks(5).find(|entry| entry[0] == option).expect("the option");
    usize::from(u16::from_be_bytes([entry[1], entry[2]]))
}

pub(crate) fn login7(user: &str, password: &str, database: &str, packet_size: u32) -> Vec<u8> {
    let mut fixed = vec![0; 4];
    fixed.extend(0x7400_0004_u32.to_le_bytes());
    fixed.extend(packet_size.to_le_bytes());
    fixed.extend([0; 12]);
    fixed.extend([0; 4]);
    fixed.extend([0; 8]);
    let password: Vec<u8> = utf16(password).into_iter().map(|byte| byte.rotate_left(4) ^ 0xa5).collect();
    let (user, database) = (utf16(user), utf16(database));
    let nothing = Vec::new();
    let fields = [&nothing, &user, &password, &nothing, &nothing, &nothing, &nothing, &nothing, &database];
    let mut offset = 94;
    let mut data = Vec::new();
    for field in fields {
        fixed.extend(u16::try_from(offset).unwrap().to_le_bytes());
        fixed.extend(u16::try_from(field.len() / 2).unwrap().to_le_bytes());
        offset += field.len();
        data.extend_from_slice(field);
    }
    fixed.extend([0; 6]);
    for _ in 0..3 {
        fixed.extend(u16::try_from(offset).unwrap().to_le_bytes());
        fixed.extend([0; 2]);
    }
    fixed.extend([0; 4]);
    assert_eq!(fixed.len(), 94);
    fixed.extend(data);
    let length = u32::try_from(fixed.len()).unwrap().to_le_bytes();
    fixed[..4].copy_from_slice(&length);
    fixed
}
