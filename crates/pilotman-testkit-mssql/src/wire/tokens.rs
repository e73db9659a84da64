//! The tokens of a reply.

use super::bytes::to_utf16;
use super::types::{COLLATION, Type, Value, put_type, put_value};

/// More tokens of this reply follow.
const MORE: u16 = 0x01;
const ERROR: u16 = 0x02;
const COUNT: u16 = 0x10;
const ATTENTION: u16 = 0x20;
const SERVER_ERROR: u16 = 0x100;

const SELECT: u16 = 0xc1;

/// What a message of the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The number that documentation and programs know it by.
    pub number: i32,
    /// Tells the places apart where the same error is raised.
    pub state: u8,
    /// Severity: 0 to 10 inform, up to 16 are the user's, 20 and more end the connection.
    pub class: u8,
    /// What it says.
    pub message: String,
    /// The procedure, if it was raised in one.
    pub procedure: String,
}

impl SqlError {
    /// An error of severity 16 outside a procedure.
    pub fn new(number: i32, message: impl Into<String>) -> Self {
        Self { number, state: 1, class: 16, message: message.into(), procedure: String::new() }
    }

    /// With another severity.
    #[must_use]
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// With another state.
    #[must_use]
    pub fn state(mut self, state: u8) -> Self {
        self.state = state;
        self
    }

    pub(crate) fn of(mut self, procedure: &str) -> Self {
        procedure.clone_into(&mut self.procedure);
        self
    }
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Statement,
    Procedure,
    InProcedure,
}

/// One reply, token by token, so that it can be cut between two of them.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    tokens: Vec<Vec<u8>>,
    failed: bool,
}

