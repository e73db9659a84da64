//! Values, and how they are sent.

use std::io;

use super::bytes::{Bytes, malformed, to_utf16, utf16};

/// Latin1_General_100_BIN2-like: the driver needs one that it knows.
pub(crate) const COLLATION: [u8; 5] = [0x09, 0x04, 0xd0, 0x00, 0x34];

const LONG: u16 = 0xffff;

/// A type that a column, a variable or a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    /// Characters that fit; more are cut off. `None`: max.
    Text(Option<u16>),
    Binary,
    DateTime,
    Guid,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bit(bool),
    /// Any whole number. The column's type says how wide it is sent.
    Int(i64),
    Float(f64),
    Text(String),
    Binary(Vec<u8>),
    /// Days since 1900-01-01 and 1/300 seconds since midnight.
    DateTime(i32, u32),
    Guid([u8; 16]),
}

/// Writes the type as `COLMETADATA` and `RETURNVALUE` have it.
pub(crate) fn put_type(out: &mut Vec<u8>, kind: Type) {
    match kind {
        Type::Bit => out.extend([0x68, 1]),
        Type::TinyInt => out.extend([0x26, 1]),
        Type::SmallInt => out.extend([0x26, 2]),
        Type::Int => out.extend([0x26, 4]),
        Type::BigInt => out.extend([0x26, 8]),
        Type::Float => out.extend([0x6d, 8]),
        Type::DateTime => out.extend([0x6f, 8]),
        Type::Guid => out.extend([0x24, 16]),
        Type::Binary => {
            out.push(0xa5);
            out.extend(8000_u16.to_le_bytes());
        }
        Type::Text(length) => {
            out.push(0xe7);
            out.extend(length.map_or(LONG, |length| length.saturating_mul(2)).to_le_bytes());
            out.extend(COLLATION);
        }
    }
}

