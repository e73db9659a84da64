//! Reading what a client sent. Nothing here trusts a length.

use std::io;

/// A place in a message.
#[derive(Debug, Clone)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the client sent a malformed message: {what}"))
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        if count > self.rest.len() {
            return Err(malformed("it ends too early"));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends too early"))
    }

    pub(crate) fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u16_be(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// `units` UTF-16 units.
    pub(crate) fn utf16(&mut self, units: usize) -> io::Result<String> {
        utf16(self.take(units * 2)?)
    }

    /// A string with its length in one byte.
    pub(crate) fn short_string(&mut self) -> io::Result<String> {
        let units = self.u8()?;
        self.utf16(units.into())
    }
}

pub(crate) fn utf16(bytes: &[u8]) -> io::Result<String> {
    if !bytes.len().is_multiple_of(2) {
        return Err(malformed("a string has half a character"));
    }
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&units).map_err(|_| malformed("a string isn't UTF-16"))
}

/// What stands for the first half of a pair, which a string here can't have: no character has this number.
pub(crate) const HALF: char = '\u{FDD0}';

pub(crate) fn to_utf16(text: &str) -> Vec<u8> {
    let sent = |unit: u16| if u32::from(unit) == u32::from(HALF) { 0xD83D } else { unit };
    text.encode_utf16().map(sent).flat_map(u16::to_le_bytes).collect()
}
