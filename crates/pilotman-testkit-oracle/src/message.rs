//! What the client sends once it's connected, read; and the messages that answer it.

use std::collections::HashMap;

use crate::database::{Cell, Column, OraError, Value};
use crate::ttc::{Reader, Unread, Writer, decode_number, encode_number};

const PROTOCOL: u8 = 1;
const DATA_TYPES: u8 = 2;
const FUNCTION: u8 = 3;
const ERROR: u8 = 4;
const ROW_HEADER: u8 = 6;
const ROW: u8 = 7;
const PARAMETERS: u8 = 8;
const STATUS: u8 = 9;
const DIRECTIONS: u8 = 11;
const DESCRIPTION: u8 = 16;
const PIGGYBACK: u8 = 17;

const TYPE_VARCHAR: u8 = 1;
const TYPE_NUMBER: u8 = 2;
const TYPE_INTEGER: u8 = 3;
const TYPE_CHAR: u8 = 96;
const UTF8: u64 = 873;
const UTF16: u16 = 2000;

/// The version of the messages' fields: that of Oracle Database 19c.
const FIELDS_19C: u8 = 12;

const DIRECTION_OUT: u8 = 0x10;
const DIRECTION_IN: u8 = 0x20;

/// A function that the client calls.
pub(crate) enum Call {
    Protocol,
    DataTypes,
    /// Both messages of a login.
    Login {
        second: bool,
        user: String,
        pairs: HashMap<String, String>,
    },
    Execute(Execute),
    Fetch,
    Commit,
    Rollback,
    Ping,
    Logoff,
}

pub(crate) struct Execute {
    /// The text of a statement that the server hasn't parsed yet.
    pub(crate) sql: Option<String>,
    pub(crate) cursor: u16,
    pub(crate) executions: u64,
    /// Of a cursor that is executed again as it was: empty.
    pub(crate) types: Vec<u8>,
    pub(crate) values: Vec<Value>,
}

