//! Signals as events that the main thread waits for, so that no handler has to run.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise};
use nix::unistd::Pid;

use crate::exit::Failure;

/// What ends a process that doesn't care, and what a supervisor has to pass on.
const ENDING: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// What concerns a supervisor.
const SUPERVISING: [Signal; 3] = [Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT];

/// The signals of this process, blocked and read one by one.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The mask that we were started with, and the child is to have.
    original: SigSet,
    watched: SigSet,
    child_was_ignored: bool,
    source: Source,
}

impl Signals {
    /// Blocks the signals that we answer for. Call it before any thread is made, so that all threads block them.
    ///
    /// A signal that was ignored when we were started (`nohup`) stays ignored, here and in the child.
    pub(crate) fn take() -> Result<Self, Failure> {
        let child_was_ignored = is_ignored(Signal::SIGCHLD);
        if child_was_ignored {
            // Else the kernel would reap the child, and its status were lost.
            set(Signal::SIGCHLD, SigHandler::SigDfl).map_err(failed)?;
        }
        let mut watched: SigSet = ENDING.into_iter().chain(SUPERVISING).filter(|signal| !is_ignored(*signal)).collect();
        watched.add(Signal::SIGCHLD);
        // Blocked, SIGTTOU lets us set the terminal's foreground group, and write to it, from the background.
        let blocked = watched | Signal::SIGTTOU;
        let original = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(failed)?;
        let source = Source::new(&watched).map_err(failed)?;
        Ok(Self { original, watched, child_was_ignored, source })
    }

    /// Whether `signal` is one that asks a process to end.
    pub(crate) fn is_ending(signal: Signal) -> bool {
        ENDING.contains(&signal)
    }

    /// Waits for the next signal, at most this long.
    pub(crate) fn next(&self, patience: Option<Duration>) -> Result<Option<Signal>, Failure> {
        self.source.next(&self.watched, patience).map_err(failed)
    }

    /// Stops this process as `signal` does, with its whole group if `group`. Returns when it goes on again: `true`, or
    /// at once if nobody is there who would let it go on: `false`.
    pub(crate) fn stop_by(&self, signal: Signal, group: bool) -> Result<bool, Failure> {
        // Made while it is blocked, so that the stop happens at one place: where it is let through.
        let signals = SigSet::from(signal);
        signals.thread_block().map_err(failed)?;
        if group { kill(Pid::from_raw(0), signal) } else { raise(signal) }.map_err(failed)?;
        signals.thread_unblock().map_err(failed)?;
        if self.watched.contains(signal) || signal == Signal::SIGTTOU {
            signals.thread_block().map_err(failed)?;
        }
        // An orphaned group isn't stopped by the terminal's signals: then nothing has continued us either. (Making
        // the signal has removed what was pending of SIGCONT before.)
        is_pending(Signal::SIGCONT).map_err(failed)
    }

    /// What has to be done in the child to give it the signals as we found them. Async-signal-safe.
    pub(crate) fn restore_in_child(&self) -> impl Fn() -> Result<(), Errno> + Send + Sync + use<> {
        let (original, child_was_ignored) = (self.original, self.child_was_ignored);
        move || {
            if child_was_ignored {
                set(Signal::SIGCHLD, SigHandler::SigIgn)?;
            }
            original.thread_set_mask()
        }
    }
}

/// Makes the main thread look around, from any thread: a `SIGCHLD` of our own.
pub(crate) fn nudge() {
    // It can't fail: the process is there and is ours.
    let _ = kill(Pid::this(), Signal::SIGCHLD);
}

/// Ends this process by `signal`, so that whoever waits for us sees it. Returns if the signal doesn't end us, as it is
/// with the first process of a container.
pub(crate) fn die_by(signal: Signal) {
    // If neither works, we end with a status that says the same.
    let _ = raise(signal);
    let _ = SigSet::from(signal).thread_unblock();
}

fn failed(error: Errno) -> Failure {
    Failure::internal("can't handle signals", error)
}

#[expect(unsafe_code, reason = "a system call without a safe form")]
fn is_ignored(signal: Signal) -> bool {
    use nix::libc;
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the new action is null, so nothing changes; the old one is written to memory of the right type, for
    // which all zeroes is a valid value too.
    let old = unsafe {
        libc::sigaction(signal as libc::c_int, std::ptr::null(), old.as_mut_ptr());
        old.assume_init()
    };
    old.sa_sigaction == libc::SIG_IGN
}

#[expect(unsafe_code, reason = "a system call without a safe form")]
fn is_pending(signal: Signal) -> Result<bool, Errno> {
    use nix::libc;
    let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is written to memory of its type; it is read only if the call has succeeded.
    let pending = unsafe {
        Errno::result(libc::sigpending(pending.as_mut_ptr()))?;
        SigSet::from_sigset_t_unchecked(pending.assume_init())
    };
    Ok(pending.contains(signal))
}

#[expect(unsafe_code, reason = "a system call without a safe form")]
fn set(signal: Signal, handler: SigHandler) -> Result<(), Errno> {
    debug_assert!(matches!(handler, SigHandler::SigDfl | SigHandler::SigIgn));
    // SAFETY: no handler is installed, only the default or nothing.
    unsafe { nix::sys::signal::signal(signal, handler) }.map(drop)
}

#[cfg(target_os = "linux")]
use with_signalfd::Source;

#[cfg(target_os = "linux")]
mod with_signalfd {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};

    #[derive(Debug)]
    pub(super) struct Source(SignalFd);

    impl Source {
        pub(super) fn new(watched: &SigSet) -> Result<Self, Errno> {
            SignalFd::with_flags(watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
        }

        pub(super) fn next(&self, _: &SigSet, patience: Option<Duration>) -> Result<Option<Signal>, Errno> {
            let until = patience.and_then(|patience| Instant::now().checked_add(patience));
            loop {
                if let Some(info) = self.0.read_signal()? {
                    return Signal::try_from(info.ssi_signo as i32).map(Some);
                }
                let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => return Ok(None),
                    // Rounded up, lest we spin in the last millisecond.
                    Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
                    None => PollTimeout::NONE,
                };
                match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
use with_sigwait::Source;

/// Where nothing waits for signals and time at once, a thread that sleeps stands in for the time.
#[cfg(not(target_os = "linux"))]
mod with_sigwait {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::sys::signal::{SigSet, Signal};

    #[derive(Debug)]
    pub(super) struct Source;

    impl Source {
        pub(super) fn new(_: &SigSet) -> Result<Self, Errno> {
            Ok(Self)
        }

        pub(super) fn next(&self, watched: &SigSet, patience: Option<Duration>) -> Result<Option<Signal>, Errno> {
            let Some(patience) = patience else { return watched.wait().map(Some) };
            let (done, is_done) = mpsc::channel::<()>();
            let timed_out = Arc::new(AtomicBool::new(false));
            let rang = timed_out.clone();
            let alarm = thread::spawn(move || {
                if is_done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                    rang.store(true, Ordering::SeqCst);
                    super::nudge();
                }
            });
            let signal = watched.wait()?;
            drop(done);
            // The thread does nothing but the above, so it can't have panicked, and it ends at once.
            let _ = alarm.join();
            Ok((signal != Signal::SIGCHLD || !timed_out.load(Ordering::SeqCst)).then_some(signal))
        }
    }
}
