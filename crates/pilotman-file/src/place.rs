//! Where a file is.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pilotman_core::{Error, Result};

/// A file of a lock: its directory, its name there, and both together, ready for system calls.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
    pub(crate) path: PathBuf,
    /// The path once more, so that a look at it costs no allocation.
    pub(crate) raw: CString,
}

impl Place {
    pub(crate) fn new(directory: &Path, name: OsString) -> Result<Self> {
        let path = directory.join(&name);
        let raw = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::misconfigured("the path of the lock directory contains a NUL"))?;
        Ok(Self { directory: directory.to_owned(), name, path, raw })
    }

    /// The file beside this one with an ending.
    pub(crate) fn beside(&self, ending: &str) -> Result<Self> {
        let mut name = self.name.clone();
        name.push(ending);
        Self::new(&self.directory, name)
    }

    /// What waiters of this file are known by to all processes: different for each file of a directory, never 0.
    pub(crate) fn key(&self) -> u64 {
        key(&self.name)
    }
}

fn key(name: &OsStr) -> u64 {
    // FNV-1a. The standard library's hash may change with its version, and processes of different builds must agree.
    let hash = name
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_in_every_build() {
        assert_eq!(key(OsStr::new("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(key(OsStr::new("a")), 0xaf63_dc4c_8601_ec8c);
    }
}
