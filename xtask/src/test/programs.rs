//! Where programs are looked for that `cargo xtask test --install` installed for this workspace only.

use std::path::PathBuf;

use anyhow::Result;
use pilotman_testkit::servers;

use crate::workspace;

/// The directory that npm packages are installed into.
///
/// # Errors
///
/// When cargo can't say where it builds.
pub(crate) fn npm_prefix() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("npm"))
}

/// The directory with the private roots and, in `bin`, what starts their programs.
///
/// # Errors
///
/// When cargo can't say where it builds.
pub(super) fn roots() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("roots"))
}

/// Directories to look in before `PATH`.
///
/// # Errors
///
/// When cargo can't say where it builds.
pub(crate) fn search_path() -> Result<Vec<PathBuf>> {
    Ok(servers::installed_in(&workspace::metadata()?.target_directory).to_vec())
}
