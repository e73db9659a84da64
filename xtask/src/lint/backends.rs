//! Every backend crate runs the conformance suite, and says what its tests need.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pilotman_testkit::needs;

use super::Finding;
use super::dependencies::{Role, role};
use crate::workspace::Package;

/// Checks all backend crates, and the memory backend, which lives in the core.
pub(super) fn check(packages: &[Package]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in packages {
        match role(&package.name) {
            Some(Role::Backend(name)) => {
                findings.extend(suite(&package.manifest_path, &[package.directory().join("tests/conformance.rs")])?);
                if needs::of(name).is_none() {
                    let message = format!("the backend {name} has no row in pilotman_testkit::needs::BACKENDS");
                    findings.push(Finding::new(&package.manifest_path, 0, message));
                }
            }
            // The suite depends on the core, so the memory backend's run may also live with the suite.
            Some(Role::Core) => {
                let tests = package.directory().join("tests/conformance.rs");
                let beside = package.directory().join("../pilotman-conformance/tests/memory.rs");
                findings.extend(suite(&package.manifest_path, &[tests, beside])?);
            }
            _ => {}
        }
    }
    Ok(findings)
}

/// A finding unless one of these files exists and calls the suite.
fn suite(manifest: &Path, candidates: &[PathBuf]) -> Result<Option<Finding>> {
    for file in candidates.iter().filter(|file| file.exists()) {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if text.contains("pilotman_conformance::") {
            return Ok(None);
        }
    }
    Ok(Some(Finding::new(manifest, 0, "this backend doesn't run the conformance suite in tests/conformance.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_must_exist_and_call_the_suite() {
        let directory = tempfile::tempdir().unwrap();
        let (manifest, tests) = (directory.path().join("Cargo.toml"), directory.path().join("conformance.rs"));
        let run = || suite(&manifest, std::slice::from_ref(&tests)).unwrap().is_some();
        assert!(run(), "missing");
        fs::write(&tests, "fn main() {}").unwrap();
        assert!(run(), "empty");
        fs::write(&tests, "fn main() { pilotman_conformance::run() }").unwrap();
        assert!(!run());
    }
}