impl Reply {
    /// The bytes, and the lengths of the tokens in them.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<usize>) {
        // Only the last end of a statement says that nothing follows.
        if self.last_done().is_none() {
            self.done(None);
        }
        if let Some(done) = self.last_done() {
            done[1] &= !(MORE.to_le_bytes()[0]);
        }
        let ends = self.tokens.iter().map(Vec::len).collect();
        (self.tokens.concat(), ends)
    }

    fn last_done(&mut self) -> Option<&mut Vec<u8>> {
        self.tokens.last_mut().filter(|token| matches!(token[0], 0xfd..=0xff))
    }

    fn end(&mut self, kind: Done, status: u16, rows: u64) {
        let byte = match kind {
            Done::Statement => 0xfd,
            Done::Procedure => 0xfe,
            Done::InProcedure => 0xff,
        };
        let command = if status & COUNT == 0 { 0 } else { SELECT };
        let failed = if std::mem::take(&mut self.failed) { ERROR } else { 0 };
        let mut token = vec![byte];
        token.extend((status | failed | MORE).to_le_bytes());
        token.extend(command.to_le_bytes());
        token.extend(rows.to_le_bytes());
        self.tokens.push(token);
    }

    /// A statement of a batch ended, with rows or without.
    pub(crate) fn done(&mut self, rows: Option<u64>) {
        self.end(Done::Statement, rows.map_or(0, |_| COUNT), rows.unwrap_or(0));
    }

    /// A statement inside a procedure ended.
    pub(crate) fn done_in_procedure(&mut self, rows: Option<u64>) {
        self.end(Done::InProcedure, rows.map_or(0, |_| COUNT), rows.unwrap_or(0));
    }

    /// A procedure ended.
    pub(crate) fn done_procedure(&mut self) {
        self.end(Done::Procedure, 0, 0);
    }

    /// The answer to an attention.
    pub(crate) fn attention(&mut self) {
        self.end(Done::Statement, ATTENTION, 0);
    }

    /// The end of a connection.
    pub(crate) fn fatal(&mut self) {
        self.end(Done::Statement, ERROR | SERVER_ERROR, 0);
    }

    pub(crate) fn status(&mut self, status: i32) {
        let mut token = vec![0x79];
        token.extend(status.to_le_bytes());
        self.tokens.push(token);
    }

    /// An OUT parameter.
    pub(crate) fn returned(&mut self, ordinal: u16, name: &str, kind: Type, value: &Value) {
        let mut token = vec![0xac];
        token.extend(ordinal.to_le_bytes());
        short(&mut token, name);
        token.push(0x01);
        token.extend([0; 4]);
        token.extend(0_u16.to_le_bytes());
        put_type(&mut token, kind);
        put_value(&mut token, kind, value);
        self.tokens.push(token);
    }

    pub(crate) fn columns(&mut self, columns: &[(String, Type)]) {
        let mut token = vec![0x81];
        token.extend(u16::try_from(columns.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (name, kind) in columns {
            token.extend([0; 4]);
            // It may be null, and its source isn't known.
            token.extend(0x0021_u16.to_le_bytes());
            put_type(&mut token, *kind);
            short(&mut token, name);
        }
        self.tokens.push(token);
    }

    pub(crate) fn row(&mut self, columns: &[(String, Type)], row: &[Value]) {
        let mut token = vec![0xd1];
        for ((_, kind), value) in columns.iter().zip(row) {
            put_value(&mut token, *kind, value);
        }
        self.tokens.push(token);
    }

    pub(crate) fn error(&mut self, error: &SqlError) {
        self.failed = true;
        self.said(0xaa, error);
    }

    pub(crate) fn info(&mut self, info: &SqlError) {
        self.said(0xab, info);
    }

    fn said(&mut self, byte: u8, said: &SqlError) {
        let mut body = said.number.to_le_bytes().to_vec();
        body.extend([said.state, said.class]);
        let message: String = said.message.chars().take(2000).collect();
        body.extend(u16::try_from(message.encode_utf16().count()).unwrap_or(0).to_le_bytes());
        body.extend(to_utf16(&message));
        short(&mut body, crate::NAME);
        short(&mut body, &said.procedure);
        body.extend(1_u32.to_le_bytes());
        self.sized(byte, &body);
    }

    pub(crate) fn login_ack(&mut self, version: u32) {
        let mut body = vec![1];
        body.extend(version.to_be_bytes());
        short(&mut body, "Microsoft SQL Server");
        body.extend([15, 0, 0x07, 0xd0]);
        self.sized(0xad, &body);
    }

    /// The federated login was accepted.
    pub(crate) fn federated_ack(&mut self) {
        let mut token = vec![0xae, 0x02];
        token.extend(0_u32.to_le_bytes());
        token.push(0xff);
        self.tokens.push(token);
    }

    pub(crate) fn database(&mut self, new: &str, old: &str) {
        self.changed(1, new, old);
    }

    pub(crate) fn packet_size(&mut self, new: usize, old: usize) {
        self.changed(4, &new.to_string(), &old.to_string());
    }

    pub(crate) fn language(&mut self) {
        self.changed(2, "us_english", "");
    }

    pub(crate) fn collation(&mut self) {
        let mut body = vec![7, 5];
        body.extend(COLLATION);
        body.push(0);
        self.sized(0xe3, &body);
    }

    pub(crate) fn began(&mut self, transaction: u64) {
        let mut body = vec![8, 8];
        body.extend(transaction.to_le_bytes());
        body.push(0);
        self.sized(0xe3, &body);
    }

    pub(crate) fn ended(&mut self, transaction: u64, committed: bool) {
        let mut body = vec![if committed { 9 } else { 10 }, 0, 8];
        body.extend(transaction.to_le_bytes());
        self.sized(0xe3, &body);
    }

    pub(crate) fn was_reset(&mut self) {
        self.sized(0xe3, &[18, 0, 0]);
    }

    /// The client is to connect to another server.
    pub(crate) fn routed(&mut self, host: &str, port: u16) {
        let mut route = vec![0];
        route.extend(port.to_le_bytes());
        route.extend(u16::try_from(host.encode_utf16().count()).unwrap_or(0).to_le_bytes());
        route.extend(to_utf16(host));
        let mut body = vec![20];
        body.extend(u16::try_from(route.len()).unwrap_or(0).to_le_bytes());
        body.extend(route);
        body.extend([0, 0]);
        self.sized(0xe3, &body);
    }

    fn changed(&mut self, what: u8, new: &str, old: &str) {
        let mut body = vec![what];
        short(&mut body, new);
        short(&mut body, old);
        self.sized(0xe3, &body);
    }

    fn sized(&mut self, byte: u8, body: &[u8]) {
        let mut token = vec![byte];
        token.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes());
        token.extend(body);
        self.tokens.push(token);
    }
}

/// A string with its length in one byte. What is longer is cut.
fn short(out: &mut Vec<u8>, text: &str) {
    let mut bytes = to_utf16(text);
    bytes.truncate(usize::from(u8::MAX) * 2);
    out.push(u8::try_from(bytes.len() / 2).unwrap_or(u8::MAX));
    out.extend(bytes);
}
