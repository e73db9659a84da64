//! `pilotman run`: a command under a lock.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pilotman::Release;
use pilotman::blocking::Locks;

use crate::args::Run;
use crate::backend::Backend;
use crate::duration::shown;
use crate::events::{Event, Reporter};
use crate::exit::{Code, Ending, Failure};

pub(crate) mod acquire;
mod child;
mod command;
mod hold;
pub(crate) mod loss;
pub(crate) mod signals;
mod status_fd;
mod supervise;
mod terminal;
pub(crate) mod wanted;

use acquire::{Acquired, Patience, acquire};
use child::{Child, Status, Surroundings};
use hold::Hold;
use loss::Watchdog;
use signals::Signals;
use supervise::{Outcome, Supervisor};
use terminal::Terminal;
use wanted::Wanted;

/// Runs a command under a lock, from the check of the arguments to the exit status.
pub(crate) fn run(args: Run, backend: Option<String>) -> Ending {
    let status = match args.status_fd.map(status_fd::open).transpose() {
        Ok(status) => status,
        Err(failure) => {
            crate::events::say(&failure.message);
            return failure.code.into();
        }
    };
    let wanted = match (&args.name, &args.all) {
        (_, Some(names)) => Wanted::all(names.clone()),
        (name, None) => Wanted::one(name.clone().unwrap_or_default(), args.kind.primitive()),
    };
    let wanted = wanted.with_lease(args.lease).with_token(args.token);
    let mut reporter = Reporter::new(wanted.shown(), args.voice, status);
    let ending = Job { args, wanted, reporter: &mut reporter }.run(backend).unwrap_or_else(|failure| {
        reporter.tell(&Event::Failed(&failure));
        failure.code.into()
    });
    reporter.tell(&Event::Exit(ending));
    ending
}

struct Job<'a> {
    args: Run,
    wanted: Wanted,
    reporter: &'a mut Reporter,
}

