//! A request as text, for the log and for faults.

use std::fmt::Write;

use crate::wire::request::{Body, Call, Parameter, TransactionRequest};
use crate::wire::types::Value;

pub(super) fn text(body: &Body) -> String {
    match body {
        Body::Batch(text) => text.clone(),
        Body::Call(call) => describe(call),
        Body::Transaction(TransactionRequest::Begin) => "TM_BEGIN_XACT".to_owned(),
        Body::Transaction(TransactionRequest::Commit { .. }) => "TM_COMMIT_XACT".to_owned(),
        Body::Transaction(TransactionRequest::Rollback { .. }) => "TM_ROLLBACK_XACT".to_owned(),
        Body::Transaction(TransactionRequest::Save) => "TM_SAVE_XACT".to_owned(),
    }
}

fn describe(call: &Call) -> String {
    let mut text = format!("EXEC {}", call.procedure);
    for (place, Parameter { name, value, out, .. }) in call.parameters.iter().enumerate() {
        text.push_str(if place == 0 { " " } else { ", " });
        if !name.is_empty() {
            text.push_str(name);
            text.push_str(" = ");
        }
        match value {
            Value::Null => text.push_str("NULL"),
            Value::Text(value) => {
                let quoted = value.replace('\'', "''");
                // Writing to a string doesn't fail.
                let _ = write!(text, "N'{quoted}'");
            }
            other => text.push_str(&other.text()),
        }
        text.push_str(if *out { " OUTPUT" } else { "" });
    }
    text
}
