//! The figures as a table for the documentation, and as JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::budgets::Budgets;
use super::measure::Measure;

/// The figures of one row beside their ceilings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    row: String,
    figures: Vec<Figure>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figure {
    name: String,
    /// `None`: there is a ceiling, but nothing was measured.
    value: Option<f64>,
    unit: String,
    /// `None`: for information.
    at_most: Option<f64>,
    within: bool,
}

impl Row {
    /// Puts figures and ceilings together.
    pub(super) fn new(row: &str, measures: BTreeMap<String, Measure>, budgets: &Budgets) -> Self {
        let above = budgets.above(row, &measures);
        let unmeasured = above.iter().filter(|name| !measures.contains_key(*name)).map(|name| (name.clone(), None));
        let unmeasured: Vec<_> = unmeasured.collect();
        let all = measures.into_iter().map(|(name, measure)| (name, Some(measure))).chain(unmeasured);
        let mut figures: Vec<Figure> = all
            .map(|(name, measure)| {
                let budget = budgets.of(row, &name);
                Figure {
                    within: !above.contains(&name),
                    at_most: budget.map(|budget| budget.at_most),
                    unit: measure
                        .as_ref()
                        .map(|m| m.unit.clone())
                        .or(budget.map(|b| b.unit.clone()))
                        .unwrap_or_default(),
                    value: measure.map(|measure| measure.value),
                    name,
                }
            })
            .collect();
        // What has a ceiling comes first.
        figures.sort_by(|a, b| (a.at_most.is_none(), &a.name).cmp(&(b.at_most.is_none(), &b.name)));
        Self { row: row.to_owned(), figures }
    }

    /// One line for each figure above its ceiling.
    pub(super) fn failures(&self) -> Vec<String> {
        let above = self.figures.iter().filter(|figure| !figure.within);
        above
            .map(|f| {
                format!("{}.{}: {}, at most {}", self.row, f.name, shown(f.value, &f.unit), shown(f.at_most, &f.unit))
            })
            .collect()
    }

    /// The row as JSON.
    ///
    /// # Errors
    ///
    /// When a figure is not a number.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

/// A Markdown table of all rows.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![["measure", "figure", "at most", ""].map(str::to_owned)];
    for row in rows {
        for figure in &row.figures {
            let verdict = match (figure.at_most, figure.within) {
                (None, _) => "",
                (Some(_), true) => "ok",
                (Some(_), false) => "ABOVE",
            };
            let limit = figure.at_most.map_or_else(String::new, |_| shown(figure.at_most, &figure.unit));
            let name = format!("{} {}", row.row, figure.name);
            lines.push([name, shown(figure.value, &figure.unit), limit, verdict.to_owned()]);
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let format = |line: &[String; 4]| {
        let [a, b, c, d] = widths;
        format!("| {:<a$} | {:>b$} | {:>c$} | {:<d$} |\n", line[0], line[1], line[2], line[3])
    };
    let rule = format!("|{}|\n", widths.map(|width| "-".repeat(width + 2)).join("|"));
    lines.iter().enumerate().map(|(at, line)| if at == 0 { format(line) + &rule } else { format(line) }).collect()
}

/// A Markdown table of the figures that the README has, each with what it is.
pub(crate) fn headlines(rows: &[Row], budgets: &Budgets) -> String {
    let mut table = "| | what is measured | figure | at most |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        for figure in &row.figures {
            let Some(budget) = budgets.of(&row.row, &figure.name).filter(|budget| budget.headline) else { continue };
            let above = if figure.within { "" } else { " (**above**)" };
            table.push_str(&format!(
                "| {} | {} | {}{above} | {} |\n",
                row.row,
                budget.about,
                shown(figure.value, &figure.unit),
                shown(figure.at_most, &figure.unit),
            ));
        }
    }
    table
}

/// The rows in a file of recorded figures: none if it doesn't exist yet.
///
/// # Errors
///
/// When it can't be read or understood.
pub(crate) fn read(file: &Path) -> Result<Vec<Row>> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not as expected", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Puts these rows into the file, in the place of older ones of the same names.
///
/// # Errors
///
/// When it can't be read, understood or written.
pub(super) fn record(file: &Path, rows: Vec<Row>) -> Result<()> {
    let mut all = read(file)?;
    all.retain(|old| rows.iter().all(|new| new.row != old.row));
    all.extend(rows);
    all.sort_by(|a, b| a.row.cmp(&b.row));
    let text = serde_json::to_string_pretty(&all)? + "\n";
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn shown(value: Option<f64>, unit: &str) -> String {
    let Some(value) = value else { return "not measured".to_owned() };
    let decimals = if value.fract() == 0.0 && value.abs() < 1e15 || value.abs() >= 100.0 { 0 } else { 2 };
    let decimals = if value != 0.0 && value.abs() < 0.1 { 3 } else { decimals };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::budgets::tests::{headline_sample, sample};

    fn row(value: f64) -> Row {
        let measure = |value, unit: &str| Measure { value, unit: unit.to_owned() };
        let measures =
            BTreeMap::from([("pair".to_owned(), measure(value, "×")), ("bare".to_owned(), measure(812.4, "ns"))]);
        Row::new("file", measures, &sample())
    }

    #[test]
    fn the_table_shows_figures_beside_ceilings() {
        let expected = "\
| measure   | figure | at most |    |
|-----------|--------|---------|----|
| file pair | 1.25 × |  1.50 × | ok |
| file bare | 812 ns |         |    |
";
        assert_eq!(table(&[row(1.25)]), expected);
    }

    #[test]
    fn headlines_say_what_was_measured() {
        let budgets = sample();
        assert!(headlines(&[row(1.25)], &budgets).ends_with("|---|\n"), "none of them is a headline");
        let table = headlines(&[row(1.25)], &headline_sample());
        assert_eq!(table.lines().last(), Some("| file | a pair | 1.25 × | 1.50 × |"));
        assert!(headlines(&[row(1.75)], &headline_sample()).contains("| 1.75 × (**above**) |"));
    }

    #[test]
    fn failures_are_named_with_figure_and_ceiling() {
        assert_eq!(row(1.75).failures(), ["file.pair: 1.75 ×, at most 1.50 ×"]);
        assert!(table(&[row(1.75)]).contains("ABOVE"));
        assert!(row(1.5).failures().is_empty());
        let nothing = Row::new("file", BTreeMap::new(), &sample());
        assert_eq!(nothing.failures(), ["file.pair: not measured, at most 1.50 ×"]);
    }

    #[test]
    fn recorded_figures_are_replaced_row_by_row() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("figures.json");
        assert!(read(&file).unwrap().is_empty());
        record(&file, vec![row(1.75), Row::new("run", BTreeMap::new(), &sample())]).unwrap();
        record(&file, vec![row(1.25)]).unwrap();
        let rows = read(&file).unwrap();
        assert_eq!(rows.iter().map(|row| row.row.as_str()).collect::<Vec<_>>(), ["file", "run"]);
        assert_eq!(table(&rows[..1]), table(&[row(1.25)]));
        std::fs::write(&file, "{}").unwrap();
        assert!(read(&file).is_err());
    }

    #[test]
    fn json_has_the_same() {
        let json: serde_json::Value = serde_json::from_str(&row(1.75).json().unwrap()).unwrap();
        assert_eq!(json["figures"][0]["name"], "pair");
        assert_eq!(json["figures"][0]["within"], false);
        assert_eq!(json["figures"][1]["at_most"], serde_json::Value::Null);
    }
}
