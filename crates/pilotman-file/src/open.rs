//! Opening files in a directory where others may have left things for us.

use std::os::fd::OwnedFd;
use std::path::Path;

use pilotman_core::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::directory::{self, RACES, Trust, file_type};
use crate::failure::{failed, unfit};
use crate::file::LockFile;
use crate::place::Place;

/// The longest name that is noted in a lock file.
const LONGEST_NOTE: usize = 4096;

/// Opens the file, making it and its directory if they are missing. A new file gets `note` as its content.
pub(crate) fn open_or_create(place: &Place, trust: Trust, note: Option<&str>) -> Result<LockFile> {
    for _ in 0..RACES {
        let directory = directory::open_or_create(&place.directory, trust)?;
        if let Some(file) = open_in(&directory, place, trust)? {
            return Ok(file);
        }
        if let Some(file) = create_in(&directory, place, trust, note)? {
            return Ok(file);
        }
    }
    Err(Error::unavailable(format!("{} is made and removed again and again", place.path.display())).no_effect(true))
}

/// Opens the file; `None` if there is none.
pub(crate) fn open_existing(place: &Place, trust: Trust) -> Result<Option<LockFile>> {
    match directory::open(&place.directory, trust)? {
        Some(directory) => open_in(&directory, place, trust),
        None => Ok(None),
    }
}

// No link is followed, no FIFO is waited for, no terminal becomes ours, and no child inherits the descriptor.
fn flags() -> OFlags {
    OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY
}

fn open_in(directory: &OwnedFd, place: &Place, trust: Trust) -> Result<Option<LockFile>> {
    let fail = |errno| failed("can't open the lock file", &place.path, errno);
    // Not with CREATE: Linux refuses that for a file of another user in a sticky directory.
    let opened = rustix::fs::openat(directory, &place.name, flags() | OFlags::RDWR, Mode::empty());
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        // A file that we may only read can be locked as well.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            match rustix::fs::openat(directory, &place.name, flags() | OFlags::RDONLY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(fail(errno)),
            }
        }
        Err(errno) => return Err(fail(errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(fail)?;
    judge(&place.path, &stat, trust)?;
    Ok((stat.st_nlink > 0).then(|| LockFile::new(fd, &stat)))
}

fn create_in(directory: &OwnedFd, place: &Place, trust: Trust, note: Option<&str>) -> Result<Option<LockFile>> {
    let fail = |errno| failed("can't make the lock file", &place.path, errno);
    let mode = Mode::from_raw_mode(if trust.shared { 0o666 } else { 0o600 });
    let flags = flags() | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let fd = match rustix::fs::openat(directory, &place.name, flags, mode) {
        Ok(fd) => fd,
        // Somebody else was faster, or the directory has just been removed.
        Err(Errno::EXIST | Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(fail(errno)),
    };
    if let Some(note) = note.filter(|note| note.len() <= LONGEST_NOTE)
        && let Err(errno) = rustix::io::pwrite(&fd, note.as_bytes(), 0)
    {
        // Only `list` needs it; the lock works without.
        tracing::debug!(path = %place.path.display(), %errno, "the name could not be noted in the lock file");
    }
    let stat = rustix::fs::fstat(&fd).map_err(fail)?;
    Ok(Some(LockFile::new(fd, &stat)))
}

fn judge(path: &Path, stat: &Stat, trust: Trust) -> Result<()> {
    match file_type(stat) {
        FileType::RegularFile => {}
        FileType::Directory => {
            return Err(unfit(path, "is a directory, so it can't be a lock file", "use another name or directory"));
        }
        _ => {
            return Err(unfit(
                path,
                "is no regular file, so it can't be a lock file",
                "remove it, or use another directory",
            ));
        }
    }
    if !trust.shared && !trust.includes(stat.st_uid) {
        return Err(unfit(
            path,
            &format!("belongs to another user (id {})", stat.st_uid),
            "remove it, or use a directory of your own; if several users are meant to share the locks, say so with the \
             option shared",
        ));
    }
    Ok(())
}
