//! `cargo xtask bench`: measures side by side with the limit, and compares with `budgets.toml`.

pub(crate) mod budgets;
mod measure;
pub(crate) mod report;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::budgets::Budgets;
use self::measure::Measure;
use self::report::Row;
use crate::{shell, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// The rows to measure (default: all).
    #[arg(value_name = "WHAT")]
    rows: Vec<String>,
    /// Fail when a measure is above its ceiling in budgets.toml.
    #[arg(long)]
    check: bool,
    /// Print JSON instead of a table (it is written to target/bench in any case).
    #[arg(long)]
    json: bool,
    /// Keep the figures in benches/figures.json, from which `cargo xtask docs` writes its table. Do it on a quiet
    /// machine.
    #[arg(long)]
    record: bool,
}

/// The rows, each with the program of the package `pilotman-bench` that measures it.
const ROWS: [(&str, &str); 10] = [
    ("azure", "bench-azure"),
    ("file", "bench-file"),
    ("memory", "bench-memory"),
    ("mysql", "bench-mysql"),
    ("os", "bench-os"),
    ("postgres", "bench-postgres"),
    ("redis", "bench-redis"),
    ("redlock", "bench-redlock"),
    ("run", "bench-run"),
    ("zookeeper", "bench-zookeeper"),
];

/// With `--check`, a row above a ceiling is measured again: what counts is the best run, because other work on the
/// machine can make a figure worse and hardly ever better. The ceilings are not widened for it.
const MOST_RUNS: usize = 3;

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows = chosen(&options.rows)?;
    let budgets = Budgets::read(&workspace::root().join("budgets.toml"))?;
    budgets.check_rows(&ROWS.map(|(name, _)| name))?;
    let target = workspace::metadata()?.target_directory;
    let mut build = shell::cargo();
    shell::run(build.args([
        "build",
        "--release",
        "--package",
        "pilotman-bench",
        "--package",
        "pilotman-cli",
        "--bins",
    ]))?;

    let mut done = Vec::new();
    for (name, program) in rows {
        let measures = measure(name, &target.join("release").join(program), &budgets, options.check)?;
        let row = Row::new(name, measures, &budgets);
        let file = target.join("bench").join(format!("{name}.json"));
        fs::create_dir_all(file.parent().unwrap_or(&target)).context("cannot make the directory target/bench")?;
        fs::write(&file, row.json()? + "\n").with_context(|| format!("cannot write {}", file.display()))?;
        done.push(row);
    }
    if options.record {
        report::record(&recorded(), done.clone())?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&done)?);
    } else {
        print!("{}", report::table(&done));
    }
    let above: Vec<String> = done.iter().flat_map(Row::failures).collect();
    if options.check && !above.is_empty() {
        bail!("above the budget:\n  {}", above.join("\n  "));
    }
    Ok(())
}

/// The figures that the documentation shows.
pub(crate) fn recorded() -> PathBuf {
    workspace::root().join("benches/figures.json")
}

fn chosen(names: &[String]) -> Result<Vec<(&'static str, &'static str)>> {
    if names.is_empty() {
        return Ok(ROWS.to_vec());
    }
    let find = |name: &String| {
        ROWS.into_iter()
            .find(|(row, _)| row == name)
            .with_context(|| format!("no row is called {name:?} (known: {})", ROWS.map(|(row, _)| row).join(", ")))
    };
    names.iter().map(find).collect()
}

fn measure(row: &str, program: &Path, budgets: &Budgets, check: bool) -> Result<BTreeMap<String, Measure>> {
    let mut best = BTreeMap::new();
    for run in 1..=if check { MOST_RUNS } else { 1 } {
        measure::keep_better(&mut best, measure::run(program)?);
        let above = budgets.above(row, &best);
        if above.is_empty() {
            break;
        }
        if check && run < MOST_RUNS {
            eprintln!("{row}: {} above the ceiling in run {run}; once more", above.join(", "));
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_row_lists_the_known_ones() {
        let error = chosen(&["files".to_owned()]).unwrap_err().to_string();
        let known = ROWS.map(|(row, _)| row).join(", ");
        assert!(error.contains("files") && error.contains(&known), "{error}");
        assert_eq!(chosen(&["run".to_owned()]).unwrap(), [("run", "bench-run")]);
        assert_eq!(chosen(&[]).unwrap().len(), ROWS.len());
    }
}