/// Writes a value of that type.
pub(crate) fn put_value(out: &mut Vec<u8>, kind: Type, value: &Value) {
    match (kind, value) {
        (Type::Text(None), Value::Null) => out.extend(u64::MAX.to_le_bytes()),
        (Type::Text(None), value) => {
            let bytes = to_utf16(&value.text());
            out.extend((bytes.len() as u64).to_le_bytes());
            if !bytes.is_empty() {
                out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend(bytes);
            }
            out.extend(0_u32.to_le_bytes());
        }
        (Type::Text(_) | Type::Binary, Value::Null) => out.extend(LONG.to_le_bytes()),
        (_, Value::Null) => out.push(0),
        (Type::Text(Some(length)), value) => {
            let mut bytes = to_utf16(&value.text());
            bytes.truncate(usize::from(length) * 2);
            out.extend(u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
            out.extend(bytes);
        }
        (Type::Binary, value) => {
            let bytes = match value {
                Value::Binary(bytes) => bytes.clone(),
                other => other.text().into_bytes(),
            };
            out.extend(u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
            out.extend(bytes);
        }
        (Type::Bit, value) => out.extend([1, u8::from(value.whole() != 0)]),
        (Type::TinyInt, value) => out.extend([1, value.whole().to_le_bytes()[0]]),
        (Type::SmallInt, value) => {
            out.push(2);
            out.extend(&value.whole().to_le_bytes()[..2]);
        }
        (Type::Int, value) => {
            out.push(4);
            out.extend(&value.whole().to_le_bytes()[..4]);
        }
        (Type::BigInt, value) => {
            out.push(8);
            out.extend(value.whole().to_le_bytes());
        }
        (Type::Float, value) => {
            out.push(8);
            let number = match value {
                Value::Float(number) => *number,
                #[expect(clippy::cast_precision_loss, reason = "a float is what was asked for")]
                other => other.whole() as f64,
            };
            out.extend(number.to_le_bytes());
        }
        (Type::DateTime, Value::DateTime(days, ticks)) => {
            out.push(8);
            out.extend(days.to_le_bytes());
            out.extend(ticks.to_le_bytes());
        }
        (Type::Guid, Value::Guid(guid)) => {
            out.push(16);
            out.extend(guid);
        }
        (Type::DateTime | Type::Guid, _) => out.push(0),
    }
}

impl Value {
    /// As a number; what is none is 0.
    pub(crate) fn whole(&self) -> i64 {
        match self {
            Self::Bit(bit) => (*bit).into(),
            Self::Int(number) => *number,
            #[expect(clippy::cast_possible_truncation, reason = "as CAST does")]
            Self::Float(number) => *number as i64,
            Self::Text(text) => text.trim().parse().unwrap_or(0),
            _ => 0,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bit(bit) => u8::from(*bit).to_string(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::DateTime(days, ticks) => format!("{days}+{ticks}"),
            Self::Guid(guid) => guid.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The type that a column of such values has.
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::Bit(_) => Type::Bit,
            Self::Int(number) if i32::try_from(*number).is_err() => Type::BigInt,
            Self::Null | Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::Text(text) if text.encode_utf16().count() > 4000 => Type::Text(None),
            Self::Text(_) => Type::Text(Some(4000)),
            Self::Binary(_) => Type::Binary,
            Self::DateTime(..) => Type::DateTime,
            Self::Guid(_) => Type::Guid,
        }
    }
}

/// Reads a parameter: its type, then its value.
pub(crate) fn parameter(bytes: &mut Bytes<'_>) -> io::Result<Value> {
    Ok(match bytes.u8()? {
        0x1f => Value::Null,
        0x30 => Value::Int(bytes.u8()?.into()),
        0x32 => Value::Bit(bytes.u8()? != 0),
        0x34 => whole(bytes.take(2)?)?,
        0x38 => whole(bytes.take(4)?)?,
        0x7f => whole(bytes.take(8)?)?,
        0x26 => whole(narrow(bytes)?)?,
        0x68 => narrow(bytes)?.first().map_or(Value::Null, |byte| Value::Bit(*byte != 0)),
        0x3e => float(bytes.take(8)?)?,
        0x3b => float(bytes.take(4)?)?,
        0x6d => float(narrow(bytes)?)?,
        0x24 => narrow(bytes)?.try_into().map_or(Value::Null, Value::Guid),
        0xe7 | 0xef => {
            let longest = bytes.u16()?;
            bytes.take(COLLATION.len())?;
            string(bytes, longest)?.map_or(Ok(Value::Null), |data| utf16(data.as_ref()).map(Value::Text))?
        }
        0xa7 | 0xaf => {
            let longest = bytes.u16()?;
            bytes.take(COLLATION.len())?;
            // A code page is one byte a character here.
            let text = |data: Vec<u8>| Value::Text(data.into_iter().map(char::from).collect());
            string(bytes, longest)?.map_or(Value::Null, text)
        }
        0xa5 | 0xad => {
            let longest = bytes.u16()?;
            string(bytes, longest)?.map_or(Value::Null, Value::Binary)
        }
        other => return Err(malformed(&format!("parameters of type {other:#04x} aren't served"))),
    })
}

/// A value whose type says how wide it may be, and which itself says how wide it is: 0 for NULL.
fn narrow<'a>(bytes: &mut Bytes<'a>) -> io::Result<&'a [u8]> {
    let _widest = bytes.u8()?;
    let width = bytes.u8()?;
    bytes.take(width.into())
}

fn whole(bytes: &[u8]) -> io::Result<Value> {
    Ok(match *bytes {
        [] => Value::Null,
        [a] => Value::Int(a.into()),
        [a, b] => Value::Int(i16::from_le_bytes([a, b]).into()),
        [a, b, c, d] => Value::Int(i32::from_le_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Value::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => return Err(malformed("the width of a number")),
    })
}

fn float(bytes: &[u8]) -> io::Result<Value> {
    Ok(match *bytes {
        [] => Value::Null,
        [a, b, c, d] => Value::Float(f32::from_le_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => return Err(malformed("the width of a number")),
    })
}

/// The bytes of a string, in one piece or, where the type is unbounded, in several.
fn string(bytes: &mut Bytes<'_>, longest: u16) -> io::Result<Option<Vec<u8>>> {
    if longest != LONG {
        let length = bytes.u16()?;
        return if length == LONG { Ok(None) } else { Ok(Some(bytes.take(length.into())?.to_vec())) };
    }
    if bytes.u64()? == u64::MAX {
        return Ok(None);
    }
    let mut whole = Vec::new();
    loop {
        match bytes.u32()? {
            0 => return Ok(Some(whole)),
            length => whole.extend_from_slice(bytes.take(length as usize)?),
        }
    }
}
