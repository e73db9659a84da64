//! Runs a measuring program and reads its figures: one JSON object a line.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::shell;

/// A figure. Smaller is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Measure {
    pub(super) value: f64,
    pub(super) unit: String,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    value: f64,
    unit: String,
}

/// Runs the program.
///
/// # Errors
///
/// When it fails or prints something else.
pub(super) fn run(program: &Path) -> Result<BTreeMap<String, Measure>> {
    let text = shell::output(&mut Command::new(program))?;
    parse(&text).with_context(|| format!("{} printed something unexpected", program.display()))
}

fn parse(text: &str) -> Result<BTreeMap<String, Measure>> {
    let mut measures = BTreeMap::new();
    for line in text.lines() {
        let Line { name, value, unit } = serde_json::from_str(line)?;
        if measures.insert(name.clone(), Measure { value, unit }).is_some() {
            bail!("{name} comes twice");
        }
    }
    Ok(measures)
}

/// Takes over the figures of another run that are better, or new.
pub(super) fn keep_better(best: &mut BTreeMap<String, Measure>, run: BTreeMap<String, Measure>) {
    for (name, measure) in run {
        match best.get(&name) {
            Some(known) if known.value <= measure.value => {}
            _ => {
                best.insert(name, measure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let measures = parse("{\"name\":\"pair\",\"value\":1.5,\"unit\":\"×\"}\n").unwrap();
        assert_eq!(measures["pair"], Measure { value: 1.5, unit: "×".to_owned() });
        assert!(parse("pair 1.5\n").is_err());
        assert!(parse(&"{\"name\":\"pair\",\"value\":1.5,\"unit\":\"×\"}\n".repeat(2)).is_err());
    }

    #[test]
    fn the_best_of_each_is_kept() {
        let run = |a, b| {
            let measure = |value| Measure { value, unit: "ms".to_owned() };
            BTreeMap::from([("a".to_owned(), measure(a)), ("b".to_owned(), measure(b))])
        };
        let mut best = BTreeMap::new();
        keep_better(&mut best, run(2.0, 1.0));
        keep_better(&mut best, run(1.0, 2.0));
        assert_eq!((best["a"].value, best["b"].value), (1.0, 1.0));
    }
}
