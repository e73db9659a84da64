//! What a refused system call means for the caller.

use std::path::Path;

use pilotman_core::Error;
use rustix::io::Errno;

/// An error of a call that changed nothing.
pub(crate) fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let message = format!("{what} {}", path.display());
    let (error, advice) = match errno {
        Errno::NOSPC | Errno::DQUOT => (
            Error::unavailable(message),
            "the table needs some 7 MB there: free some space (in a container: a larger --shm-size), or use another \
             directory",
        ),
        Errno::MFILE => {
            (Error::unavailable(message), "this process has too many files open: raise its limit (ulimit -n)")
        }
        Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN => {
            (Error::unavailable(message), "the machine is short of memory, threads or open files; try again later")
        }
        Errno::ACCESS | Errno::PERM => {
            (Error::misconfigured(message), "let this user read and write there, or use another directory")
        }
        Errno::NOENT | Errno::NOTDIR => (Error::misconfigured(message), "use a directory that exists"),
        Errno::ROFS => (Error::misconfigured(message), "the file system is read-only; use a directory on another one"),
        Errno::LOOP => {
            (Error::misconfigured(message), "it is a symbolic link, which could lead a lock astray; remove it")
        }
        Errno::ISDIR => (Error::misconfigured(message), "it is a directory; remove it, or use another directory"),
        Errno::NAMETOOLONG => (Error::misconfigured(message), "use a directory with a shorter path"),
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV | Errno::NXIO => {
            (Error::misconfigured(message), "this system or file system can't do it; use the file backend")
        }
        _ => (Error::unavailable(message).retryable(false), "look at the file system"),
    };
    error.with_source(std::io::Error::from(errno)).with_advice(advice).no_effect(true)
}

/// An error about the state of a file, where no call was refused.
pub(crate) fn unfit(path: &Path, why: &str, advice: &'static str) -> Error {
    Error::misconfigured(format!("{} {why}", path.display())).with_advice(advice)
}
