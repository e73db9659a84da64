//! The login message.

use std::fmt;
use std::io;

use super::bytes::{Bytes, malformed, utf16};

const FEDERATED: u8 = 0x02;
const END: u8 = 0xff;
const USES_EXTENSIONS: u8 = 0x10;

/// What a client logs in with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) version: u32,
    pub(crate) packet_size: u32,
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) program: String,
    pub(crate) database: String,
    /// The access token, if it has one instead of a password.
    pub(crate) token: Option<String>,
    /// It asks for Windows authentication.
    pub(crate) integrated: bool,
    pub(crate) process: u32,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, user, program, database, .. } = self;
        f.debug_struct("Login")
            .field("host", host)
            .field("user", user)
            .field("program", program)
            .field("database", database)
            .finish_non_exhaustive()
    }
}

pub(crate) fn parse(body: &[u8]) -> io::Result<Login> {
    let mut fixed = Bytes::new(body);
    let _length = fixed.u32()?;
    let version = fixed.u32()?;
    let packet_size = fixed.u32()?;
    let _program_version = fixed.u32()?;
    let process = fixed.u32()?;
    let _connection = fixed.u32()?;
    let _flags_1 = fixed.u8()?;
    let flags_2 = fixed.u8()?;
    let _type_flags = fixed.u8()?;
    let flags_3 = fixed.u8()?;
    let _zone = fixed.u32()?;
    let _language = fixed.u32()?;
    let mut field = || -> io::Result<(usize, usize)> { Ok((fixed.u16()?.into(), fixed.u16()?.into())) };
    let host = text(body, field()?)?;
    let user = text(body, field()?)?;
    let password = clear(slice(body, field()?, 2)?)?;
    let program = text(body, field()?)?;
    let _server = field()?;
    let extension = field()?;
    let _library = field()?;
    let _locale = field()?;
    let database = text(body, field()?)?;
    let token = if flags_3 & USES_EXTENSIONS != 0 { token(body, extension)? } else { None };
    let integrated = flags_2 & 0x80 != 0;
    Ok(Login { version, packet_size, host, user, password, program, database, token, integrated, process })
}

fn slice(body: &[u8], (offset, length): (usize, usize), unit: usize) -> io::Result<&[u8]> {
    body.get(offset..offset + length * unit).ok_or_else(|| malformed("a field of the login lies outside it"))
}

fn text(body: &[u8], field: (usize, usize)) -> io::Result<String> {
    utf16(slice(body, field, 2)?)
}

/// A password is sent with its nibbles exchanged and some bits turned.
fn clear(bytes: &[u8]) -> io::Result<String> {
    let bytes: Vec<u8> = bytes.iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    utf16(&bytes)
}

fn token(body: &[u8], extension: (usize, usize)) -> io::Result<Option<String>> {
    let place = Bytes::new(slice(body, extension, 1)?).u32()?;
    let start = usize::try_from(place).map_err(|_| malformed("its extensions lie outside it"))?;
    let mut features = Bytes::new(body.get(start..).ok_or_else(|| malformed("its extensions lie outside it"))?);
    loop {
        let feature = features.u8()?;
        if feature == END {
            return Ok(None);
        }
        let length = features.u32()? as usize;
        let data = features.take(length)?;
        if feature == FEDERATED {
            let mut data = Bytes::new(data);
            // The library is in the upper seven bits: 1 is a token that the client has already.
            if data.u8()? >> 1 != 1 {
                return Err(malformed("only a federated login with an access token is served"));
            }
            let length = data.u32()? as usize;
            return utf16(data.take(length)?).map(Some);
        }
    }
}