/// What the client says besides calling a function.
#[derive(Default)]
pub(crate) struct Asides {
    pub(crate) closed_cursors: Vec<u16>,
    pub(crate) labels: Vec<(&'static str, String)>,
}

/// What the server remembers of a statement.
pub(crate) struct Cursor {
    pub(crate) sql: String,
    pub(crate) types: Vec<u8>,
    /// Which binds carry a value to the server when it's executed again.
    pub(crate) inputs: Vec<bool>,
}

pub(crate) type Cursors = HashMap<u16, Cursor>;

pub(crate) fn read(reader: &mut Reader<'_>, cursors: &Cursors) -> Result<(Asides, Call), Unread> {
    let mut asides = Asides::default();
    loop {
        match reader.u8()? {
            PROTOCOL => {
                reader.u8()?;
                // The version's end, the driver's name and its end.
                while reader.u8()? != 0 {}
                while reader.u8()? != 0 {}
                return Ok((asides, Call::Protocol));
            }
            DATA_TYPES => {
                reader.bytes(5)?;
                reader.string()?;
                reader.string()?;
                while reader.u16()? != 0 {
                    reader.bytes(6)?;
                }
                return Ok((asides, Call::DataTypes));
            }
            PIGGYBACK => read_aside(reader, &mut asides)?,
            FUNCTION => {
                let function = reader.u8()?;
                reader.u8()?;
                return Ok((asides, read_function(function, reader, cursors)?));
            }
            other => return Err(Unread::Malformed(format!("message {other}"))),
        }
    }
}

fn read_aside(reader: &mut Reader<'_>, asides: &mut Asides) -> Result<(), Unread> {
    let function = reader.u8()?;
    reader.u8()?;
    match function {
        105 => {
            reader.u8()?;
            for _ in 0..reader.ub()? {
                asides.closed_cursors.push(reader.ub()? as u16);
            }
        }
        135 => {
            reader.bytes(2)?;
            reader.ub()?;
            let mut given = Vec::new();
            let labels = [
                Some("client_identifier"),
                Some("module"),
                Some("action"),
                None,
                None,
                Some("client_info"),
                None,
                None,
                Some("db_op"),
            ];
            for label in labels {
                let is_given = reader.u8()? != 0;
                let length = reader.ub()?;
                given.extend(label.filter(|_| is_given).map(|label| (label, length)));
            }
            for (label, length) in given {
                asides.labels.push((label, if length > 0 { reader.text()? } else { String::new() }));
            }
        }
        other => return Err(Unread::Malformed(format!("piggyback {other}"))),
    }
    Ok(())
}

fn read_function(function: u8, reader: &mut Reader<'_>, cursors: &Cursors) -> Result<Call, Unread> {
    Ok(match function {
        118 | 115 => {
            reader.u8()?;
            reader.skip_ubs(2)?;
            reader.u8()?;
            let count = reader.ub()?;
            reader.bytes(2)?;
            let user = reader.text()?;
            let mut pairs = HashMap::new();
            for _ in 0..count {
                let key = reader.counted_text()?;
                pairs.insert(key, reader.counted_text()?);
                reader.ub()?;
            }
            Call::Login { second: function == 115, user, pairs }
        }
        94 => Call::Execute(read_execute(reader, cursors)?),
        4 | 78 => {
            let cursor = reader.ub()? as u16;
            let executions = if function == 4 { reader.ub()? } else { reader.ub().map(|_| 1)? };
            reader.skip_ubs(2)?;
            let known = cursors.get(&cursor).ok_or_else(|| Unread::Malformed(format!("no cursor {cursor}")))?;
            let mut values = vec![Value::Null; known.types.len()];
            if known.inputs.contains(&true) {
                read_row_start(reader)?;
                for ((value, kind), _) in
                    values.iter_mut().zip(&known.types).zip(&known.inputs).filter(|(_, is_input)| **is_input)
                {
                    *value = read_value(reader, *kind)?;
                }
            }
            Call::Execute(Execute { sql: None, cursor, executions, types: Vec::new(), values })
        }
        5 => {
            reader.skip_ubs(2)?;
            Call::Fetch
        }
        9 => Call::Logoff,
        14 => Call::Commit,
        15 => Call::Rollback,
        147 => Call::Ping,
        other => return Err(Unread::Malformed(format!("function {other}"))),
    })
}

fn read_execute(reader: &mut Reader<'_>, cursors: &Cursors) -> Result<Execute, Unread> {
    reader.ub()?;
    let cursor = reader.ub()? as u16;
    let has_sql = reader.u8()? != 0;
    reader.ub()?;
    reader.u8()?;
    reader.ub()?;
    reader.bytes(2)?;
    reader.skip_ubs(3)?;
    reader.u8()?;
    let binds = reader.ub()? as usize;
    reader.bytes(5)?;
    if reader.u8()? != 0 {
        return Err(Unread::Malformed("columns defined by the client".into()));
    }
    reader.skip_ubs(2)?;
    reader.bytes(3)?;
    reader.ub()?;
    reader.u8()?;
    reader.skip_ubs(2)?;
    reader.u8()?;
    reader.ub()?;
    reader.bytes(2)?;
    reader.ub()?;
    reader.u8()?;
    reader.ub()?;
    reader.bytes(2)?;
    reader.ub()?;
    let sql = if has_sql { Some(reader.text()?) } else { None };
    reader.ub()?;
    let executions = reader.ub()?;
    reader.skip_ubs(11)?;
    if sql.is_none() && !cursors.contains_key(&cursor) {
        return Err(Unread::Malformed(format!("no cursor {cursor}")));
    }
    let mut types = Vec::new();
    for _ in 0..binds {
        types.push(reader.u8()?);
        reader.bytes(3)?;
        reader.skip_ubs(3)?;
        reader.counted_text()?;
        reader.skip_ubs(2)?;
        reader.u8()?;
        reader.skip_ubs(2)?;
    }
    let mut values = Vec::new();
    if binds > 0 {
        read_row_start(reader)?;
        for kind in &types {
            values.push(read_value(reader, *kind)?);
        }
    }
    Ok(Execute { sql, cursor, executions, types, values })
}

fn read_row_start(reader: &mut Reader<'_>) -> Result<(), Unread> {
    match reader.u8()? {
        ROW => Ok(()),
        other => Err(Unread::Malformed(format!("message {other} for a row of binds"))),
    }
}

fn read_value(reader: &mut Reader<'_>, kind: u8) -> Result<Value, Unread> {
    let bytes = reader.string()?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    match kind {
        TYPE_NUMBER | TYPE_INTEGER => decode_number(&bytes).map(Value::Number),
        TYPE_VARCHAR | TYPE_CHAR => String::from_utf8(bytes).ok().map(Value::Text),
        other => return Err(Unread::Malformed(format!("a bind of type {other}"))),
    }
    .ok_or_else(|| Unread::Malformed("a bind that isn't of its type".into()))
}

pub(crate) fn protocol() -> Writer {
    let mut capabilities = [0; 42];
    capabilities[7] = FIELDS_19C;
    let mut run_time = [0; 11];
    // Texts of 32767 bytes.
    run_time[6] = 0x04;
    let mut writer = Writer::new(PROTOCOL);
    writer.raw(&[6, 0]).raw(b"pilotman-testkit-oracle\0").raw(&(UTF8 as u16).to_le_bytes()).u8(0);
    // No graph of character sets; then a field of 11 bytes that ends in the national one.
    writer.raw(&[0, 0]).raw(&[0, 11]).raw(&[0; 9]).raw(&UTF16.to_be_bytes());
    writer.string(&capabilities).string(&run_time);
    writer
}

pub(crate) fn data_types() -> Writer {
    let mut writer = Writer::new(DATA_TYPES);
    writer.raw(&[0, 0]);
    writer
}

/// An answer to either message of a login.
pub(crate) fn login(pairs: &[(&str, String, u64)]) -> Writer {
    let mut writer = Writer::new(PARAMETERS);
    writer.ub(pairs.len() as u64);
    for (key, value, flags) in pairs {
        writer.counted_string(key.as_bytes()).counted_string(value.as_bytes()).ub(*flags);
    }
    writer.raw(&status().into_bytes());
    writer
}

/// The end of a call that has nothing else to say.
pub(crate) fn status() -> Writer {
    let mut writer = Writer::new(STATUS);
    writer.ubs(&[0, 0]);
    writer
}

/// The end of a call that failed; of a statement that the server still knows, with its cursor, which the client then closes.
pub(crate) fn failed(error: &OraError, cursor: u16) -> Writer {
    let mut writer = Writer::default();
    end(&mut writer, cursor, 0, Some(error));
    writer
}

/// What an anonymous block gave: the values of its OUT binds, and which these are.
pub(crate) fn block(cursor: u16, types: &[u8], outs: &[Cell], inputs: &[bool]) -> Writer {
    let mut writer = Writer::default();
    if !outs.is_empty() {
        writer.u8(DIRECTIONS).u8(0).ub(outs.len() as u64).ubs(&[0, 1, 0, 0, 0]);
        for (out, is_input) in outs.iter().zip(inputs) {
            let out = if out.is_some() { DIRECTION_OUT } else { 0 };
            writer.u8(out | if *is_input { DIRECTION_IN } else { 0 });
        }
        if outs.iter().any(Option::is_some) {
            writer.u8(ROW);
            for (value, kind) in outs.iter().zip(types).filter_map(|(out, kind)| Some((out.as_ref()?, kind))) {
                write_value(&mut writer, value, *kind);
                // Not truncated.
                writer.ub(0);
            }
        }
    }
    end(&mut writer, cursor, 0, None);
    writer
}

pub(crate) fn rows(cursor: u16, columns: &[Column], rows: &[Vec<Value>]) -> Writer {
    let mut writer = Writer::new(DESCRIPTION);
    writer.string(&[]).ub(0).ub(columns.len() as u64);
    if !columns.is_empty() {
        writer.u8(0);
    }
    for (position, column) in columns.iter().enumerate() {
        let (kind, size, form) = if column.is_number { (TYPE_NUMBER, 22, 0) } else { (TYPE_VARCHAR, 4000, 1) };
        writer.u8(kind).raw(&[0, 0, 0]).ubs(&[size, 0, 0]).counted_string(&[]);
        writer.ub(0).ub(if form == 1 { UTF8 } else { 0 }).u8(form).ubs(&[size, 0]).raw(&[1, 0]);
        writer.counted_string(column.name.as_bytes()).counted_string(&[]).counted_string(&[]);
        writer.ub(position as u64 + 1).ub(0);
    }
    writer.counted_string(&[]).ubs(&[0; 4]).counted_string(&[]);
    writer.u8(ROW_HEADER).u8(0).ubs(&[0; 6]);
    for row in rows {
        writer.u8(ROW);
        for (value, column) in row.iter().zip(columns) {
            write_value(&mut writer, value, if column.is_number { TYPE_NUMBER } else { TYPE_VARCHAR });
        }
    }
    end(&mut writer, cursor, rows.len() as u64, Some(&OraError::new(1403, "no data found")));
    writer
}

fn write_value(writer: &mut Writer, value: &Value, kind: u8) {
    let wants_number = matches!(kind, TYPE_NUMBER | TYPE_INTEGER);
    match value {
        Value::Null => writer.u8(0),
        Value::Number(number) if wants_number => writer.string(&encode_number(*number)),
        // As PL/SQL converts a number that is assigned to a text.
        Value::Number(number) => writer.string(number.to_string().as_bytes()),
        Value::Text(text) => writer.string(text.as_bytes()),
    };
}

/// The end of a call on a statement.
fn end(writer: &mut Writer, cursor: u16, rows: u64, error: Option<&OraError>) {
    let code = error.map_or(0, |error| u64::from(error.code));
    writer.u8(ERROR).ubs(&[0, 0, rows, 0, 0, 0, u64::from(cursor), 0]).raw(&[0; 6]);
    // No row id.
    writer.ubs(&[0, 0]).u8(0).ubs(&[0, 0]);
    writer.ub(0).raw(&[0, 0]).ubs(&[0, 0, 0, 0, 0, 0]);
    writer.ubs(&[code, rows]);
    if let Some(error) = error {
        writer.string(error.to_string().as_bytes());
    }
}
