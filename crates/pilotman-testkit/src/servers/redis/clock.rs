//! A wall clock that a test can set: libfaketime stands between the server and the system's clock.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::needs::FAKETIME;

/// For programs with several threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// The clock of one server, by how many seconds it is off. It stays as it is over restarts.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    file: PathBuf,
    preload: PathBuf,
}

impl Clock {
    /// A clock that shows the right time, kept in this directory.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let clock = Self { file: directory.join("clock"), preload: library()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Has the clock be off by so many seconds from now on.
    pub(super) fn set(&self, seconds: i64) -> io::Result<()> {
        // The library reads the file at any moment: it must never be half written.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}s\n"))?;
        fs::rename(new, &self.file)
    }

    /// By how many seconds it is off.
    pub(super) fn offset(&self) -> io::Result<i64> {
        let text = fs::read_to_string(&self.file)?;
        text.trim().trim_end_matches('s').parse().map_err(io::Error::other)
    }

    /// What a process needs in its environment to live by this clock. Its monotonic clock stays the system's.
    pub(super) fn variables(&self) -> [(&'static str, OsString); 4] {
        // The allocator that Redis brings along asks for the time before the library can have memory from it, which ends in
        // a circle: so malloc is to be that of libc.
        let mut preload = self.preload.clone().into_os_string();
        preload.push(" libc.so.6");
        [
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into_os_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// Removes what the library shares with processes that a running one may start: nobody else would, if that one is killed.
pub(super) fn tidy_up(process: u32) {
    for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
        // Another version of the library may have none.
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

fn library() -> io::Result<PathBuf> {
    // Where it is depends on the architecture.
    let found = fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime").join(LIBRARY)))
        .find(|library| library.is_file());
    found.ok_or_else(|| crate::servers::not_installed(&FAKETIME))
}
