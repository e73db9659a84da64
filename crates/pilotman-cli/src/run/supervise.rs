//! The time between the child's start and its end: signals go on to it, stops of it are ours too, and a lock that is
//! being lost takes it along.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::child::{Change, Child, Status};
use super::hold::Hold;
use super::loss::{Action, OnLost, View, Watchdog};
use super::signals::{self, Signals};
use super::terminal::Terminal;
use crate::events::{Event, Reporter};
use crate::exit::Failure;

/// A child that ends sooner costs no thread that waits for the loss of its lock.
const BRIEF: Duration = Duration::from_millis(100);

/// How often a lease is looked at, to tell that it is at risk.
const LOOK: Duration = Duration::from_millis(500);

/// What the child left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    /// The lock was lost, or had to be given up, before the child had ended.
    pub(crate) lost: bool,
    /// What is held still.
    pub(crate) hold: Option<Hold>,
}

/// Follows a child to its end.
#[derive(Debug)]
pub(crate) struct Supervisor<'a> {
    pub(crate) child: &'a Child,
    pub(crate) signals: &'a Signals,
    pub(crate) terminal: &'a mut Terminal,
    pub(crate) reporter: &'a mut Reporter,
    pub(crate) watchdog: Watchdog,
    pub(crate) on_lost: OnLost,
    pub(crate) acquired: Instant,
    /// Whether this backend's holds can be lost at all.
    pub(crate) can_be_lost: bool,
    /// Set when the lock is lost, or has to be given up, before the child has ended.
    pub(crate) lost: bool,
}

impl Supervisor<'_> {
    pub(crate) fn run(mut self, hold: Hold) -> Result<Outcome, Failure> {
        let mut hold = Some(hold);
        let status = match self.follow(&mut hold) {
            Ok(status) => status,
            Err(failure) => {
                // Without us nobody watches over the child, so it must not outlive the lock.
                self.child.signal(Signal::SIGKILL)?;
                self.child.reap()?;
                self.terminal.take_back(self.child.pid());
                return Err(failure);
            }
        };
        let had_terminal = self.terminal.is_lent();
        self.terminal.take_back(self.child.pid());
        if let Status::Killed(signal) = status {
            self.terminal.restore_modes();
            // Ctrl-C was meant for the script around us too, but reached only the group that had the terminal.
            if had_terminal && signal == Signal::SIGINT as i32 {
                kill(Pid::from_raw(0), Signal::SIGINT)
                    .map_err(|error| Failure::internal("can't pass Ctrl-C on", error))?;
            }
        }
        Ok(Outcome { status, lost: self.lost, hold })
    }

    fn follow(&mut self, hold: &mut Option<Hold>) -> Result<Status, Failure> {
        let mut ears = Ears { listening: !self.can_be_lost, at_risk: false, expires: None };
        loop {
            match self.child.change()? {
                Some(Change::Ended) => {
                    self.ended(hold.as_ref())?;
                    return self.child.reap();
                }
                Some(Change::Stopped(signal)) => {
                    self.stopped(signal, hold.as_ref())?;
                    continue;
                }
                None => {}
            }
            let pause = self.look_after(hold, &mut ears)?;
            match self.signals.next(pause)? {
                None | Some(Signal::SIGCHLD | Signal::SIGCONT) => {}
                Some(signal) => self.child.signal(signal)?,
            }
        }
    }

    /// The child has ended and is not reaped yet. What is left of its group is its group for sure.
    fn ended(&mut self, hold: Option<&Hold>) -> Result<(), Failure> {
        if let Some(reason) = hold.filter(|_| !self.lost).and_then(Hold::loss) {
            self.reporter.tell(&Event::Lost { reason: &reason, held: self.acquired.elapsed() });
            self.lost = true;
        }
        if self.lost && self.on_lost == OnLost::Kill {
            self.child.signal(Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// Does what the hold's state asks for, and says when to look again.
    fn look_after(&mut self, hold: &mut Option<Hold>, ears: &mut Ears) -> Result<Option<Duration>, Failure> {
        let age = self.acquired.elapsed();
        let Some(held) = hold else { return Ok(None) };
        if !ears.listening && age >= BRIEF {
            held.on_loss(signals::nudge).map_err(|error| Failure::internal("can't watch the lock", error))?;
            ears.listening = true;
        }
        let view = ears.view(held, age);
        ears.tell_risk(held, &view, self.reporter);
        while let Some(action) = self.watchdog.step(&view) {
            match action {
                Action::Tell { signal, reason } => {
                    self.lost = true;
                    self.reporter.tell(&Event::Lost { reason: &reason, held: age });
                    if let Some(signal) = signal {
                        self.child.signal(signal)?;
                        // A stopped child can't take the hint.
                        self.child.signal(Signal::SIGCONT)?;
                    }
                }
                Action::Kill => self.child.signal(Signal::SIGKILL)?,
                Action::GiveBack => {
                    if let Some(held) = hold.take() {
                        let _ = held.release()?;
                    }
                    return Ok(None);
                }
            }
        }
        let look = if !ears.listening {
            Some(BRIEF.saturating_sub(age))
        } else {
            view.remaining.filter(|_| view.lost.is_none()).map(|_| LOOK)
        };
        Ok(self.watchdog.pause(&view).into_iter().chain(look).min())
    }

    /// The child was stopped. What that means depends on who can make it go on again.
    fn stopped(&mut self, signal: i32, hold: Option<&Hold>) -> Result<(), Failure> {
        let signal = Signal::try_from(signal).unwrap_or(Signal::SIGSTOP);
        let by_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if by_terminal && self.terminal.lend(self.child.pid()) {
            return self.child.signal(Signal::SIGCONT);
        }
        if signal == Signal::SIGSTOP && !self.terminal.is_lent() {
            // Somebody has paused the child on purpose, and will let it go on.
            return Ok(());
        }
        let had_terminal = self.terminal.is_lent();
        self.terminal.take_back(self.child.pid());
        // With the terminal, the child alone was stopped from the keyboard; those around us would have been too.
        let continued = self.signals.stop_by(signal, had_terminal)?;
        if !continued {
            // Nobody watches over us who could continue us, so we weren't stopped. The kernel tells such a group to
            // hang up when it needs the terminal, and otherwise lets it go on.
            if by_terminal {
                self.child.signal(Signal::SIGHUP)?;
            }
            return self.child.signal(Signal::SIGCONT);
        }
        if hold.is_some_and(|hold| hold.loss().is_some()) && self.on_lost == OnLost::Kill {
            // It was lost while we slept: the child isn't let loose on it. `look_after` ends it.
            return Ok(());
        }
        self.terminal.lend_again(self.child.pid(), had_terminal);
        self.child.signal(Signal::SIGCONT)
    }
}

/// What was heard of the hold so far.
#[derive(Debug)]
struct Ears {
    /// A thread waits for the loss, or none is needed.
    listening: bool,
    at_risk: bool,
    /// When the lease ends, as an age of the hold, as of the last look at which it was held.
    expires: Option<Duration>,
}

impl Ears {
    fn view(&mut self, hold: &Hold, age: Duration) -> View {
        let lost = hold.loss();
        if lost.is_none() {
            self.expires = hold.remaining().map(|remaining| age + remaining);
        }
        View { held: age, remaining: self.expires.map(|end| end.saturating_sub(age)), lost }
    }

    fn tell_risk(&mut self, hold: &Hold, view: &View, reporter: &mut Reporter) {
        let at_risk = hold.is_at_risk();
        if at_risk && !self.at_risk {
            reporter.tell(&Event::AtRisk { remaining: view.remaining });
        }
        self.at_risk = at_risk;
    }
}
