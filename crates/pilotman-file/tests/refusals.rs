//! Directories and files that are not what they should be, and those that somebody has laid out as a trap.

mod common;

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;

use common::*;
use pilotman_core::backend::Backend;
use pilotman_core::{ErrorKind, Primitive};
use pilotman_file::{FileBackend, FileOptions};

const MUTEX: Primitive = Primitive::Mutex;
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn path_of(lock: &Lock) -> std::path::PathBuf {
    lock.backend.physical_name(&lock.spec.target).unwrap().into()
}

fn refused(lock: &Lock, word: &str) {
    let error = lock.refusal();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains(word), "{error}");
    assert!(error.has_no_effect() && error.advice().is_some(), "{error}");
}

#[test]
fn a_directory_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(&lock(file.path(), "a", MUTEX), "is a file");
    refused(&lock(&file.path().join("below"), "a", MUTEX), "is a file");
    let backend = backend(file.path());
    assert_eq!(pollster::block_on(backend.check()).unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(pollster::block_on(backend.list()).unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[test]
fn a_directory_that_can_not_be_written() {
    const TEST: &str = "a_directory_that_can_not_be_written";
    if role().is_some() {
        let error = lock(&child_directory(), "a", MUTEX).refusal();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("write"), "{error}");
        let error = lock(&child_directory().join("below"), "a", MUTEX).refusal();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let directory = root.path().join("locks");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = child(TEST, "reader", &directory);
    if is_root() {
        // Permissions don't bind root, so somebody else has to try. The test's binary must be reachable for them.
        let copy = root.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let mut other = std::process::Command::new(copy);
        other.args(command.get_args()).envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        other.current_dir("/").uid(NOBODY).gid(NOBODY);
        command = other;
    }
    succeed(command.spawn().unwrap());
}

#[test]
fn a_directory_that_others_can_write() {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    refused(&lock(root.path(), "a", MUTEX), "written by other users");
    let sharing = Arc::new(FileBackend::new(FileOptions::new(root.path()).shared(true)).unwrap());
    assert!(lock_of(&sharing, "a", MUTEX).is_free());
    assert!(lock_of(&sharing, "a", Primitive::Write).is_free());
    assert!(lock_of(&sharing, "a", permits(2)).is_free());
    // A rule for one directory is the rule for those below it.
    let below = Path::new(&sharing.physical_name(&target("a", permits(2))).unwrap()).to_owned();
    assert_eq!(std::fs::metadata(below).unwrap().permissions().mode() & 0o7777, 0o1777);
}

#[test]
fn a_name_that_is_a_directory_a_fifo_or_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let lock = |name| lock(directory.path(), name, MUTEX);
    std::fs::create_dir(path_of(&lock("directory"))).unwrap();
    refused(&lock("directory"), "directory");
    // The call is not to be had there.
    #[cfg(not(target_vendor = "apple"))]
    {
        let fifo = path_of(&lock("fifo"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        refused(&lock("fifo"), "no regular file");
    }
    let socket = directory.path().join(path_of(&lock("socket")).file_name().unwrap());
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    refused(&lock("socket"), "no regular file");
}

#[test]
fn a_link_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let value = directory.path().join("value");
    for primitive in [MUTEX, Primitive::Read, Primitive::Write, permits(1)] {
        let lock = lock(directory.path(), "a", primitive);
        let path = if matches!(primitive, Primitive::Permit(_)) {
            std::fs::create_dir_all(path_of(&lock)).unwrap();
            std::fs::set_permissions(path_of(&lock), std::fs::Permissions::from_mode(0o700)).unwrap();
            path_of(&lock).join("0")
        } else {
            path_of(&lock)
        };
        // One that leads nowhere would have a file made where it points.
        symlink(&value, &path).unwrap();
        refused(&lock, "symbolic link");
        assert!(!value.exists());
        std::fs::write(&value, "gold").unwrap();
        refused(&lock, "symbolic link");
        assert_eq!(std::fs::read_to_string(&value).unwrap(), "gold");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&value).unwrap();
    }
    for (primitive, ending) in [(MUTEX, ".token"), (Primitive::Read, ".token"), (permits(1), ".token")] {
        let lock = fenced(directory.path(), "b", primitive);
        symlink(&value, format!("{}{ending}", path_of(&lock).display())).unwrap();
        refused(&lock, "symbolic link");
        assert!(!value.exists());
    }
}

#[test]
fn a_file_of_another_user() {
    if !is_root() {
        // Only root can lay the trap; the judgement itself is tested without, in the unit tests of directories.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let trap = lock(directory.path(), "a", MUTEX);
    std::fs::write(path_of(&trap), "").unwrap();
    chown(path_of(&trap), Some(NOBODY), None).unwrap();
    refused(&trap, "another user");
    let sharing = Arc::new(FileBackend::new(FileOptions::new(directory.path()).shared(true)).unwrap());
    assert!(lock_of(&sharing, "a", MUTEX).is_free());
    chown(directory.path(), Some(NOBODY), None).unwrap();
    refused(&lock(directory.path(), "b", MUTEX), "another user");
}

#[test]
fn options_that_make_no_sense() {
    assert_eq!(FileBackend::new(FileOptions::new("")).unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(FileBackend::new(FileOptions::new("/a\0b")).unwrap_err().kind(), ErrorKind::Misconfigured);
    let relative = FileBackend::new(FileOptions::new("locks/./")).unwrap();
    assert_eq!(relative.options().directory, std::env::current_dir().unwrap().join("locks"));
}

#[test]
fn a_sound_directory_passes_the_check_and_keeps_nothing_of_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("locks");
    pollster::block_on(backend(&directory).check()).unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}
