//! Clippy, for the combinations of features that users choose.

use anyhow::Result;

use crate::workspace::Package;
use crate::{shell, workspace};

/// Combinations for the whole workspace and for single crates. Those of the facade and of the command with one feature
/// each come from their manifests, so that a new backend is checked alone as soon as it has a feature.
const COMBINATIONS: [&[&str]; 4] = [
    &["--workspace", "--all-targets"],
    &["--workspace", "--all-targets", "--all-features"],
    &["--package", "pilotman-core", "--no-default-features"],
    &["--package", "pilotman", "--no-default-features"],
];

/// What users choose features of.
const CHOSEN: [&str; 2] = ["pilotman", "pilotman-cli"];

/// Runs all of them and returns what failed.
///
/// # Errors
///
/// When cargo can't say what the workspace has.
pub(super) fn run() -> Result<Vec<String>> {
    let mut failed = Vec::new();
    for arguments in combinations(&workspace::metadata()?.packages) {
        let run = shell::run(shell::cargo().arg("clippy").args(arguments).args(["--", "-D", "warnings"]));
        failed.extend(run.err().map(|error| format!("{error:#}")));
    }
    Ok(failed)
}

fn combinations(packages: &[Package]) -> Vec<Vec<String>> {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut all: Vec<Vec<String>> = COMBINATIONS.iter().map(|words| owned(words)).collect();
    for package in packages.iter().filter(|package| CHOSEN.contains(&package.name.as_str())) {
        let single = package.features.keys().filter(|feature| !matches!(feature.as_str(), "default" | "full"));
        let with = |feature| owned(&["--package", &package.name, "--no-default-features", "--features", feature]);
        all.extend(single.map(|feature| with(feature)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_checked_alone() {
        let all = combinations(&workspace::metadata().unwrap().packages);
        let file = ["--package", "pilotman", "--no-default-features", "--features", "file"].map(str::to_owned);
        assert!(all.contains(&file.to_vec()), "{all:?}");
        assert!(!all.iter().any(|words| words.last().unwrap() == "full"), "{all:?}");
    }
}
