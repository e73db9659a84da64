//! The terminal's foreground: lent to the child while it runs, so that the keyboard's signals reach it, and it once.
//!
//! An interactive shell gives each job a process group of its own and makes it the foreground. The child has a group of
//! its own too, so somebody has to be in the foreground and somebody not:
//!
//! - If we are all that is in the foreground, as far as one can see (we lead the group and no pipe leads to a
//!   neighbour), the child gets it from its first instruction on.
//! - In a script or a pipeline, the others in our group keep it: Ctrl-C ends the script, and we pass it on to the
//!   child. A child that reads the terminal is stopped by the kernel for that; then it gets the foreground.

use std::fs::File;
use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, getpid, tcgetpgrp, tcsetpgrp};

#[derive(Debug)]
pub(crate) struct Terminal {
    tty: Option<File>,
    /// The child gets the foreground whenever it is ours to give.
    eager: bool,
    lent: bool,
    /// How the terminal was set before the child had it.
    modes: Option<Termios>,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let mut terminal = Self { tty: None, eager: false, lent: false, modes: None };
        terminal.eager =
            stdin().is_terminal() && getpgrp() == getpid() && !is_pipe(stdout().as_fd()) && terminal.is_ours();
        if terminal.eager {
            terminal.remember_modes();
            terminal.lent = true;
        }
        terminal
    }

    /// What the child has to do first, if it is to have the foreground from the beginning. Async-signal-safe.
    pub(crate) fn take_in_child(&self) -> std::io::Result<impl Fn() -> Result<(), Errno> + Send + Sync + use<>> {
        let tty: Option<OwnedFd> = match &self.tty {
            Some(tty) if self.eager => Some(tty.as_fd().try_clone_to_owned()?),
            _ => None,
        };
        Ok(move || {
            let Some(tty) = &tty else { return Ok(()) };
            // The kernel stops a background group that does this, unless the signal is blocked.
            SigSet::from(Signal::SIGTTOU).thread_block()?;
            match tcsetpgrp(tty, getpid()) {
                // The terminal has gone away: not the child's concern yet.
                Err(Errno::EIO | Errno::ENOTTY) => Ok(()),
                other => other,
            }
        })
    }

    /// Lends the foreground to the child's group if it is ours; says whether it did.
    pub(crate) fn lend(&mut self, child: Pid) -> bool {
        if self.lent || !self.is_ours() {
            return false;
        }
        self.remember_modes();
        self.lent = self.tty.as_ref().is_some_and(|tty| tcsetpgrp(tty, child).is_ok());
        self.lent
    }

    /// Whether the child has the foreground from us.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Takes the foreground back, unless somebody else, such as the shell, has taken it meanwhile.
    pub(crate) fn take_back(&mut self, child: Pid) {
        let Some(tty) = self.tty.as_ref().filter(|_| self.lent) else { return };
        self.lent = false;
        if let Ok(foreground) = tcgetpgrp(tty)
            && (foreground == child || killpg(foreground, None) == Err(Errno::ESRCH))
        {
            // Fails only if the terminal is gone, and the foreground with it.
            let _ = tcsetpgrp(tty, getpgrp());
        }
    }

    /// Takes the foreground back from a child that could not be started.
    pub(crate) fn take_back_from_nobody(&mut self) {
        // No group has this number, so the terminal is taken back if its foreground group is gone.
        self.take_back(Pid::from_raw(0));
    }

    /// Sets the terminal as it was, for the case that a signal kept the child from doing so.
    pub(crate) fn restore_modes(&self) {
        if let (Some(tty), Some(modes)) = (&self.tty, &self.modes)
            && self.foreground() == Some(getpgrp())
        {
            let _ = tcsetattr(tty, SetArg::TCSADRAIN, modes);
        }
    }

    /// Lends it again after a stop, if the child is to have it at all.
    pub(crate) fn lend_again(&mut self, child: Pid, had_it: bool) {
        if self.eager || had_it {
            self.lend(child);
        }
    }

    fn is_ours(&mut self) -> bool {
        if self.tty.is_none() {
            // No controlling terminal: nothing to lend, which is the usual case of jobs.
            self.tty = File::options().read(true).write(true).open("/dev/tty").ok();
        }
        self.foreground() == Some(getpgrp())
    }

    fn foreground(&self) -> Option<Pid> {
        self.tty.as_ref().and_then(|tty| tcgetpgrp(tty).ok())
    }

    fn remember_modes(&mut self) {
        if self.modes.is_none() {
            self.modes = self.tty.as_ref().and_then(|tty| tcgetattr(tty).ok());
        }
    }
}

/// Whether `fd` leads to another process.
fn is_pipe(fd: impl AsFd) -> bool {
    let Ok(fd) = fd.as_fd().try_clone_to_owned() else { return false };
    File::from(fd).metadata().is_ok_and(|meta| meta.file_type().is_fifo() || meta.file_type().is_socket())
}
