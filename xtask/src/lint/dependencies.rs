//! Imports point one way, and some crates never come in.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::Finding;
use crate::shell;
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
            "testkit" | "testkit-oracle" => Role::Testkit,
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

/// Everything that is built for any platform with every feature of the workspace on. The lock file has more: what some
/// feature of a dependency would bring that nobody turns on.
///
/// # Errors
///
/// When cargo can't tell.
pub(super) fn tree() -> Result<String> {
    let arguments = ["--workspace", "--all-features", "--target", "all", "--edges", "all", "--prefix", "none"];
    let output = shell::cargo().arg("tree").args(arguments).args(["--format", "{p}"]).output()?;
    anyhow::ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Checks the output of [`tree`].
pub(super) fn check_tree(path: &Path, tree: &str) -> Vec<Finding> {
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let banned = BANNED.iter().filter(|(banned, _)| built.contains(banned));
    let finding = |(banned, instead): &(&str, &str)| {
        let message =
            format!("{banned} is built, but {instead}: see `cargo tree --all-features --target all -i {banned}`");
        Finding::new(path, 0, message)
    };
    banned.map(finding).collect()
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
    fn banned_crates_are_found() {
        let findings = check_tree(Path::new("Cargo.lock"), "tls v1.0.0\nring v0.17.14 (*)\n");
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("ring is built"), "{findings:?}");
        assert!(check_tree(Path::new("Cargo.lock"), "string v1.0.0\n").is_empty());
    }
}
