//! Getting the lock: at once on this thread where that is but a system call, else on a thread of its own, so that
//! signals can end the wait.

use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pilotman::Result;
use pilotman::backend::Inspection;
use pilotman::blocking::{CancelToken, Locks};

use super::hold::Hold;
use super::signals::{self, Signals};
use super::wanted::Wanted;
use crate::exit::Failure;

/// How long a cancelled wait may take to give back what it had. The backends' own limits are shorter.
const CANCEL_LIMIT: Duration = Duration::from_secs(3);

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    For(Duration),
    Endless,
}

impl From<crate::args::Patience> for Patience {
    fn from(args: crate::args::Patience) -> Self {
        match args.wait {
            _ if args.no_wait => Self::None,
            Some(Duration::ZERO) => Self::None,
            Some(wait) => Self::For(wait),
            None => Self::Endless,
        }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Acquired {
    Held(Hold),
    /// Others held it until the patience was at its end. Who, where that is known.
    Not(Option<Inspection>),
    /// This signal came first. Nothing is held.
    Interrupted(Signal),
}

/// What the waiting thread reports.
enum Report {
    Waiting(Option<Inspection>),
    End(Result<Option<Hold>>),
}

/// Acquires what is `wanted`; `on_wait` is called when there is something to wait for. Who holds it is found out if
/// somebody `asks`.
pub(crate) fn acquire(
    locks: &Locks,
    wanted: &Wanted,
    patience: Patience,
    signals: &Signals,
    asks: bool,
    mut on_wait: impl FnMut(Option<&Inspection>),
) -> Result<Acquired, Failure> {
    let start = Instant::now();
    let inspect = move |wanted: &Wanted, locks: &Locks| if asks { wanted.inspect(locks) } else { None };
    // A server may let an attempt hang, and a signal has to end that too.
    let at_once = matches!(locks.backend_kind(), "file" | "memory" | "os");
    if at_once {
        if let Some(hold) = wanted.try_once(locks)? {
            return Ok(Acquired::Held(hold));
        }
        if patience == Patience::None {
            return Ok(Acquired::Not(inspect(wanted, locks)));
        }
    }

    let cancel = CancelToken::new();
    let (sender, reports) = mpsc::channel();
    let waiting = {
        let (locks, wanted) = (locks.clone(), wanted.with_cancel(&cancel));
        move || {
            let report = |report| {
                // Nobody listens any more if a signal has ended the wait; a hold then goes back as it is dropped.
                let _ = sender.send(report);
                signals::nudge();
            };
            if !at_once {
                match wanted.try_once(&locks) {
                    Ok(None) if patience != Patience::None => {}
                    end => return report(Report::End(end)),
                }
            }
            report(Report::Waiting(inspect(&wanted, &locks)));
            let end = match patience {
                Patience::None => Ok(None),
                Patience::Endless => wanted.wait(&locks, Duration::MAX),
                Patience::For(limit) => wanted.wait(&locks, limit.saturating_sub(start.elapsed())),
            };
            report(Report::End(end));
        }
    };
    thread::Builder::new()
        .name("pilotman-wait".into())
        .spawn(waiting)
        .map_err(|error| Failure::internal("can't make a thread to wait in", error))?;

    let mut seen = None;
    loop {
        match reports.try_recv() {
            Ok(Report::Waiting(inspection)) => {
                on_wait(inspection.as_ref());
                seen = inspection;
                continue;
            }
            Ok(Report::End(end)) => {
                return Ok(match end? {
                    Some(hold) => Acquired::Held(hold),
                    None => Acquired::Not(inspect(wanted, locks).or(seen)),
                });
            }
            Err(TryRecvError::Disconnected) => {
                return Err(Failure::internal("can't wait for the lock", "the waiting thread has panicked"));
            }
            Err(TryRecvError::Empty) => {}
        }
        match signals.next(None)? {
            Some(signal) if Signals::is_ending(signal) => {
                cancel.cancel();
                give_up(&reports);
                return Ok(Acquired::Interrupted(signal));
            }
            Some(Signal::SIGTSTP) => {
                signals.stop_by(Signal::SIGTSTP, false)?;
            }
            _ => {}
        }
    }
}

/// Waits until a cancelled wait has left nothing behind, and gives back what came too late to be cancelled.
fn give_up(reports: &mpsc::Receiver<Report>) {
    let until = Instant::now() + CANCEL_LIMIT;
    loop {
        match reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Report::Waiting(_)) => {}
            // What a release says is of no use any more: the process ends, and at worst the lease does.
            Ok(Report::End(Ok(Some(hold)))) => return drop(hold.release()),
            Ok(Report::End(_)) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
        }
    }
}
