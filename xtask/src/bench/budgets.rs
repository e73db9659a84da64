//! `budgets.toml`: the ceilings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::measure::Measure;

/// All ceilings, by row and measure.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Budgets {
    rows: BTreeMap<String, BTreeMap<String, Budget>>,
}

/// One ceiling.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) about: String,
    /// Whether the README has it.
    #[serde(default)]
    pub(crate) headline: bool,
    pub(crate) unit: String,
    pub(crate) design: f64,
    pub(crate) at_most: f64,
    pub(crate) reason: Option<String>,
    /// Another measure of the row: if that one is low enough, this one may be what it likes.
    pub(crate) or: Option<Or>,
}

/// The other way to keep a budget.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Or {
    pub(crate) measure: String,
    pub(crate) at_most: f64,
}

impl Budget {
    fn is_kept(&self, name: &str, measures: &BTreeMap<String, Measure>) -> bool {
        let within = |name: &str, at_most| measures.get(name).is_some_and(|measure| measure.value <= at_most);
        let or = self.or.as_ref().is_some_and(|or| within(&or.measure, or.at_most));
        within(name, self.at_most) || or && measures.contains_key(name)
    }
}

impl Budgets {
    /// Reads and checks the file.
    ///
    /// # Errors
    ///
    /// When it can't be read or understood, or a ceiling was raised without a reason.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not right", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let budgets: Self = toml::from_str(text)?;
        for (row, name, budget) in budgets.iter() {
            let reason = budget.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
            if budget.at_most > budget.design && !reason {
                bail!("{row}.{name} is raised above the design's {} without a reason", budget.design);
            }
        }
        Ok(budgets)
    }

    /// All ceilings in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Budget)> {
        self.rows.iter().flat_map(|(row, measures)| {
            measures.iter().map(move |(name, budget)| (row.as_str(), name.as_str(), budget))
        })
    }

    /// The ceiling of a measure.
    pub(crate) fn of(&self, row: &str, name: &str) -> Option<&Budget> {
        self.rows.get(row)?.get(name)
    }

    /// Refuses ceilings of rows that nothing measures.
    ///
    /// # Errors
    ///
    /// When there are some.
    pub(super) fn check_rows(&self, known: &[&str]) -> Result<()> {
        let unknown: Vec<&str> = self.rows.keys().map(String::as_str).filter(|row| !known.contains(row)).collect();
        if !unknown.is_empty() {
            bail!("budgets.toml has rows that nothing measures: {}", unknown.join(", "));
        }
        Ok(())
    }

    /// The names of the measures of this row that are above their ceilings, or were not measured at all.
    pub(super) fn above(&self, row: &str, measures: &BTreeMap<String, Measure>) -> Vec<String> {
        let budgets = self.rows.get(row).into_iter().flatten();
        budgets.filter(|(name, budget)| !budget.is_kept(name, measures)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn sample() -> Budgets {
        Budgets::parse("[file.pair]\nabout = \"a pair\"\nunit = \"×\"\ndesign = 2\nat_most = 1.5\n").unwrap()
    }

    pub(in crate::bench) fn headline_sample() -> Budgets {
        let text = "[file.pair]\nabout = \"a pair\"\nheadline = true\nunit = \"×\"\ndesign = 2\nat_most = 1.5\n";
        Budgets::parse(text).unwrap()
    }

    fn measured(value: f64) -> BTreeMap<String, Measure> {
        BTreeMap::from([("pair".to_owned(), Measure { value, unit: "×".to_owned() })])
    }

    #[test]
    fn what_is_above_or_missing_is_named() {
        assert!(sample().above("file", &measured(1.5)).is_empty());
        assert_eq!(sample().above("file", &measured(1.6)), ["pair"]);
        assert_eq!(sample().above("file", &measured(f64::NAN)), ["pair"]);
        assert_eq!(sample().above("file", &BTreeMap::new()), ["pair"]);
        assert!(sample().above("other", &measured(9.0)).is_empty());
    }

    #[test]
    fn the_looser_of_two_ceilings_counts() {
        let or = "or = { measure = \"over\", at_most = 15 }\n";
        let head = "[redis.pair]\nabout = \"\"\nunit = \"×\"\ndesign = 1.1\nat_most = 1.1\n";
        let budgets = Budgets::parse(&format!("{head}{or}")).unwrap();
        let above = |pair: f64, over: f64| {
            let measure = |value, unit: &str| Measure { value, unit: unit.to_owned() };
            let all = [("pair".to_owned(), measure(pair, "×")), ("over".to_owned(), measure(over, "µs"))];
            budgets.above("redis", &BTreeMap::from(all))
        };
        assert!(above(1.05, 40.0).is_empty());
        assert!(above(1.5, 14.0).is_empty());
        assert_eq!(above(1.5, 16.0), ["pair"]);
        assert_eq!(above(1.5, f64::NAN), ["pair"]);
        let alone = BTreeMap::from([("over".to_owned(), Measure { value: 1.0, unit: "µs".to_owned() })]);
        assert_eq!(budgets.above("redis", &alone), ["pair"], "it was not measured");
    }

    #[test]
    fn raising_a_ceiling_needs_a_reason() {
        let raised = "[file.pair]\nabout = \"\"\nunit = \"×\"\ndesign = 2\nat_most = 3\n";
        assert!(Budgets::parse(raised).is_err());
        assert!(Budgets::parse(&format!("{raised}reason = \" \"\n")).is_err());
        assert!(Budgets::parse(&format!("{raised}reason = \"because\"\n")).is_ok());
    }

    #[test]
    fn a_row_that_nothing_measures_is_refused() {
        assert!(sample().check_rows(&["file", "run"]).is_ok());
        assert!(sample().check_rows(&["run"]).is_err());
    }

    #[test]
    fn the_file_of_the_repository_is_right() {
        let budgets = Budgets::read(&crate::workspace::root().join("budgets.toml")).unwrap();
        budgets.check_rows(&super::super::ROWS.map(|(name, _)| name)).unwrap();
        for (row, _) in super::super::ROWS {
            assert!(budgets.iter().any(|(other, _, _)| other == row), "{row} has no budget");
        }
    }
}
