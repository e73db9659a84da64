//! The workspace on disk: where it is, its packages, its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the xtask package is a directory of the workspace")
}

/// What `cargo metadata` says about the workspace, as far as the tasks use it.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// A member of the workspace.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// The registries that it may be published to: an empty list means none, nothing means all.
    pub(crate) publish: Option<Vec<String>>,
}

/// A dependency that a package declares.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev`, `build` or nothing.
    pub(crate) kind: Option<String>,
}

/// A library, program, test or other thing that a package builds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Package {
    /// The directory of the package.
    pub(crate) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or_else(|| root())
    }

    /// Whether other people can depend on it.
    pub(crate) fn is_published_library(&self) -> bool {
        let published = self.publish.as_ref().is_none_or(|registries| !registries.is_empty());
        published && self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "lib"))
    }

    /// Its dependencies of one kind (`None`: the usual ones).
    pub(crate) fn depends_on(&self, kind: Option<&str>) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(move |d| d.kind.as_deref() == kind).map(|d| d.name.as_str())
    }
}

/// Asks cargo about the workspace.
///
/// # Errors
///
/// When cargo fails.
pub(crate) fn metadata() -> Result<Metadata> {
    let json = shell::output(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&json).context("cargo metadata printed something unexpected")
}

/// All files of the repository whose names end with `extension`, sorted: what is built and what git keeps is left out.
///
/// # Errors
///
/// When a directory can't be read.
pub(crate) fn files(extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(root(), extension, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            // A build directory inside the tree has this mark of cargo's, whatever it is called.
            if name != ".git" && name != "node_modules" && !path.join("CACHEDIR.TAG").exists() {
                collect(&path, extension, found)?;
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// A path as messages show it: from the root, with forward slashes.
pub(crate) fn display(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_repository_are_found() {
        let files: Vec<String> = files("rs").unwrap().iter().map(|path| display(path)).collect();
        assert!(files.contains(&"xtask/src/workspace.rs".to_owned()), "{files:?}");
        assert!(files.iter().all(|path| !path.starts_with("target/")), "{files:?}");
    }

    #[test]
    fn metadata_knows_this_package() {
        let metadata = metadata().unwrap();
        let this = metadata.packages.iter().find(|package| package.name == "xtask").unwrap();
        assert_eq!(this.directory(), root().join("xtask"));
        assert!(!this.is_published_library());
        assert!(this.depends_on(None).any(|name| name == "syn"));
        assert!(this.depends_on(Some("dev")).any(|name| name == "tempfile"));
    }
}
