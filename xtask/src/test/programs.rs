//! Where programs are looked for that `cargo xtask test --install` installed for this workspace only.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;

/// The directory that npm packages are installed into.
///
/// # Errors
///
/// When cargo can't say where it builds.
pub(crate) fn npm_prefix() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("npm"))
}

/// Directories to look in before `PATH`.
///
/// # Errors
///
/// When cargo can't say where it builds.
pub(crate) fn search_path() -> Result<Vec<PathBuf>> {
    Ok(vec![npm_prefix()?.join("node_modules/.bin")])
}
