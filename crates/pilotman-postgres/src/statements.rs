//! The statements, and how their answers are read.

use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::connect::VERSION_17;
use crate::key::PostgresKey;
use crate::options::Scope;
use crate::request::Mode;

/// What begins a transaction that holds a lock. The settings end with it, so that a pooler's other clients don't see them.
pub(crate) fn begin(version: i32) -> String {
    let newer = if version >= VERSION_17 { ";set local transaction_timeout=0" } else { "" };
    format!(
        "begin isolation level read committed read write;set local lock_timeout=0;set local statement_timeout=0;\
         set local idle_in_transaction_session_timeout=0{newer}"
    )
}

fn function(name: &str, scope: Scope, mode: Mode) -> String {
    let scope = match scope {
        Scope::Session => "",
        Scope::Transaction => "_xact",
    };
    let shared = if mode == Mode::Shared { "_shared" } else { "" };
    format!("pg_catalog.{}{scope}_lock{shared}", name)
}

/// An attempt that doesn't wait, as an expression.
pub(crate) fn attempt(key: PostgresKey, scope: Scope, mode: Mode) -> String {
    format!("{}({})", function("pg_try_advisory", scope, mode), key.arguments())
}

/// A wait, as an expression.
pub(crate) fn wait(key: PostgresKey, scope: Scope, mode: Mode) -> String {
    format!("{}({})", function("pg_advisory", scope, mode), key.arguments())
}

/// Releasing, as an expression.
pub(crate) fn unlock(key: PostgresKey, mode: Mode) -> String {
    let shared = if mode == Mode::Shared { "_shared" } else { "" };
    format!("pg_catalog.pg_advisory_unlock{shared}({})", key.arguments())
}

/// Whether nobody waits for a lock that this session shares already: the server would let it in once more, past a waiting
/// writer.
pub(crate) fn nobody_waits(key: PostgresKey) -> String {
    format!("not exists(select from pg_catalog.pg_locks where not granted and {})", key.rows(1))
}

/// The number of a permit that could be had, from one of `permits`, beginning with `from` and without `held`; an expression
/// that is null if there is none.
pub(crate) fn any_permit(gate: PostgresKey, permits: u32, from: u32, held: &[u32], scope: Scope) -> String {
    let PostgresKey::Big(gate) = gate else { return "null".to_owned() };
    let name = function("pg_try_advisory", scope, Mode::Exclusive);
    let number = format!("((i+{from})%{permits})");
    // Each is a call with an effect: the server may order conditions by what they cost, but not what is in a `case`; and of
    // a series among the columns it makes no more than are taken.
    let attempt = format!("{name}('{gate}'::int8+1+{number})");
    let attempt = match held {
        [] => attempt,
        held => {
            let held: Vec<_> = held.iter().map(ToString::to_string).collect();
            format!("case when {number} in({}) then false else {attempt} end", held.join(","))
        }
    };
    format!(
        "(select {number} from (select pg_catalog.generate_series(0::int8,{}) as i offset 0) s where {attempt} limit 1)",
        permits - 1
    )
}

/// The channel that those who wait for a permit listen on.
pub(crate) fn channel(gate: PostgresKey) -> String {
    format!("pilotman_{gate}")
}

/// Releases a permit, and tells whoever waits, if somebody does: it has the gate then.
pub(crate) fn unlock_permit(gate: PostgresKey, number: u32) -> String {
    let permit = gate.permit(number);
    format!(
        "{}, case when {} then {} else pg_catalog.pg_notify('{}','') is null end",
        unlock(permit, Mode::Exclusive),
        attempt(gate, Scope::Session, Mode::Shared),
        unlock(gate, Mode::Shared),
        channel(gate),
    )
}

/// The first row of an answer.
pub(crate) fn first_row(messages: &[SimpleQueryMessage]) -> Option<&SimpleQueryRow> {
    rows(messages).next()
}

/// All rows of an answer, of all its statements.
pub(crate) fn rows(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}
