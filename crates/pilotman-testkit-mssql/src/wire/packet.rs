//! Packets, and the messages that they make.

use std::io;

use super::bytes::malformed;

/// Bytes in the header of a packet.
pub(crate) const HEADER: usize = 8;

/// The packet's size until the login has agreed on another.
pub(crate) const FIRST_SIZE: usize = 4096;

const END_OF_MESSAGE: u8 = 0x01;
const IGNORE: u8 = 0x02;
const RESET_CONNECTION: u8 = 0x08;
const RESET_KEEPING_TRANSACTION: u8 = 0x10;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch,
    Rpc,
    Reply,
    Attention,
    Transaction,
    Login,
    PreLogin,
}

impl Kind {
    fn of(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            0x01 => Self::Batch,
            0x03 => Self::Rpc,
            0x04 => Self::Reply,
            0x06 => Self::Attention,
            0x0e => Self::Transaction,
            0x10 => Self::Login,
            0x12 => Self::PreLogin,
            other => return Err(malformed(&format!("packet type {other:#04x} isn't served"))),
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Batch => 0x01,
            Self::Rpc => 0x03,
            Self::Reply => 0x04,
            Self::Attention => 0x06,
            Self::Transaction => 0x0e,
            Self::Login => 0x10,
            Self::PreLogin => 0x12,
        }
    }
}

/// The header of one packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) status: u8,
    /// Bytes that follow the header.
    pub(crate) body: usize,
}

impl Header {
    pub(crate) fn parse(bytes: [u8; HEADER]) -> io::Result<Self> {
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let body = length.checked_sub(HEADER).ok_or_else(|| malformed("a packet is shorter than its header"))?;
        Ok(Self { kind: Kind::of(bytes[0])?, status: bytes[1], body })
    }

    pub(crate) fn ends_message(self) -> bool {
        self.status & END_OF_MESSAGE != 0
    }
}

/// A whole message of the client.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    /// The client wants a session as new before this is carried out.
    pub(crate) reset: bool,
    /// The client took the message back while it sent it.
    pub(crate) ignored: bool,
}

/// Puts packets together.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    body: Vec<u8>,
    reset: bool,
    kind: Option<Kind>,
}

impl Assembly {
    /// Adds a packet. Gives the message that it ended.
    pub(crate) fn add(&mut self, header: Header, body: &[u8]) -> io::Result<Option<Message>> {
        if *self.kind.get_or_insert(header.kind) != header.kind {
            return Err(malformed("a packet of another type in the middle of a message"));
        }
        self.reset |= header.status & (RESET_CONNECTION | RESET_KEEPING_TRANSACTION) != 0;
        self.body.extend_from_slice(body);
        if !header.ends_message() {
            return Ok(None);
        }
        let done = std::mem::take(self);
        let ignored = header.status & IGNORE != 0;
        Ok(Some(Message { kind: header.kind, body: done.body, reset: done.reset, ignored }))
    }
}

/// One packet, ready to be sent.
pub(crate) fn packet(kind: Kind, number: u8, session: i32, last: bool, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER).unwrap_or(u16::MAX);
    let session = u16::try_from(session).unwrap_or(0);
    let mut packet = Vec::with_capacity(body.len() + HEADER);
    packet.push(kind.byte());
    packet.push(if last { END_OF_MESSAGE } else { 0 });
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&session.to_be_bytes());
    packet.push(number);
    packet.push(0);
    packet.extend_from_slice(body);
    packet
}
