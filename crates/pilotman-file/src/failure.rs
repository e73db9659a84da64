//! What a refused system call means for the caller.

use std::path::Path;

use pilotman_core::Error;
use rustix::io::Errno;

/// An error of a call that changed nothing. `what` says what can't be done, as in "can't open the lock file".
pub(crate) fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let message = format!("{what} {}", path.display());
    let (error, advice) = match errno {
        Errno::NOSPC | Errno::DQUOT => (
            Error::unavailable(message),
            "free some space (or inodes) there, or use a directory on another file system",
        ),
        Errno::MFILE => (
            Error::unavailable(message),
            "this process has too many files open: raise its limit (ulimit -n), or hold fewer locks at a time",
        ),
        Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
            (Error::unavailable(message), "the machine is short of memory or of open files; try again later")
        }
        Errno::NOLCK => {
            (Error::unavailable(message), "the machine, or the file server, is short of locks; try again later")
        }
        Errno::STALE | Errno::IO | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH => {
            (Error::unavailable(message), "the file system does not answer as it should; look at its health")
        }
        Errno::ACCESS | Errno::PERM => {
            (Error::misconfigured(message), "let this user write there, or use a directory that belongs to it")
        }
        Errno::ROFS => (Error::misconfigured(message), "the file system is read-only; use a directory on another one"),
        Errno::NOTDIR => (Error::misconfigured(message), "a part of that path is a file; use another directory"),
        Errno::ISDIR => (Error::misconfigured(message), "it is a directory; use another name or directory"),
        Errno::LOOP | Errno::MLINK => (
            Error::misconfigured(message),
            "it is a symbolic link, which could lead a lock astray; remove it or use another directory",
        ),
        Errno::NAMETOOLONG => (Error::misconfigured(message), "use a directory with a shorter path, or a shorter name"),
        Errno::NXIO | Errno::NODEV => {
            (Error::misconfigured(message), "it is no regular file; use another name or directory")
        }
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => {
            (Error::misconfigured(message), "this file system has no locks; use a directory on another one")
        }
        _ => (Error::unavailable(message).retryable(false), "look at the file system"),
    };
    error.with_source(std::io::Error::from(errno)).with_advice(advice).no_effect(true)
}

/// An error about the state of a file, where no call was refused.
pub(crate) fn unfit(path: &Path, why: &str, advice: &'static str) -> Error {
    Error::misconfigured(format!("{} {why}", path.display())).with_advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilotman_core::ErrorKind;

    #[test]
    fn each_refusal_says_whether_waiting_helps() {
        let path = Path::new("/x");
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOLCK, Errno::STALE] {
            let error = failed("can't open", path, errno);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{errno:?}");
            assert!(error.is_retryable() && error.has_no_effect() && error.advice().is_some());
        }
        for errno in [Errno::ACCESS, Errno::ROFS, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP, Errno::NAMETOOLONG] {
            let error = failed("can't open", path, errno);
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{errno:?}");
            assert!(!error.is_retryable() && error.has_no_effect() && error.advice().is_some());
        }
        assert!(!failed("can't open", path, Errno::BADF).is_retryable());
    }
}
