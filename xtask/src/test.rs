//! `cargo xtask test`: all tests of the workspace, and first what they need from the machine.

mod install;
mod interrupt;
mod plan;
pub(crate) mod programs;
mod root;
mod running;
mod skips;

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use pilotman_testkit::needs::{self, BACKENDS};
use pilotman_testkit::servers::SKIP_VARIABLE;
use pilotman_testkit::{BackendNeeds, servers};

use interrupt::Interrupt;
use running::Servers;

use crate::{shell, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Install what is missing, with apt-get and npm, or into the build directory.
    #[arg(long)]
    install: bool,
    /// Only the tests of this backend (can be given several times).
    #[arg(long, value_name = "BACKEND")]
    backend: Vec<String>,
    /// Leave the documentation tests out.
    #[arg(long)]
    fast: bool,
    /// Use `cargo test` even where cargo-nextest is installed.
    #[arg(long)]
    no_nextest: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let backends = chosen(&options.backend)?;
    let skipped = prepare(&backends, options.install)?;
    let packages = if options.backend.is_empty() { vec!["--workspace".to_owned()] } else { arguments(&backends) };

    // The documentation tests come first, so that the summary of all the others is what one sees at the end.
    let documentation = if options.fast { Ok(()) } else { doc_tests(&packages) };
    let interrupt = Interrupt::catch()?;
    let servers = Servers::start(&running::needed(&backends, &skipped), programs::search_path()?)?;
    let mut command = tests(&packages, !options.no_nextest && has_nextest());
    // The tests leave out what needs these, and fail for any other server that is missing.
    if !skipped.is_empty() {
        command.env(SKIP_VARIABLE, skipped.join(","));
    }
    let tests = interrupt.run(&mut command, servers.environment()?);
    drop(servers);
    match (documentation, tests) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
        (Err(first), Err(second)) => bail!("{first:#}; and {second:#}"),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static BackendNeeds>> {
    if names.is_empty() {
        return Ok(BACKENDS.iter().collect());
    }
    let find = |name: &String| {
        needs::of(name).with_context(|| {
            let known: Vec<&str> = BACKENDS.iter().map(|needs| needs.backend).collect();
            format!("no backend is called {name:?} (known: {})", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

fn arguments(backends: &[&BackendNeeds]) -> Vec<String> {
    let mut crates: Vec<&str> = backends.iter().flat_map(|needs| needs.crates).copied().collect();
    crates.sort_unstable();
    crates.dedup();
    crates.into_iter().flat_map(|name| ["--package".to_owned(), name.to_owned()]).collect()
}

/// Makes sure that everything is there, and returns the servers whose tests are left out.
fn prepare(backends: &[&BackendNeeds], install: bool) -> Result<Vec<String>> {
    let skips = skips::read(&workspace::root().join("skips.toml"))?;
    let unknown: Vec<&str> = skips.servers().filter(|name| servers::find(name).is_none()).collect();
    if !unknown.is_empty() {
        bail!("skips.toml names servers that don't exist: {}", unknown.join(", "));
    }
    let search = programs::search_path()?;
    let look = || plan::missing(backends, &skips, |program| needs::find(program, &search).is_some());
    let mut missing = look();
    if install && !missing.is_empty() {
        install::install(&missing.packages())?;
        if let Err(error) = install::install(&missing.optional_packages()) {
            eprintln!("warning: {error:#}");
        }
        missing = look();
    }
    if !missing.required.is_empty() {
        let hint =
            if install { "its package was installed, but the program is not where it is looked for" } else { "" };
        bail!("{}{hint}", missing.report());
    }
    for server in &missing.skipped {
        eprintln!("warning: {server} is not installed; its tests are skipped, as skips.toml allows");
    }
    Ok(missing.skipped)
}

fn doc_tests(packages: &[String]) -> Result<()> {
    shell::run(shell::cargo().args(["test", "--doc"]).args(packages))
}

fn tests(packages: &[String], nextest: bool) -> Command {
    let mut command = shell::cargo();
    if nextest {
        let config = workspace::root().join(".ci/nextest.toml");
        command.args(["nextest", "run", "--no-fail-fast", "--config-file"]).arg(config).args(packages);
    } else {
        // All targets, named one by one: `--all-targets` would run the benchmarks too.
        command.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"]).args(packages);
    }
    command
}

fn has_nextest() -> bool {
    let mut command: Command = shell::cargo();
    command.args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_lists_the_known_ones() {
        let error = chosen(&["redix".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("redix") && error.contains("memory, file"), "{error}");
    }

    #[test]
    fn a_backend_chooses_its_crates_once() {
        let backends = chosen(&["file".to_owned(), "file".to_owned()]).unwrap();
        let crates = ["--package", "pilotman", "--package", "pilotman-cli", "--package", "pilotman-file"];
        assert_eq!(arguments(&backends), crates);
        assert_eq!(chosen(&[]).unwrap().len(), BACKENDS.len());
    }

    #[test]
    fn every_crate_of_a_backend_exists() {
        let metadata = workspace::metadata().unwrap();
        for name in BACKENDS.iter().flat_map(|needs| needs.crates) {
            assert!(metadata.packages.iter().any(|package| package.name == *name), "{name}");
        }
    }
}
