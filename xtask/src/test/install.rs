//! Installs packages, or says how.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use pilotman_testkit::Package;

use super::programs;
use crate::shell;

/// Installs the packages: Debian's for the whole machine, npm's into the build directory.
///
/// # Errors
///
/// When a package manager fails.
pub(super) fn install(packages: &BTreeSet<Package>) -> Result<()> {
    for mut command in commands(packages, programs::npm_prefix()?) {
        shell::run(&mut command).context("cannot install what the tests need")?;
    }
    Ok(())
}

/// The commands that [`install`] runs, to be shown.
pub(super) fn lines(packages: &BTreeSet<Package>) -> Vec<String> {
    let prefix = programs::npm_prefix().unwrap_or_else(|_| PathBuf::from("target/npm"));
    commands(packages, prefix).iter().map(shell::line).collect()
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
}
