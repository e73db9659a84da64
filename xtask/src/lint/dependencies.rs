//! Imports point one way, and some crates never come in.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use crate::workspace::Package;

/// Crates that must not be in the dependency tree, and what is used instead.
const BANNED: [(&str, &str); 4] = [
    ("openssl", "rustls is used"),
    ("openssl-sys", "rustls is used"),
    ("native-tls", "rustls is used"),
    ("ring", "aws-lc-rs is used"),
];

/// The place of a crate of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    Core,
    Session,
    /// One coordination technology, by its name.
    Backend(&'a str),
    Facade,
    Command,
    Conformance,
    Testkit,
    /// Models, benchmarks and tasks: nothing depends on them.
    Tool,
}

/// The place of a crate of the workspace by its name; `None` for everybody else's crates.
pub(super) fn role(package: &str) -> Option<Role<'_>> {
    Some(match package {
        "pilotman" => Role::Facade,
        "xtask" => Role::Tool,
        other => match other.strip_prefix("pilotman-")? {
            "core" => Role::Core,
            "session" => Role::Session,
            "cli" => Role::Command,
            "conformance" => Role::Conformance,
            "testkit" => Role::Testkit,
            "bench" | "models" => Role::Tool,
            backend => Role::Backend(backend),
        },
    })
}

fn allowed(from: Role<'_>, to: Role<'_>, for_tests: bool) -> bool {
    use Role::{Backend, Command, Conformance, Core, Facade, Session, Testkit, Tool};
    let usual = match from {
        Core | Testkit => false,
        Session | Conformance => to == Core,
        Backend(_) => matches!(to, Core | Session),
        Facade => matches!(to, Core | Session | Backend(_)),
        Command => to == Facade,
        Tool => to != Tool,
    };
    let tests = match to {
        Conformance | Testkit => true,
        // The facade's and the command's tests look at what is below them.
        Core | Backend(_) => matches!(from, Facade | Command | Conformance),
        _ => false,
    };
    usual || (for_tests && tests)
}

/// Checks which crate of the workspace depends on which.
pub(super) fn check_directions(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let Some(from) = role(&package.name) else {
            findings.push(Finding::new(&package.manifest_path, 0, format!("{} has no place here", package.name)));
            continue;
        };
        for kind in [None, Some("build"), Some("dev")] {
            for name in package.depends_on(kind).filter(|name| *name != package.name) {
                if role(name).is_some_and(|to| !allowed(from, to, kind == Some("dev"))) {
                    let message = format!("{} must not depend on {name}: imports point one way", package.name);
                    findings.push(Finding::new(&package.manifest_path, 0, message));
                }
            }
        }
    }
    findings
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Checks the lock file: it has every platform's dependencies, with every feature of the workspace on.
pub(super) fn check_lock(path: &Path, text: &str) -> Result<Vec<Finding>> {
    let lock: Lock = toml::from_str(text).with_context(|| format!("cannot understand {}", path.display()))?;
    let mut findings = Vec::new();
    for (banned, instead) in BANNED {
        if lock.package.iter().any(|package| package.name == banned) {
            let uses = |package: &&Locked| package.dependencies.iter().any(|d| d.split(' ').next() == Some(banned));
            let users: Vec<&str> = lock.package.iter().filter(uses).map(|package| package.name.as_str()).collect();
            let message = format!("{banned} comes in through {}, but {instead}", users.join(", "));
            findings.push(Finding::new(path, 0, message));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;
    use std::path::PathBuf;

    fn directions(name: &str, dependency: &str, kind: Option<&str>) -> usize {
        let dependency = Dependency { name: dependency.to_owned(), kind: kind.map(str::to_owned) };
        let package = Package {
            name: name.to_owned(),
            manifest_path: PathBuf::from("Cargo.toml"),
            dependencies: vec![dependency],
            targets: Vec::new(),
            features: Default::default(),
            publish: None,
        };
        check_directions(&[package]).len()
    }

    #[test]
    fn imports_point_one_way() {
        assert_eq!(directions("pilotman-file", "pilotman-core", None), 0);
        assert_eq!(directions("pilotman-postgres", "pilotman-session", None), 0);
        assert_eq!(directions("pilotman", "pilotman-file", None), 0);
        assert_eq!(directions("pilotman-cli", "pilotman", None), 0);
        assert_eq!(directions("pilotman-core", "tokio", None), 0);

        assert_eq!(directions("pilotman-core", "pilotman-session", None), 1);
        assert_eq!(directions("pilotman-file", "pilotman", None), 1);
        assert_eq!(directions("pilotman-file", "pilotman-redis", None), 1, "no backend knows another");
        assert_eq!(directions("pilotman-cli", "pilotman-file", None), 1);
        assert_eq!(directions("pilotman", "pilotman-conformance", None), 1);
        assert_eq!(directions("stranger", "serde", None), 1);
    }

    #[test]
    fn tests_may_use_the_suite_and_the_kit_but_not_another_backend() {
        assert_eq!(directions("pilotman-file", "pilotman-conformance", Some("dev")), 0);
        assert_eq!(directions("pilotman-core", "pilotman-testkit", Some("dev")), 0);
        assert_eq!(directions("pilotman-file", "pilotman-redis", Some("dev")), 1);
        assert_eq!(directions("pilotman-file", "pilotman-conformance", Some("build")), 1);
    }

    #[test]
    fn banned_crates_are_found_with_their_users() {
        let lock = "[[package]]\nname = \"ring\"\nversion = \"1.0.0\"\n\
                    [[package]]\nname = \"tls\"\nversion = \"1.0.0\"\ndependencies = [\"ring\"]\n";
        let findings = check_lock(Path::new("Cargo.lock"), lock).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("through tls"), "{findings:?}");
        let fine = "[[package]]\nname = \"string\"\nversion = \"1.0.0\"\n";
        assert!(check_lock(Path::new("Cargo.lock"), fine).unwrap().is_empty());
    }
}
