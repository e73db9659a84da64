//! When the child has to be told that the lock is going, and when it has to be dead. No clock and no process in here:
//! times come in, actions go out.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;
use pilotman::LossReason;

/// The grace where neither the user nor a lease says one.
const GRACE: Duration = Duration::from_secs(5);

/// What the child gets when the lock is being lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLost {
    Kill,
    Signal(Signal),
    Ignore,
}

impl FromStr for OnLost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kill" => Ok(Self::Kill),
            "ignore" => Ok(Self::Ignore),
            _ => match text.strip_prefix("signal:") {
                Some(signal) => signal_from(signal).map(Self::Signal).ok_or("no such signal".into()),
                None => Err("it is kill, ignore, or signal:SIG such as signal:HUP".into()),
            },
        }
    }
}

/// Reads `HUP`, `SIGHUP`, `hup` or `1`.
fn signal_from(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().ok()
}

/// How long before the end of the hold the child is told.
pub(crate) fn grace(asked: Option<Duration>, lease: Option<Duration>, at_most: Option<Duration>) -> Duration {
    asked.unwrap_or_else(|| {
        let shortest = lease.into_iter().chain(at_most).min();
        shortest.map_or(GRACE, |shortest| if lease == Some(shortest) { shortest / 6 } else { GRACE.min(shortest / 6) })
    })
}

/// What is known about the hold at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// How long ago it was acquired.
    pub(crate) held: Duration,
    /// What is left of its lease, if it has one, or would be left if it were not lost.
    pub(crate) remaining: Option<Duration>,
    /// Set once the backend or the engine says that it is gone.
    pub(crate) lost: Option<LossReason>,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tell the child's group; `reason` is why the hold ends.
    Tell { signal: Option<Signal>, reason: LossReason },
    /// Kill the child's group.
    Kill,
    /// The child goes on without the lock: give it back.
    GiveBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Holding,
    /// The child was told; it is killed when the hold is this old.
    Told {
        kill_at: Option<Duration>,
    },
    /// Nothing is left to be done.
    Done,
}

/// Follows one hold to its end.
#[derive(Debug)]
pub(crate) struct Watchdog {
    on_lost: OnLost,
    grace: Duration,
    at_most: Option<Duration>,
    stage: Stage,
}

impl Watchdog {
    pub(crate) fn new(on_lost: OnLost, grace: Duration, at_most: Option<Duration>) -> Self {
        Self { on_lost, grace, at_most, stage: Stage::Holding }
    }

    /// Says what is to be done now; call it again after that, and after [`Self::pause`] at the latest.
    pub(crate) fn step(&mut self, view: &View) -> Option<Action> {
        match self.stage {
            Stage::Holding => self.watch(view),
            Stage::Told { kill_at } => self.follow(view, kill_at),
            Stage::Done => None,
        }
    }

    fn watch(&mut self, view: &View) -> Option<Action> {
        let (left, reason) = self.left(view)?;
        if view.lost.is_none() && left > self.grace {
            return None;
        }
        let reason = view.lost.clone().unwrap_or(reason);
        let signal = match self.on_lost {
            OnLost::Kill => Some(Signal::SIGTERM),
            OnLost::Signal(signal) => Some(signal),
            OnLost::Ignore => None,
        };
        let kill_at = (self.on_lost == OnLost::Kill).then(|| {
            let margin = if view.lost.is_some() { Duration::ZERO } else { self.margin() };
            view.held + left.min(self.grace).saturating_sub(margin)
        });
        self.stage = Stage::Told { kill_at };
        Some(Action::Tell { signal, reason })
    }

    fn follow(&mut self, view: &View, kill_at: Option<Duration>) -> Option<Action> {
        match kill_at {
            Some(kill_at) if view.held >= kill_at => {
                self.stage = Stage::Done;
                Some(Action::Kill)
            }
            Some(kill_at) => {
                // Lost earlier than thought: there may be less time than the grace we promised ourselves.
                if view.lost.is_some() {
                    let left = view.remaining.unwrap_or(self.grace);
                    self.stage = Stage::Told { kill_at: Some(kill_at.min(view.held + left)) };
                }
                None
            }
            None if self.at_most.is_some_and(|limit| view.held >= limit) => {
                self.stage = Stage::Done;
                Some(Action::GiveBack)
            }
            None => None,
        }
    }

    /// What is left of the hold, and why it would end. `None`: it has no end.
    fn left(&self, view: &View) -> Option<(Duration, LossReason)> {
        let lease = view.remaining.map(|left| (left, LossReason::Expired));
        let limit = self.at_most.map(|limit| (limit.saturating_sub(view.held), LossReason::HoldLimit));
        let lost = view.lost.clone().map(|reason| {
            // Nothing is known about what is left of a hold without a lease: the child gets the grace.
            (view.remaining.unwrap_or(self.grace), reason)
        });
        lost.or_else(|| lease.into_iter().chain(limit).min_by_key(|(left, _)| *left))
    }

    /// How long before the end the child must be dead: a killed process takes a moment to go.
    fn margin(&self) -> Duration {
        (self.grace / 4).min(Duration::from_millis(250))
    }

