//! The parts of the documentation that are taken from the code.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::bench::budgets::Budgets;
use crate::bench::report::{self, Row};
use crate::{bench, shell, workspace};

/// Makes each part once.
#[derive(Default)]
pub(super) struct Tables {
    made: BTreeMap<String, String>,
}

impl Tables {
    /// The part of this name.
    ///
    /// # Errors
    ///
    /// When there is none, or it can't be made.
    pub(super) fn get(&mut self, name: &str) -> Result<String> {
        if let Some(part) = self.made.get(name) {
            return Ok(part.clone());
        }
        let part = make(name)?;
        self.made.insert(name.to_owned(), part.clone());
        Ok(part)
    }
}

fn make(name: &str) -> Result<String> {
    match name.split(' ').collect::<Vec<_>>()[..] {
        ["bench"] => bench(&report::read(&bench::recorded())?),
        ["bench", "headlines"] => Ok(report::headlines(&report::read(&bench::recorded())?, &all_budgets()?)),
        ["budgets"] => Ok(budgets(&all_budgets()?)),
        ["backends"] => backends(&pilotman(&["backends", "--json"])?),
        ["exit-status"] => exit_status(&pilotman(&["--help"])?),
        ["help", ref command @ ..] => Ok(fenced(&pilotman(&[command, &["--help"]].concat())?)),
        _ => bail!(
            "nothing generates {name:?} (known: backends, bench, bench headlines, budgets, exit-status, help [COMMAND])"
        ),
    }
}

fn all_budgets() -> Result<Budgets> {
    Budgets::read(&workspace::root().join("budgets.toml"))
}

fn bench(rows: &[Row]) -> Result<String> {
    if rows.is_empty() {
        return Ok("No figures are recorded yet: `cargo xtask bench --record` does it.\n".to_owned());
    }
    Ok(report::table(rows))
}

fn budgets(budgets: &Budgets) -> String {
    let mut table = "| row | what is measured | ceiling |\n|---|---|---|\n".to_owned();
    for (row, _, budget) in budgets.iter() {
        table.push_str(&format!("| {row} | {} | {} {} |\n", budget.about, budget.at_most, budget.unit));
    }
    table
}

#[derive(Deserialize)]
struct Backend {
    kind: String,
    example_url: String,
    /// `None`: not in this build.
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize)]
struct Capabilities {
    mutex: bool,
    rw_lock: bool,
    upgradeable: bool,
    semaphore: bool,
    fencing: String,
    fencing_scope: String,
    waiting: String,
    unverified: Option<String>,
}

fn backends(json: &str) -> Result<String> {
    let all: Vec<Backend> = serde_json::from_str(json).context("`pilotman backends --json` is not as expected")?;
    let mut table = "| backend | URL | locks | waiting | fencing token | its order survives | verified |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|\n");
    for Backend { kind, example_url, capabilities } in all {
        let can = capabilities.with_context(|| format!("the backend {kind} is not in a build with all features"))?;
        let primitives =
            [(can.mutex, "mutex"), (can.rw_lock, "rw"), (can.upgradeable, "upgradeable"), (can.semaphore, "semaphore")];
        let locks: Vec<&str> = primitives.into_iter().filter_map(|(there, name)| there.then_some(name)).collect();
        table.push_str(&format!(
            "| {kind} | `{example_url}` | {} | {} | {} | {} | {} |\n",
            locks.join(", "),
            can.waiting,
            can.fencing,
            can.fencing_scope,
            can.unverified.as_deref().unwrap_or("yes"),
        ));
    }
    Ok(table)
}

/// What the command prints.
fn pilotman(arguments: &[&str]) -> Result<String> {
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--package", "pilotman-cli", "--all-features", "--bin", "pilotman", "--"]);
    command.args(arguments);
    // Help is wrapped to the terminal; the documentation must not depend on whose it was written at.
    let output = command.env("COLUMNS", "100").stdin(Stdio::null()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shell::line(&command), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).context("pilotman printed something that is not text")
}

/// The table at the end of the help.
fn exit_status(help: &str) -> Result<String> {
    let start = help.find("Exit status:").context("the help of pilotman has no table of exit statuses")?;
    Ok(fenced(&help[start..]))
}

fn fenced(text: &str) -> String {
    let text: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    format!("```text\n{}\n```\n", text.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parts_are_made_and_others_refused() {
        let mut tables = Tables::default();
        let budgets = tables.get("budgets").unwrap();
        assert!(budgets.contains("| run | pilotman run x -- true"), "{budgets}");
        assert_eq!(tables.get("budgets").unwrap(), budgets);
        assert!(tables.get("nonsense").is_err());
    }

    #[test]
    fn the_table_of_backends_has_a_line_for_each() {
        let json = r#"[{"kind": "memory", "example_url": "memory://", "built": true, "schemes": ["memory"],
            "capabilities": {"mutex": true, "rw_lock": true, "upgradeable": false, "semaphore": false,
            "fencing": "always", "fencing_scope": "the process", "waiting": "queue", "unverified": null}}]"#;
        let table = backends(json).unwrap();
        let line = "| memory | `memory://` | mutex, rw | queue | always | the process | yes |";
        assert_eq!(table.lines().last(), Some(line));
        let absent = r#"[{"kind": "x", "example_url": "x://", "built": false, "capabilities": null}]"#;
        assert!(backends(absent).is_err());
        assert!(backends("{}").is_err());
    }

    #[test]
    fn the_table_of_exit_statuses_is_cut_from_the_help() {
        let table = exit_status("Usage: …\n\nExit status:\n  64  usage  \n").unwrap();
        assert_eq!(table, "```text\nExit status:\n  64  usage\n```\n");
        assert!(exit_status("Usage: …").is_err());
    }
}
