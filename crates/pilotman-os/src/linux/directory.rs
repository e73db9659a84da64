//! Where the table is, and who could play tricks with it.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pilotman_core::{Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::failure::{failed, unfit};

/// The directory of a table that all users share, where it is made by us: whoever comes can make the table, and nobody
/// remove it but who made it.
const SHARED_MODE: u32 = 0o1777;

/// Opens the directory, making it if it is missing. Whoever can write there could replace the table, unless the sticky
/// bit keeps others' files safe.
pub(crate) fn open(path: &Path, shared: bool) -> Result<OwnedFd> {
    let fail = |errno| failed("can't open the directory of the lock table", path, errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            let made = if shared { make_shared(path, SHARED_MODE) } else { make_private(path) };
            made.map_err(|errno| failed("can't make the directory of the lock table", path, errno))?;
            rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?
        }
        other => other.map_err(fail)?,
    };
    let stat = rustix::fs::fstat(&directory).map_err(fail)?;
    let user = rustix::process::geteuid().as_raw();
    // Who shares a table lets others break it as it is: that one of them owns the directory adds nothing to that.
    if !shared && stat.st_uid != user && stat.st_uid != 0 {
        return Err(unfit(
            path,
            &format!("belongs to another user (id {}), who could replace the lock table", stat.st_uid),
            "use a directory of your own or of root",
        ));
    }
    if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        return Err(unfit(
            path,
            &format!("can be written by others (mode {:o}), who could replace the lock table", stat.st_mode & 0o7777),
            "set the sticky bit (chmod +t), or use another directory",
        ));
    }
    Ok(directory)
}

fn make_private(path: &Path) -> Result<(), Errno> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Makes a directory that has this mode, and those above it that are missing, which others can pass through but not write.
fn make_shared(path: &Path, mode: u32) -> Result<(), Errno> {
    match (make_one(path, mode), path.parent()) {
        (Err(Errno::NOENT), Some(above)) => {
            make_shared(above, 0o755)?;
            make_one(path, mode)
        }
        (made, _) => made,
    }
}

/// It appears with its mode, which is not left to the umask: another user may be looking for it. That somebody else is
/// faster is no error.
fn make_one(path: &Path, mode: u32) -> Result<(), Errno> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let temporary = path.with_file_name(format!(".pilotman-os-{}-{}", std::process::id(), now.as_nanos()));
    rustix::fs::mkdir(&temporary, Mode::RWXU)?;
    // By its descriptor: what has this name may be another's link by now.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(&temporary, flags, Mode::empty())
        .and_then(|made| rustix::fs::fchmod(made, Mode::from_raw_mode(mode)))
        .and_then(|()| rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE));
    if made.is_err() {
        rustix::fs::rmdir(&temporary)?;
    }
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Refuses what can't be a table of ours.
pub(crate) fn judge(path: &Path, stat: &Stat, shared: bool, size: u64) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unfit(path, "is no regular file, so it can't be the lock table", "remove it"));
    }
    let user = rustix::process::geteuid().as_raw();
    if !shared && stat.st_uid != user {
        return Err(unfit(
            path,
            &format!("belongs to another user (id {})", stat.st_uid),
            "have it removed, or use another directory; if several users are meant to share the locks, say so with \
             the option shared",
        ));
    }
    if !shared && stat.st_mode & 0o077 != 0 {
        return Err(unfit(
            path,
            &format!("is open to other users (mode {:o})", stat.st_mode & 0o7777),
            "take the permission away (chmod go=); if several users are meant to share the locks, say so with the \
             option shared",
        ));
    }
    if u64::try_from(stat.st_size).ok() != Some(size) {
        return Err(damaged(path));
    }
    Ok(())
}

pub(crate) fn damaged(path: &Path) -> Error {
    unfit(path, "is no lock table of this version", "remove it when no process uses it")
}