    /// How long nothing is to be done if nothing happens.
    pub(crate) fn pause(&self, view: &View) -> Option<Duration> {
        match self.stage {
            Stage::Holding => self.left(view).map(|(left, _)| left.saturating_sub(self.grace)),
            Stage::Told { kill_at: Some(kill_at) } => Some(kill_at.saturating_sub(view.held)),
            Stage::Told { kill_at: None } => self.at_most.map(|limit| limit.saturating_sub(view.held)),
            Stage::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn lease(held: u64, remaining: u64) -> View {
        View { held: ms(held), remaining: Some(ms(remaining)), lost: None }
    }

    fn lost(held: u64, remaining: Option<u64>) -> View {
        View { held: ms(held), remaining: remaining.map(ms), lost: Some(LossReason::Gone) }
    }

    fn tell(signal: Signal, reason: LossReason) -> Option<Action> {
        Some(Action::Tell { signal: Some(signal), reason })
    }

    #[test]
    fn actions_are_read() {
        assert_eq!("kill".parse(), Ok(OnLost::Kill));
        assert_eq!("ignore".parse(), Ok(OnLost::Ignore));
        for text in ["signal:HUP", "signal:SIGHUP", "signal:hup", "signal:1"] {
            assert_eq!(text.parse(), Ok(OnLost::Signal(Signal::SIGHUP)), "{text}");
        }
        for text in ["", "signal:", "signal:0", "signal:99", "signal:WEEP", "HUP"] {
            assert!(text.parse::<OnLost>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_grace_fits_into_the_hold() {
        assert_eq!(grace(None, None, None), GRACE);
        assert_eq!(grace(None, Some(ms(60_000)), None), ms(10_000));
        assert_eq!(grace(None, None, Some(ms(600_000))), GRACE);
        assert_eq!(grace(None, Some(ms(30_000)), Some(ms(600))), ms(100));
        assert_eq!(grace(Some(ms(7)), Some(ms(30_000)), None), ms(7));
    }

    #[test]
    fn a_lease_that_is_renewed_disturbs_nobody() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert_eq!(dog.step(&lease(100, 29_900)), None);
        assert_eq!(dog.pause(&lease(100, 29_900)), Some(ms(24_900)));
        assert_eq!(dog.step(&lease(20_000, 30_000)), None);
    }

    #[test]
    fn term_comes_with_the_grace_and_kill_before_the_end() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert_eq!(dog.step(&lease(25_000, 5_000)), tell(Signal::SIGTERM, LossReason::Expired));
        assert_eq!(dog.step(&lease(25_100, 4_900)), None);
        assert_eq!(dog.pause(&lease(25_100, 4_900)), Some(ms(4_650)));
        assert_eq!(dog.step(&lease(29_749, 251)), None);
        assert_eq!(dog.step(&lease(29_750, 250)), Some(Action::Kill));
        assert_eq!(dog.step(&lease(29_750, 250)), None);
    }

    #[test]
    fn a_late_renewal_does_not_call_off_the_kill() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(400), None);
        assert!(dog.step(&lease(600, 400)).is_some());
        assert_eq!(dog.step(&lease(900, 1_000)), Some(Action::Kill));
    }

    #[test]
    fn a_told_loss_kills_after_the_grace_or_what_is_left() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert_eq!(dog.step(&lost(100, None)), tell(Signal::SIGTERM, LossReason::Gone));
        assert_eq!(dog.pause(&lost(100, None)), Some(ms(5_000)));
        assert_eq!(dog.step(&lost(5_100, None)), Some(Action::Kill));

        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert!(dog.step(&lost(100, Some(2_000))).is_some());
        assert_eq!(dog.pause(&lost(100, Some(2_000))), Some(ms(2_000)));

        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert!(dog.step(&lost(100, Some(0))).is_some());
        assert_eq!(dog.step(&lost(100, Some(0))), Some(Action::Kill));
    }

    #[test]
    fn a_loss_during_the_grace_shortens_it() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(5_000), None);
        assert!(dog.step(&lease(25_000, 5_000)).is_some());
        assert_eq!(dog.step(&lost(26_000, Some(1_000))), None);
        assert_eq!(dog.pause(&lost(26_000, Some(1_000))), Some(ms(1_000)));
        assert_eq!(dog.step(&lost(27_000, None)), Some(Action::Kill));
    }

    #[test]
    fn the_limit_ends_a_hold_without_a_lease() {
        let mut dog = Watchdog::new(OnLost::Kill, ms(100), Some(ms(600)));
        let at = |held| View { held: ms(held), ..View::default() };
        assert_eq!(dog.step(&at(499)), None);
        assert_eq!(dog.pause(&at(499)), Some(ms(1)));
        assert_eq!(dog.step(&at(500)), tell(Signal::SIGTERM, LossReason::HoldLimit));
        assert_eq!(dog.step(&at(574)), None);
        assert_eq!(dog.step(&at(575)), Some(Action::Kill));
    }

    #[test]
    fn who_is_not_killed_goes_on_without_the_lock() {
        let at = |held| View { held: ms(held), ..View::default() };
        let mut dog = Watchdog::new(OnLost::Signal(Signal::SIGUSR1), ms(100), Some(ms(600)));
        assert_eq!(dog.step(&at(500)), tell(Signal::SIGUSR1, LossReason::HoldLimit));
        assert_eq!(dog.step(&at(599)), None);
        assert_eq!(dog.step(&at(600)), Some(Action::GiveBack));
        assert_eq!(dog.step(&at(700)), None);

        let mut dog = Watchdog::new(OnLost::Ignore, ms(100), None);
        assert_eq!(dog.step(&lost(5, None)), Some(Action::Tell { signal: None, reason: LossReason::Gone }));
        assert_eq!((dog.step(&lost(9_000, None)), dog.pause(&lost(9_000, None))), (None, None));
    }
}
