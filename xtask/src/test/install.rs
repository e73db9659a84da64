//! Installs packages, or says how.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use pilotman_testkit::Package;

use super::{programs, root};
use crate::shell;

/// Installs the packages: Debian's for the whole machine, npm's and those of other releases into the build directory.
///
/// # Errors
///
/// When a package manager fails.
pub(super) fn install(packages: &BTreeSet<Package>) -> Result<()> {
    for mut command in commands(packages, programs::npm_prefix()?) {
        shell::run(&mut command).context("cannot install what the tests need")?;
    }
    for (suite, packages) in roots(packages) {
        let what = || format!("cannot unpack {} of Debian's {suite}", packages.join(", "));
        root::install(&programs::roots()?, suite, &packages).with_context(what)?;
    }
    Ok(())
}

/// The packages of other releases of Debian, by release.
fn roots(packages: &BTreeSet<Package>) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut roots: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for package in packages {
        if let Package::PrivateRoot { suite, package } = package {
            roots.entry(*suite).or_default().push(*package);
        }
    }
    roots
}

/// The commands that [`install`] runs, to be shown.
pub(super) fn lines(packages: &BTreeSet<Package>) -> Vec<String> {
    let prefix = programs::npm_prefix().unwrap_or_else(|_| PathBuf::from("target/npm"));
    let mut lines: Vec<String> = commands(packages, prefix).iter().map(shell::line).collect();
    for (suite, packages) in roots(packages) {
        lines.push(format!("cargo xtask test --install    # unpacks {} of Debian's {suite}", packages.join(", ")));
    }
    lines
}

fn commands(packages: &BTreeSet<Package>, npm_prefix: PathBuf) -> Vec<Command> {
    let mut commands = Vec::new();
    let debian: Vec<&str> = packages
        .iter()
        .filter_map(|package| if let Package::Debian(name) = package { Some(*name) } else { None })
        .collect();
    if !debian.is_empty() {
        commands.push(apt_get(&["update"]));
        let mut install = apt_get(&["install", "-y", "--no-install-recommends"]);
        install.args(debian);
        commands.push(install);
    }
    let npm: Vec<&str> = packages
        .iter()
        .filter_map(|package| if let Package::Npm(name) = package { Some(*name) } else { None })
        .collect();
    if !npm.is_empty() {
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(npm_prefix).args(npm);
        commands.push(command);
    }
    commands
}

fn apt_get(arguments: &[&str]) -> Command {
    // `env`, because sudo doesn't pass the environment on. Another apt run is waited for, not failed at.
    let mut command = Command::new(if is_root() { "env" } else { "sudo" });
    if !is_root() {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=500"]).args(arguments);
    command
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_manager_is_called_once() {
        let packages = BTreeSet::from([Package::Debian("a"), Package::Debian("b"), Package::Npm("c@1.0.0")]);
        let lines: Vec<String> = commands(&packages, PathBuf::from("target/npm")).iter().map(shell::line).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].ends_with("apt-get -o DPkg::Lock::Timeout=500 update"), "{lines:?}");
        assert!(lines[1].ends_with("install -y --no-install-recommends a b"), "{lines:?}");
        assert_eq!(lines[2], "npm install --no-audit --no-fund --prefix target/npm c@1.0.0");
        assert!(commands(&BTreeSet::new(), PathBuf::new()).is_empty());
    }

    #[test]
    fn packages_of_other_releases_are_gathered_by_release() {
        let of = |suite, package| Package::PrivateRoot { suite, package };
        let packages = BTreeSet::from([of("sid", "c"), Package::Debian("d"), of("trixie", "a"), of("trixie", "b")]);
        assert_eq!(roots(&packages), BTreeMap::from([("sid", vec!["c"]), ("trixie", vec!["a", "b"])]));
        assert!(lines(&packages).iter().any(|line| line.contains("--install") && line.contains("a, b")));
    }
}
