//! How the command ends: exit statuses, and the one table that explains them.

use std::fmt;

use pilotman::{Error, ErrorKind};

/// The statuses that are ours, not the child's. The numbers are those of `sysexits.h` and of the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Usage = 64,
    Unavailable = 69,
    Internal = 70,
    NotAcquired = 75,
    Lost = 76,
    Misconfigured = 78,
    NotExecutable = 126,
    NotFound = 127,
}

impl Code {
    pub(crate) const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::TimedOut | ErrorKind::Deadlock => Self::NotAcquired,
            ErrorKind::Lost => Self::Lost,
            ErrorKind::Unavailable | ErrorKind::NoQuorum => Self::Unavailable,
            ErrorKind::Misconfigured | ErrorKind::Unsupported => Self::Misconfigured,
            ErrorKind::InvalidName => Self::Usage,
            // `Closed` and `Cancelled` come of our own doing only; a kind we don't know yet is our defect too.
            _ => Self::Internal,
        }
    }
}

/// The table of exit statuses, as it stands in `--help`, in the man page and in the README.
pub(crate) const TABLE: &str = "\
Exit status:
  0..255  that of COMMAND, when it ran and kept the lock to its end
  128+n   a signal of number n ended COMMAND, or pilotman while it waited
  64      usage: an option or a name is wrong; nothing was locked
  69      the backend can't be reached, or there is no quorum
  70      internal error
  75      not acquired: others hold the lock (changed by -E)
  76      the lock was lost or its time was up while COMMAND ran, whatever COMMAND returned
  78      misconfigured: backend, permissions, an option this backend doesn't have, or a problem that doctor found
  126     COMMAND can't be executed
  127     COMMAND was not found
COMMAND may use the same numbers; --status-fd tells whose a status is.";

/// Why the command ends early, for the reader, and the status that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn internal(what: &str, error: impl fmt::Display) -> Self {
        Self::new(Code::Internal, format!("{what}: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Code::of(error.kind()), error.to_string())
    }
}

/// How `pilotman` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    /// The child returned this.
    Child(u8),
    /// This signal ended the child.
    ChildSignal(i32),
    /// We end with a status of our own.
    Own(u8),
    /// This signal ended us.
    Signal(i32),
}

impl Ending {
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Child(status) | Self::Own(status) => status,
            // Signals are numbered 1..=64.
            Self::ChildSignal(signal) | Self::Signal(signal) => (128 + signal) as u8,
        }
    }

    pub(crate) const fn is_childs(self) -> bool {
        matches!(self, Self::Child(_) | Self::ChildSignal(_))
    }
}

impl From<Code> for Ending {
    fn from(code: Code) -> Self {
        Self::Own(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_ours_is_in_the_table() {
        use Code::*;
        for code in [Usage, Unavailable, Internal, NotAcquired, Lost, Misconfigured, NotExecutable, NotFound] {
            let row = format!("\n  {:<8}", code as u8);
            assert!(TABLE.contains(&row), "{code:?} is missing");
        }
    }

    #[test]
    fn the_manual_has_the_same_table() {
        assert!(include_str!("../README.md").contains(TABLE));
    }

    #[test]
    fn errors_have_the_status_of_their_kind() {
        assert_eq!(Code::of(ErrorKind::TimedOut) as u8, 75);
        assert_eq!(Code::of(ErrorKind::NoQuorum) as u8, 69);
        assert_eq!(Code::of(ErrorKind::Unsupported) as u8, 78);
        assert_eq!(Code::of(ErrorKind::InvalidName) as u8, 64);
        assert_eq!(Code::of(ErrorKind::Internal) as u8, 70);
        assert_eq!(Ending::ChildSignal(15).status(), 143);
    }
}