impl Job<'_> {
    fn run(mut self, backend: Option<String>) -> Result<Ending, Failure> {
        self.check()?;
        let program = self.args.command.first().map(|program| program.as_os_str()).unwrap_or_default();
        let backend = Backend::choose_to_hold(backend, program)?;
        if let Some(warning) = backend.warning() {
            self.reporter.warn(&warning);
        }
        let file = command::resolve(program)?;
        let signals = Signals::take()?;
        let locks = backend.connect()?;
        self.reporter.explain(|| format!("backend: {}", backend.shown()));
        if !locks.capabilities().cross_process {
            self.reporter
                .warn(&format!("a {} lock is this process's own: nobody else is kept out", locks.backend_kind()));
        }
        // The limit of the URL, if there is one, is kept by the library: the child has to be dead by then.
        let at_most = self.args.hold_at_most.into_iter().chain(locks.as_async().default_options().hold_at_most).min();
        let grace = self.grace(&locks, at_most)?;

        let start = Instant::now();
        let hold = match self.acquire(&locks, &signals, start)? {
            Ok(hold) => hold,
            Err(ending) => {
                // What was in flight is given back in the background: let it finish.
                locks.close();
                return Ok(ending);
            }
        };
        let acquired = Instant::now();
        let surroundings = Surroundings {
            name: hold.name(),
            token: hold.token(),
            owner: hold.owner(),
            backend_kind: locks.backend_kind(),
            keep_backend: backend.may_be_inherited(),
        };
        self.reporter.tell(&Event::Acquired {
            backend: surroundings.backend_kind,
            waited: acquired - start,
            token: surroundings.token,
            owner: &surroundings.owner,
        });

        let inherited = if self.args.close { Vec::new() } else { hold.descriptors() };
        let is_inherited = !inherited.is_empty();
        let mut terminal = Terminal::new();
        let child = match Child::start(&file, &self.args.command, &surroundings, inherited, &signals, &terminal) {
            Ok(child) => child,
            Err(failure) => {
                terminal.take_back_from_nobody();
                // The failure to start is what the user has to know, and the lock ends with us at the latest.
                let _ = hold.release();
                return Err(failure);
            }
        };
        let outcome = Supervisor {
            child: &child,
            signals: &signals,
            terminal: &mut terminal,
            watchdog: Watchdog::new(self.args.on_lost, grace, at_most),
            on_lost: self.args.on_lost,
            acquired,
            can_be_lost: locks.capabilities().loss,
            lost: false,
            reporter: self.reporter,
        }
        .run(hold)?;
        self.finish(outcome, &locks, &signals, acquired, is_inherited)
    }

    /// What clap can't see: options that contradict each other by their values.
    fn check(&self) -> Result<(), Failure> {
        let Run { hold_at_least, hold_at_most, lease, on_lost, grace, .. } = &self.args;
        if hold_at_most.is_some_and(|most| most.is_zero()) {
            return Err(Failure::usage("--hold-at-most 0 leaves no time to run in"));
        }
        if lease.is_some_and(|lease| lease.is_zero()) {
            return Err(Failure::usage("--lease 0 leaves no time to run in"));
        }
        if let (Some(least), Some(most)) = (hold_at_least, hold_at_most)
            && least > most
        {
            return Err(Failure::usage("--hold-at-least is longer than --hold-at-most"));
        }
        if grace.is_some() && *on_lost == loss::OnLost::Ignore {
            return Err(Failure::usage(
                "--grace has no meaning with --on-lost ignore, which tells the command nothing",
            ));
        }
        if let (Some(grace), Some(most)) = (grace, hold_at_most)
            && grace >= most
        {
            return Err(Failure::usage("--grace takes up all the time that --hold-at-most leaves"));
        }
        Ok(())
    }

    /// The time before the end of the hold at which the child is told.
    fn grace(&self, locks: &Locks, at_most: Option<Duration>) -> Result<Duration, Failure> {
        let asked = self.args.lease.or(locks.as_async().default_options().lease);
        let lease = locks.capabilities().lease.and_then(|bounds| asked.or(bounds.default));
        let grace = loss::grace(self.args.grace, lease, at_most);
        // A lease is renewed when a third of it has passed: it has two thirds left before, and less after a hiccup.
        if let Some(lease) = lease
            && grace > lease / 2
        {
            let (grace, lease) = (shown(grace), shown(lease));
            return Err(Failure::usage(format!(
                "--grace {grace} is more than half the lease of {lease}, so a late renewal would end the command"
            )));
        }
        Ok(grace)
    }

    /// Gets the lock, or how we end without it.
    fn acquire(&mut self, locks: &Locks, signals: &Signals, start: Instant) -> Result<Result<Hold, Ending>, Failure> {
        let patience = Patience::from(self.args.patience);
        let asks = self.reporter.asks_for_holders();
        let reporter = &mut *self.reporter;
        let acquired = acquire(locks, &self.wanted, patience, signals, asks, |inspection| {
            reporter.tell(&Event::Waiting { backend: locks.backend_kind(), inspection });
        })?;
        Ok(match acquired {
            Acquired::Held(hold) => Ok(hold),
            Acquired::Interrupted(signal) => Err(Ending::Signal(signal as i32)),
            Acquired::Not(inspection) => {
                let waited = if patience == Patience::None { Duration::ZERO } else { start.elapsed() };
                self.reporter.tell(&Event::NotAcquired { waited, inspection: inspection.as_ref() });
                Err(Ending::Own(self.args.patience.conflict_exit_code.unwrap_or(Code::NotAcquired as u8)))
            }
        })
    }

    /// After the child: keeps the lock as long as was asked for, gives it back, and says how it all ended.
    fn finish(
        mut self,
        outcome: Outcome,
        locks: &Locks,
        signals: &Signals,
        acquired: Instant,
        is_inherited: bool,
    ) -> Result<Ending, Failure> {
        let Outcome { status, mut lost, hold } = outcome;
        let mut interrupted = None;
        if let (Some(least), false) = (self.args.hold_at_least, lost) {
            interrupted = rest(least, acquired, signals)?;
        }
        if let Some(hold) = hold {
            lost |= self.give_back(hold, is_inherited && !lost)?;
            if !lost {
                self.reporter.tell(&Event::Released { held: acquired.elapsed() });
            }
        }
        locks.close();
        Ok(match (lost, interrupted, status) {
            (true, ..) => Code::Lost.into(),
            (_, Some(signal), _) => Ending::Signal(signal as i32),
            (.., Status::Exited(code)) => Ending::Child(code),
            (.., Status::Killed(signal)) => Ending::ChildSignal(signal),
        })
    }

    /// Says whether the lock turned out to be lost.
    fn give_back(&mut self, hold: Hold, is_inherited: bool) -> Result<bool, Failure> {
        if is_inherited {
            // What the child has left behind holds the lock too: as with flock(1), it ends with the last of them, and
            // our part in it when we exit. Unlocking would take it away from them.
            std::mem::forget(hold);
            return Ok(false);
        }
        match hold.release() {
            Ok(Release::Released) => Ok(false),
            Ok(Release::AlreadyLost(reason)) => {
                self.reporter.explain(|| reason.to_string());
                Ok(true)
            }
            Err(error) => {
                self.reporter.warn(&format!("the lock could not be given back yet: {error}"));
                Ok(false)
            }
        }
    }
}

/// Waits until the lock has been held for `least`. A signal ends that.
fn rest(least: Duration, acquired: Instant, signals: &Signals) -> Result<Option<Signal>, Failure> {
    loop {
        let left = least.saturating_sub(acquired.elapsed());
        match signals.next(Some(left))? {
            Some(signal) if Signals::is_ending(signal) => return Ok(Some(signal)),
            Some(Signal::SIGTSTP) => {
                signals.stop_by(Signal::SIGTSTP, false)?;
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Ends the process as `ending` says, by the signal where that is what our caller has to see.
pub(crate) fn leave(ending: Ending) {
    let signal = match ending {
        Ending::Signal(signal) => signal,
        // A shell goes on with its script after a command that has dealt with Ctrl-C itself, which ours has not.
        Ending::ChildSignal(signal) if signal == Signal::SIGINT as i32 => signal,
        _ => return,
    };
    if let Ok(signal) = Signal::try_from(signal) {
        signals::die_by(signal);
    }
}
