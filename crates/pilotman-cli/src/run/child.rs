//! The child: how it is started, what it inherits, and how its group is told.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno as NixErrno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, waitid, waitpid};

use super::command;
use super::signals::Signals;
use super::terminal::Terminal;
use crate::backend::VARIABLE;
use crate::exit::Failure;

/// What the child finds in its environment. None of it is secret.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) name: String,
    pub(crate) token: Option<u64>,
    pub(crate) owner: String,
    pub(crate) backend_kind: &'static str,
    /// Whether the variable that names the backend stays, if it is there.
    pub(crate) keep_backend: bool,
}

impl Surroundings {
    /// Sets all variables or removes them: what an outer `pilotman run` has set is never left over.
    fn apply(&self, command: &mut Command) {
        command.env("PILOTMAN_NAME", &self.name);
        match self.token {
            Some(token) => command.env("PILOTMAN_TOKEN", token.to_string()),
            None => command.env_remove("PILOTMAN_TOKEN"),
        };
        command.env("PILOTMAN_OWNER", &self.owner);
        command.env("PILOTMAN_BACKEND_KIND", self.backend_kind);
        if !self.keep_backend {
            command.env_remove(VARIABLE);
        }
    }
}

/// What has become of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Ended,
    Stopped(i32),
}

/// How the child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(u8),
    Killed(i32),
}

/// A child that leads a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
}

impl Child {
    /// Starts `file` with the words of `line`, the first of which is the program's name as it was given. It has to be called on the main thread: where the system can, the child is killed when the
    /// thread that made it ends.
    pub(crate) fn start(
        file: &Path,
        line: &[OsString],
        surroundings: &Surroundings,
        inherited: Vec<Arc<OwnedFd>>,
        signals: &Signals,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        let (program, arguments) = line.split_first().ok_or_else(|| Failure::usage("there is no command to run"))?;
        let mut command = Command::new(file);
        command.arg0(program).args(arguments).process_group(0);
        surroundings.apply(&mut command);

        let take_terminal =
            terminal.take_in_child().map_err(|error| Failure::internal("can't use the terminal", error))?;
        let restore_signals = signals.restore_in_child();
        let parent = std::process::id();
        let prepare = move || {
            die_with(parent)?;
            for descriptor in &inherited {
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            take_terminal()?;
            restore_signals()?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "there is no other place between fork and exec")]
        // SAFETY: the closure makes async-signal-safe system calls only: prctl, getppid, kill, fcntl, sigprocmask,
        // sigaction, tcsetpgrp. It allocates nothing, takes no lock, and frees nothing, as exec or _exit follow.
        unsafe {
            command.pre_exec(prepare);
        }
        let child = command.spawn().map_err(|error| command::failed(program, &error))?;
        Ok(Self { pid: Pid::from_raw(child.id() as i32) })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends `signal` to the child's group. That nobody is left of it is fine.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match killpg(self.pid, signal) {
            // EPERM: what is left of the group has changed its user, or, on some systems, is a zombie.
            Ok(()) | Err(NixErrno::ESRCH | NixErrno::EPERM) => Ok(()),
            Err(error) => Err(Failure::internal("can't signal the command", error)),
        }
    }

    /// Whether something has become of the child. An ended child isn't reaped, so its number, which is its group's,
    /// belongs to nobody else yet.
    pub(crate) fn change(&self) -> Result<Option<Change>, Failure> {
        let either = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        let Some(status) = self.wait_id(either).map_err(cant_wait)? else { return Ok(None) };
        if !status.stopped() {
            return Ok(Some(Change::Ended));
        }
        // Now for good, so that it is told once. Meanwhile the child may have been continued, or have ended.
        match self.wait_id(WaitIdOptions::STOPPED) {
            Ok(status) => Ok(status.and_then(|status| status.stopping_signal()).map(Change::Stopped)),
            Err(Errno::CHILD) => Ok(Some(Change::Ended)),
            Err(error) => Err(cant_wait(error)),
        }
    }

    fn wait_id(&self, options: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
        waitid(WaitId::Pid(self.id()?), options | WaitIdOptions::NOHANG)
    }

    fn id(&self) -> Result<rustix::process::Pid, Errno> {
        rustix::process::Pid::from_raw(self.pid.as_raw()).ok_or(Errno::CHILD)
    }

    /// How the child ended. Waits for that if it hasn't.
    pub(crate) fn reap(&self) -> Result<Status, Failure> {
        loop {
            let status = self.id().and_then(|id| waitpid(Some(id), WaitOptions::empty())).map_err(cant_wait)?;
            let Some((_, status)) = status else { continue };
            if let Some(signal) = status.terminating_signal() {
                return Ok(Status::Killed(signal));
            }
            if let Some(code) = status.exit_status() {
                return Ok(Status::Exited(code as u8));
            }
        }
    }
}

fn cant_wait(error: Errno) -> Failure {
    Failure::internal("can't wait for the command", error)
}

/// In the child: die when `parent`'s thread that made us does.
#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> Result<(), NixErrno> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if parent_id() != parent {
        // It was gone before we asked. Nobody waits for us, and the lock may be somebody else's soon.
        nix::sys::signal::kill(Pid::this(), Signal::SIGKILL)?;
    }
    Ok(())
}

/// In the child: where the system has no such request, at least don't start without a parent.
#[cfg(not(target_os = "linux"))]
fn die_with(parent: u32) -> Result<(), NixErrno> {
    if parent_id() != parent {
        nix::sys::signal::kill(Pid::this(), Signal::SIGKILL)?;
    }
    Ok(())
}
