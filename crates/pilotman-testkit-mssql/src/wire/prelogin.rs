//! The first message: versions, and whether to encrypt.

use std::io;

use super::bytes::{Bytes, malformed};

const VERSION: u8 = 0;
const ENCRYPTION: u8 = 1;
const INSTANCE: u8 = 2;
const THREAD: u8 = 3;
const MARS: u8 = 4;
const FEDERATED: u8 = 6;
const END: u8 = 0xff;

/// What a side says about encryption in the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Only the login is encrypted.
    Off,
    /// Everything is encrypted.
    On,
    /// Nothing is encrypted: it can't be.
    NotSupported,
    /// Everything is encrypted, and nothing else is accepted.
    Required,
}

impl Encryption {
    fn of(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            0 => Self::Off,
            1 => Self::On,
            2 => Self::NotSupported,
            3 => Self::Required,
            other => return Err(malformed(&format!("{other} isn't an encryption option"))),
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::On => 1,
            Self::NotSupported => 2,
            Self::Required => 3,
        }
    }

    /// What a server that is set to `self` answers, by the table in MS-TDS 2.2.6.5.
    pub(crate) fn answer(self, client: Self) -> Self {
        match (self, client) {
            (Self::NotSupported, _) => Self::NotSupported,
            (Self::Off, Self::NotSupported) => Self::NotSupported,
            (Self::Off, Self::Off) => Self::Off,
            (Self::On | Self::Required, Self::Off | Self::NotSupported) => Self::Required,
            (_, Self::On | Self::Required) => Self::On,
        }
    }
}

/// What matters in the client's first message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PreLogin {
    pub(crate) encryption: Encryption,
    pub(crate) federated: bool,
}

pub(crate) fn parse(body: &[u8]) -> io::Result<PreLogin> {
    let mut found = PreLogin { encryption: Encryption::NotSupported, federated: false };
    let mut options = Bytes::new(body);
    loop {
        let option = options.u8()?;
        if option == END {
            return Ok(found);
        }
        let (offset, length) = (usize::from(options.u16_be()?), usize::from(options.u16_be()?));
        let data = body.get(offset..offset + length).ok_or_else(|| malformed("an option lies outside the message"))?;
        match (option, data) {
            (ENCRYPTION, &[byte, ..]) => found.encryption = Encryption::of(byte)?,
            (FEDERATED, &[byte, ..]) => found.federated = byte != 0,
            _ => {}
        }
    }
}

/// The server's answer, as SQL Server 2019 (15.0.2000).
pub(crate) fn answer(encryption: Encryption, federated: bool) -> Vec<u8> {
    let mut options: Vec<(u8, Vec<u8>)> = vec![
        (VERSION, vec![15, 0, 0x07, 0xd0, 0, 0]),
        (ENCRYPTION, vec![encryption.byte()]),
        (INSTANCE, vec![0]),
        (THREAD, Vec::new()),
        (MARS, vec![0]),
    ];
    if federated {
        options.push((FEDERATED, vec![1]));
    }
    let mut table = Vec::new();
    let mut data = Vec::new();
    let start = options.len() * 5 + 1;
    for (option, value) in options {
        table.push(option);
        table.extend_from_slice(&u16::try_from(start + data.len()).unwrap_or(0).to_be_bytes());
        table.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
        data.extend_from_slice(&value);
    }
    table.push(END);
    table.extend_from_slice(&data);
    table
}
