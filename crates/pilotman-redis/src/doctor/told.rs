//! What a server says about itself: `INFO`, and the settings that `CONFIG GET` tells.

use std::collections::HashMap;

use futures_util::future::join_all;
use pilotman_core::Result;
use pilotman_core::backend::Finding;
use redis::{RedisResult, Value};

use crate::failure::{code, failed};
use crate::node::Line;

/// The settings that are asked for. None of them is a secret.
const SETTINGS: [&str; 6] =
    ["save", "appendfsync", "min-replicas-to-write", "min-replicas-max-lag", "bind", "protected-mode"];

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Told {
    info: HashMap<String, String>,
    settings: HashMap<String, String>,
}

/// The answer; `None` where this user may not ask, or the server doesn't know the question.
pub(super) fn answer(answered: RedisResult<Value>) -> Result<Option<Value>> {
    match answered {
        Ok(value) => Ok(Some(value)),
        Err(error) if code(&error).is_some() => {
            tracing::debug!(%error, "a question of the doctor was refused");
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

/// `key:value` lines.
pub(super) fn lines(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

/// A map, or a flat list of keys and values; those whose values are no texts are left out.
pub(super) fn pairs(value: &Value) -> HashMap<String, String> {
    let pair = |key: &Value, value: &Value| Some((text(key)?, text(value)?));
    match value {
        Value::Map(pairs) => pairs.iter().filter_map(|(key, value)| pair(key, value)).collect(),
        Value::Array(flat) => flat.chunks_exact(2).filter_map(|two| pair(&two[0], &two[1])).collect(),
        _ => HashMap::new(),
    }
}

/// Asks for all of it.
pub(super) async fn ask(line: &Line) -> Result<Told> {
    let info = redis::cmd("INFO");
    let settings = join_all(SETTINGS.map(|name| async move {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        line.ask(&get).await
    }));
    let (info, settings) = tokio::join!(line.ask(&info), settings);
    let info = answer(info)?.as_ref().and_then(text).map(|text| lines(&text)).unwrap_or_default();
    let mut told = Told { info, settings: HashMap::new() };
    for setting in settings {
        told.settings.extend(answer(setting)?.as_ref().map(pairs).unwrap_or_default());
    }
    Ok(told)
}

impl Told {
    pub(super) fn info(&self, field: &str) -> Option<&str> {
        self.info.get(field).map(String::as_str)
    }

    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.info(field)?.parse().ok()
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// What could not be looked at.
    pub(super) fn untold(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.info.is_empty() {
            let what = "INFO is not allowed or not there: restarts and promotions go unnoticed, and version, eviction, \
                        persistence and replicas could not be looked at";
            findings.push(Finding::note("info", what).advice("allow this user +info, or look at them yourself"));
        }
        if self.settings.is_empty() {
            let what = "CONFIG GET is not allowed or not there: when the server writes to disk, how many replicas it \
                        demands and who may connect could not be looked at";
            findings.push(
                Finding::note("config", what).advice(
                    "only this diagnosis needs it; run it as an administrator, or look at the settings yourself",
                ),
            );
        }
        findings
    }

    #[cfg(test)]
    pub(super) fn of(info: &str, settings: &[(&str, &str)]) -> Self {
        let info = info.split(' ').collect::<Vec<_>>().join("\n");
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { info: lines(&info), settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_are_read() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let flat = Value::Array(vec![bulk("save"), bulk("900 1"), bulk("list"), Value::Array(vec![])]);
        let map = Value::Map(vec![(bulk("save"), bulk("900 1")), (bulk("list"), Value::Nil)]);
        for value in [flat, map] {
            assert_eq!(pairs(&value), HashMap::from([("save".to_owned(), "900 1".to_owned())]));
        }
        assert!(pairs(&Value::Nil).is_empty());
        assert_eq!(lines("# Server\r\nrun_id:abc\r\n\r\nconfig_file:\r\n").len(), 2);
    }

    #[test]
    fn what_is_forbidden_is_a_note() {
        let about = |told: Told| told.untold().iter().map(|found| (found.about, found.severity)).collect::<Vec<_>>();
        let note = pilotman_core::backend::Severity::Note;
        assert_eq!(about(Told::default()), [("info", note), ("config", note)]);
        assert_eq!(about(Told::of("run_id:1", &[])), [("config", note)]);
        assert_eq!(about(Told::of("run_id:1", &[("save", "")])), []);
    }
}
