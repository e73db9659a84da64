//! What a client asks for after its login.

use std::io;

use super::bytes::{Bytes, malformed, utf16};
use super::types::{Value, parameter};

const TRANSACTION_HEADER: u16 = 2;

/// A request, with the transaction that the client believes to be in (0: none).
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) transaction: u64,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Batch(String),
    Call(Call),
    Transaction(TransactionRequest),
}

/// A call of a procedure.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) procedure: String,
    pub(crate) parameters: Vec<Parameter>,
}

#[derive(Debug, Clone)]
pub(crate) struct Parameter {
    /// With its `@`, or empty.
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) out: bool,
}

/// What a client wants of its transaction, not in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransactionRequest {
    Begin,
    Commit { begin_again: bool },
    Rollback { savepoint: String, begin_again: bool },
    Save,
}

pub(crate) fn batch(body: &[u8]) -> io::Result<Request> {
    let mut bytes = Bytes::new(body);
    let transaction = headers(&mut bytes, body)?;
    let mut units = Vec::new();
    while !bytes.is_empty() {
        units.push(bytes.u8()?);
    }
    Ok(Request { transaction, body: Body::Batch(utf16(&units)?) })
}

pub(crate) fn call(body: &[u8]) -> io::Result<Request> {
    let mut bytes = Bytes::new(body);
    let transaction = headers(&mut bytes, body)?;
    let procedure = match bytes.u16()? {
        0xffff => known(bytes.u16()?)?.to_owned(),
        units => bytes.utf16(units.into())?,
    };
    let _options = bytes.u16()?;
    let mut parameters = Vec::new();
    while !bytes.is_empty() {
        let name = bytes.short_string()?;
        let out = bytes.u8()? & 0x01 != 0;
        let value = parameter(&mut bytes)?;
        parameters.push(Parameter { name, value, out });
    }
    Ok(Request { transaction, body: Body::Call(Call { procedure, parameters }) })
}

pub(crate) fn transaction(body: &[u8]) -> io::Result<Request> {
    let mut bytes = Bytes::new(body);
    let transaction = headers(&mut bytes, body)?;
    let request = match bytes.u16()? {
        5 => {
            let _isolation = bytes.u8()?;
            let _name = bytes.short_string()?;
            TransactionRequest::Begin
        }
        7 => {
            let _name = bytes.short_string()?;
            TransactionRequest::Commit { begin_again: bytes.u8()? & 1 != 0 }
        }
        8 => {
            let savepoint = bytes.short_string()?;
            TransactionRequest::Rollback { savepoint, begin_again: bytes.u8()? & 1 != 0 }
        }
        9 => {
            let _name = bytes.short_string()?;
            TransactionRequest::Save
        }
        other => return Err(malformed(&format!("transaction request {other} isn't served"))),
    };
    Ok(Request { transaction, body: Body::Transaction(request) })
}

/// Reads what stands before every request. Gives the transaction.
fn headers(bytes: &mut Bytes<'_>, body: &[u8]) -> io::Result<u64> {
    let total = bytes.u32()? as usize;
    if total < 4 || total > body.len() {
        return Err(malformed("the length of its headers"));
    }
    let mut headers = Bytes::new(bytes.take(total - 4)?);
    let mut transaction = 0;
    while !headers.is_empty() {
        let length = headers.u32()? as usize;
        let kind = headers.u16()?;
        let data = headers.take(length.checked_sub(6).ok_or_else(|| malformed("the length of a header"))?)?;
        if kind == TRANSACTION_HEADER {
            transaction = Bytes::new(data).u64()?;
        }
    }
    Ok(transaction)
}

/// The procedures that have a number.
fn known(number: u16) -> io::Result<&'static str> {
    Ok(match number {
        10 => "sp_executesql",
        11 => "sp_prepare",
        12 => "sp_execute",
        13 => "sp_prepexec",
        15 => "sp_unprepare",
        other => return Err(malformed(&format!("procedure {other} isn't served"))),
    })
}
