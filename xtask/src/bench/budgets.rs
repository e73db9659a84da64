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
    pub(crate) unit: String,
    pub(crate) design: f64,
    pub(crate) at_most: f64,
    pub(crate) reason: Option<String>,
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
    pub(super) fn of(&self, row: &str, name: &str) -> Option<&Budget> {
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
        let within = |name: &String, budget: &Budget| measures.get(name).is_some_and(|m| m.value <= budget.at_most);
        budgets.filter(|(name, budget)| !within(name, budget)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn sample() -> Budgets {
        Budgets::parse("[file.pair]\nabout = \"a pair\"\nunit = \"×\"\ndesign = 2\nat_most = 1.5\n").unwrap()
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
