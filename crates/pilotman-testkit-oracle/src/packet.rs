//! Packets: eight bytes of header, in data packets two more of flags.

use std::io::{self, Read};

pub(crate) const CONNECT: u8 = 1;
pub(crate) const ACCEPT: u8 = 2;
pub(crate) const REFUSE: u8 = 4;
pub(crate) const DATA: u8 = 6;
pub(crate) const MARKER: u8 = 12;

/// In the flags of a data packet: the client sends nothing more.
pub(crate) const LAST: u16 = 0x0040;

const HEADER: usize = 8;
/// No client of ours sends more in one packet.
const LARGEST: usize = 1 << 21;

/// How the length of a packet is written: in two bytes until the server has accepted, then in four.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    Short,
    Long,
}

pub(crate) struct Packet {
    pub(crate) kind: u8,
    /// Of data packets; otherwise zero.
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
}

/// Reads one packet; `None` at the end of the stream.
pub(crate) fn read(stream: &mut impl Read, length: Length) -> io::Result<Option<Packet>> {
    let mut header = [0; HEADER];
    if stream.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..])?;
    let size = match length {
        Length::Short => u16::from_be_bytes([header[0], header[1]]).into(),
        Length::Long => u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize,
    };
    if !(HEADER..=LARGEST).contains(&size) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a packet of {size} bytes")));
    }
    let mut body = vec![0; size - HEADER];
    stream.read_exact(&mut body)?;
    let mut flags = 0;
    if header[4] == DATA {
        if body.len() < 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a data packet without flags"));
        }
        flags = u16::from_be_bytes([body[0], body[1]]);
        body.drain(..2);
    }
    Ok(Some(Packet { kind: header[4], flags, body }))
}

/// The bytes of as many packets as `body` needs, none larger than `largest`.
pub(crate) fn write(kind: u8, length: Length, body: &[u8], largest: usize) -> Vec<u8> {
    let head = if kind == DATA { HEADER + 2 } else { HEADER };
    let mut bytes = Vec::new();
    for part in body.chunks(largest - head) {
        let size = (part.len() + head) as u32;
        match length {
            Length::Short => bytes.extend_from_slice(&[(size >> 8) as u8, size as u8, 0, 0]),
            Length::Long => bytes.extend_from_slice(&size.to_be_bytes()),
        }
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        bytes.resize(bytes.len() + head - HEADER, 0);
        bytes.extend_from_slice(part);
    }
    bytes
}
