//! `cargo xtask lint`: format, clippy, and the rules of this repository.

mod async_docs;
mod backends;
mod clippy;
mod dependencies;
mod forbidden;
mod length;
mod links;
mod source;
mod unsafe_code;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use self::source::Source;
use crate::{shell, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the rules of this repository: no rustfmt, no clippy.
    #[arg(long)]
    rules_only: bool,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    /// From 1; 0 when it concerns the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { file: workspace::display(file), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // The quick ones first; all run, so that one pass shows everything.
    let mut failed = Vec::new();
    let findings = rules()?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        failed.push(format!("{} places break a rule of this repository", findings.len()));
    }
    if !options.rules_only {
        let format = shell::run(shell::cargo().args(["fmt", "--all", "--check"]));
        failed.extend(format.err().map(|error| format!("{error:#} (`cargo fmt --all` repairs it)")));
        failed.extend(clippy::run()?);
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n  and "));
    }
    println!("lint: clean");
    Ok(())
}

fn rules() -> Result<Vec<Finding>> {
    let metadata = workspace::metadata()?;
    let paths = workspace::files("rs")?;
    let sources: Vec<Source> = paths.iter().map(|path| Source::read(path)).collect::<Result<_>>()?;
    let libraries: Vec<&Path> =
        metadata.packages.iter().filter(|package| package.is_published_library()).map(|p| p.directory()).collect();
    let in_libraries: Vec<&Source> =
        sources.iter().filter(|source| libraries.iter().any(|dir| source.path.starts_with(dir.join("src")))).collect();

    let mut findings = Vec::new();
    findings.extend(async_docs::check(&in_libraries));
    findings.extend(sources.iter().flat_map(forbidden::check));
    findings.extend(unsafe_code::check(&metadata.packages, &sources));
    findings.extend(backends::check(&metadata.packages)?);
    findings.extend(dependencies::check_directions(&metadata.packages));
    let lock = workspace::root().join("Cargo.lock");
    findings.extend(dependencies::check_tree(&lock, &dependencies::tree()?));
    findings.extend(links::check(&workspace::files("md")?)?);
    findings.extend(sources.iter().filter_map(length::check));
    findings.sort();
    Ok(findings)
}
