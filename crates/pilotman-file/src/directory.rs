//! Opening the directory of a lock, after a look at who could play tricks in it.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use pilotman_core::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::failure::{failed, unfit};

/// The mode of a directory made for one user.
const PRIVATE: u32 = 0o700;
/// The mode of a directory made for all: everybody may make files, nobody may remove another's.
const SHARED: u32 = 0o1777;

/// How often a call is repeated because somebody removed under our hands what it needs.
pub(crate) const RACES: usize = 64;

/// Whom we trust.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust {
    /// Whether several users are meant to share the files.
    pub(crate) shared: bool,
    /// The user that we are.
    pub(crate) user: u32,
}

impl Trust {
    /// Whether what `user` made can be relied on without further permission.
    pub(crate) fn includes(self, user: u32) -> bool {
        user == self.user || user == 0
    }
}

/// Opens a directory, making it (and those above it) if it is missing.
pub(crate) fn open_or_create(path: &Path, trust: Trust) -> Result<OwnedFd> {
    for _ in 0..RACES {
        match open(path, trust)? {
            Some(directory) => return Ok(directory),
            None => create(path, trust)?,
        }
    }
    Err(Error::unavailable(format!("the lock directory {} is removed again and again", path.display())).no_effect(true))
}

/// Opens a directory that can be trusted; `None` if there is none.
pub(crate) fn open(path: &Path, trust: Trust) -> Result<Option<OwnedFd>> {
    let fail = |errno| failed("can't open the lock directory", path, errno);
    // A link that somebody else has put there could be turned elsewhere while locks are held.
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if file_type(&stat) == FileType::Symlink && !trust.includes(stat.st_uid) => {
            return Err(unfit(path, "is a symbolic link of another user", "remove it, or use a directory of your own"));
        }
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(fail(errno)),
    }
    #[cfg(target_os = "linux")]
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR) => {
            return Err(unfit(
                path,
                "is to be the lock directory, but is a file or lies below one",
                "use another directory",
            ));
        }
        Err(errno) => return Err(fail(errno)),
    };
    let stat = rustix::fs::fstat(&directory).map_err(fail)?;
    judge(path, &stat, trust)?;
    Ok(Some(directory))
}

fn judge(path: &Path, stat: &Stat, trust: Trust) -> Result<()> {
    // The field is narrower on other systems.
    #[allow(clippy::useless_conversion)]
    let mode = u32::from(stat.st_mode);
    let sticky = mode & 0o1000 != 0;
    if trust.shared {
        if mode & 0o002 != 0 && !sticky && stat.st_uid != trust.user {
            return Err(unfit(
                path,
                &format!("can be written by everybody (mode {:o}), so anybody can replace a held lock", mode & 0o7777),
                "set the sticky bit (chmod +t), or use another directory",
            ));
        }
        return Ok(());
    }
    if mode & 0o022 != 0 {
        return Err(unfit(
            path,
            &format!("can be written by other users (mode {:o})", mode & 0o7777),
            "use a directory of your own or take the permission away (chmod go-w); if several users are meant to share \
             the locks, say so with the option shared",
        ));
    }
    if !trust.includes(stat.st_uid) {
        return Err(unfit(
            path,
            &format!("belongs to another user (id {})", stat.st_uid),
            "use a directory of your own; if several users are meant to share the locks, say so with the option shared",
        ));
    }
    Ok(())
}

fn create(path: &Path, trust: Trust) -> Result<()> {
    let fail = |path: &Path, error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        failed("can't make the lock directory", path, errno)
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).create(parent).map_err(|error| fail(parent, error))?;
    }
    let mode = if trust.shared { SHARED } else { PRIVATE };
    match DirBuilder::new().mode(mode).create(path) {
        // The umask has taken bits from the mode. Only who made the directory may change that.
        Ok(()) if trust.shared => match rustix::fs::chmod(path, Mode::from_raw_mode(SHARED as _)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("can't set the mode of", path, errno)),
        },
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotFound) => {
            Ok(())
        }
        Err(error) => Err(fail(path, error)),
    }
}

/// The type of a file.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn trust(shared: bool) -> Trust {
        Trust { shared, user: rustix::process::geteuid().as_raw() }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_missing_directory_is_made_private_or_sticky() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        open_or_create(&path, trust(false)).unwrap();
        assert_eq!(mode(&path), 0o700);
        let path = root.path().join("all");
        open_or_create(&path, trust(true)).unwrap();
        assert_eq!(mode(&path), 0o1777);
        assert!(open(&root.path().join("none"), trust(false)).unwrap().is_none());
    }

    #[test]
    fn a_directory_that_others_can_write_is_for_sharing_only() {
        let root = tempfile::tempdir().unwrap();
        for bad in [0o770, 0o777, 0o1777, 0o702] {
            std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(bad)).unwrap();
            let error = open(root.path(), trust(false)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.advice().unwrap().contains("chmod"));
            assert!(open(root.path(), trust(true)).unwrap().is_some());
        }
        let stranger = Trust { shared: true, user: u32::MAX - 5 };
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(open(root.path(), stranger).unwrap_err().kind(), ErrorKind::Misconfigured);
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(open(root.path(), stranger).unwrap().is_some());
    }

    #[test]
    fn a_link_is_followed_only_if_it_is_ours() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::fs::set_permissions(root.path().join("real"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let link = root.path().join("link");
        symlink("real", &link).unwrap();
        assert!(open(&link, trust(false)).unwrap().is_some());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
            assert_eq!(open(&link, trust(false)).unwrap_err().kind(), ErrorKind::Misconfigured);
        }
    }

    #[test]
    fn a_file_is_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path().to_owned(), file.path().join("below")] {
            let error = open_or_create(&path, trust(false)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        }
    }
}
