//! The statements, and how their answers are read.

use mysql_async::{Row, Value};

/// As long as a wait on the server lasts before it is begun anew: a year, the longest that both servers take.
const LONG: u32 = 31_536_000;

/// What [`attempt`] answers where this session has the lock already.
pub(crate) const OURS: &str = "2";

/// What [`attempt`] and [`wait`] answer where the server has become read-only, as a replica is.
pub(crate) const READ_ONLY: &str = "3";

/// Whether it has. Newer servers say it in a word.
const IS_READ_ONLY: &str = "CONCAT(@@global.read_only) NOT IN ('0','OFF')";

/// A name as the servers take it whatever their settings.
pub(crate) fn literal(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold("_utf8mb4 0x".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An attempt that doesn't wait. It gives no lock twice to a session: MySQL knows names as the same that we tell apart.
pub(crate) fn attempt(name: &str) -> String {
    let name = literal(name);
    format!(
        "SELECT CASE WHEN {IS_READ_ONLY} THEN {READ_ONLY} WHEN IS_USED_LOCK({name})=CONNECTION_ID() THEN {OURS} \
         ELSE GET_LOCK({name},0) END"
    )
}

/// A wait, in a session that holds nothing.
pub(crate) fn wait(name: &str) -> String {
    format!("SELECT CASE WHEN {IS_READ_ONLY} THEN {READ_ONLY} ELSE GET_LOCK({},{LONG}) END", literal(name))
}

/// Gives back what this session may have been granted.
pub(crate) fn undo(name: &str) -> String {
    let name = literal(name);
    format!("SELECT CASE WHEN IS_USED_LOCK({name})=CONNECTION_ID() THEN RELEASE_LOCK({name}) END")
}

/// Releases all of these.
pub(crate) fn release<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let calls: Vec<_> = names.map(|name| format!("RELEASE_LOCK({})", literal(name))).collect();
    format!("SELECT {}", calls.join(","))
}

/// A column as text; `None` if it is null or there is no such column.
pub(crate) fn text(row: &Row, at: usize) -> Option<String> {
    match row.as_ref(at)? {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A column as a number.
pub(crate) fn number(row: &Row, at: usize) -> Option<u64> {
    text(row, at)?.parse().ok()
}

/// Whether a setting is on. Some are words, some numbers.
pub(crate) fn is_on(row: &Row, at: usize) -> bool {
    text(row, at).is_some_and(|text| !["", "0", "OFF"].contains(&text.to_ascii_uppercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_anything() {
        assert_eq!(literal("a'\\"), "_utf8mb4 0x61275c");
        assert_eq!(release(["a", "é"].into_iter()), "SELECT RELEASE_LOCK(_utf8mb4 0x61),RELEASE_LOCK(_utf8mb4 0xc3a9)");
    }
}
