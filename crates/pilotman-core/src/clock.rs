//! Time, injected: every deadline of the engine is read from and waited for on a [`Clock`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

mod system;
pub use system::SystemClock;

/// A point in time of one [`Clock`], in nanoseconds since that clock's own start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The clock's start.
    pub const ZERO: Self = Self(0);
    /// Later than every point in time that is ever reached; as a deadline: none.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point, `by` later; [`Time::NEVER`] if that can't be expressed.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This point, `by` earlier; the clock's start if that is later, and [`Time::NEVER`] if it is that.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        if self == Self::NEVER {
            return self;
        }
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A request to be woken, as returned by [`Clock::arm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// When it rings.
    pub at: Time,
    /// Tells apart alarms of the same time.
    pub id: u64,
}

/// A monotonic clock with alarms. It must run on while the machine is suspended: leases do.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. Never earlier than a time that it returned before.
    fn now(&self) -> Time;

    /// Has `waker` woken once `at` has come, on a thread that does nothing else.
    fn arm(&self, at: Time, waker: Waker) -> Alarm;

    /// Takes back an alarm; a no-op if it has rung.
    fn disarm(&self, alarm: Alarm);
}

/// The alarms of a clock, earliest first.
#[derive(Debug, Default)]
struct Alarms {
    wakers: BTreeMap<Alarm, Waker>,
    next: u64,
}

impl Alarms {
    fn add(&mut self, at: Time, waker: Waker) -> Alarm {
        self.next += 1;
        let alarm = Alarm { at, id: self.next };
        self.wakers.insert(alarm, waker);
        alarm
    }

    fn earliest(&self) -> Option<Time> {
        self.wakers.first_key_value().map(|(alarm, _)| alarm.at)
    }

    fn take_due(&mut self, now: Time) -> Vec<Waker> {
        let later = self.wakers.split_off(&Alarm { at: Time(now.0.saturating_add(1)), id: 0 });
        std::mem::replace(&mut self.wakers, later).into_values().collect()
    }
}

/// A clock that moves only when told to, for tests under simulated time.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: Mutex<(u64, Alarms)>,
}

impl ManualClock {
    /// A clock that stands at its start.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Moves the clock on and rings every alarm on the way, in order.
    pub fn advance(&self, by: Duration) {
        let target = self.now().after(by);
        loop {
            let due = {
                let mut state = self.state.lock().unwrap();
                let step = match state.1.earliest() {
                    Some(at) if at <= target => at,
                    _ => {
                        state.0 = target.0;
                        return;
                    }
                };
                state.0 = state.0.max(step.0);
                state.1.take_due(step)
            };
            due.into_iter().for_each(Waker::wake);
        }
    }

    /// When the next alarm rings.
    pub fn next_alarm(&self) -> Option<Time> {
        self.state.lock().unwrap().1.earliest()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.state.lock().unwrap().0)
    }

    fn arm(&self, at: Time, waker: Waker) -> Alarm {
        let mut state = self.state.lock().unwrap();
        let rings_now = at.0 <= state.0;
        let alarm = state.1.add(at, waker.clone());
        drop(state);
        if rings_now {
            waker.wake();
        }
        alarm
    }

    fn disarm(&self, alarm: Alarm) {
        let waker = self.state.lock().unwrap().1.wakers.remove(&alarm);
        drop(waker);
    }
}

/// A future that completes once a clock has reached a point in time. Dropping it takes the alarm back.
pub struct Sleep {
    clock: Arc<dyn Clock>,
    at: Time,
    alarm: Option<(Alarm, Waker)>,
}

impl Sleep {
    /// Waits on `clock` until `at`.
    pub fn until(clock: Arc<dyn Clock>, at: Time) -> Self {
        Self { clock, at, alarm: None }
    }

    /// Waits on `clock` for `duration` from now.
    pub fn new(clock: Arc<dyn Clock>, duration: Duration) -> Self {
        let at = clock.now().after(duration);
        Self::until(clock, at)
    }

    /// When it ends.
    pub fn deadline(&self) -> Time {
        self.at
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at == Time::NEVER {
            return Poll::Pending;
        }
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        let armed = matches!(&self.alarm, Some((_, waker)) if waker.will_wake(cx.waker()));
        if !armed {
            if let Some((alarm, _)) = self.alarm.take() {
                self.clock.disarm(alarm);
            }
            let alarm = self.clock.arm(self.at, cx.waker().clone());
            self.alarm = Some((alarm, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((alarm, _)) = self.alarm.take() {
            self.clock.disarm(alarm);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_rings_in_order_and_forgets_dropped_sleeps() {
        let clock = ManualClock::new();
        let mut sleep = Box::pin(Sleep::new(clock.clone(), Duration::from_secs(2)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next_alarm(), Some(Time::ZERO.after(Duration::from_secs(2))));
        clock.advance(Duration::from_millis(1999));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_millis(1));
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
        let mut other = Box::pin(Sleep::new(clock.clone(), Duration::from_secs(2)));
        assert!(other.as_mut().poll(&mut cx).is_pending());
        drop(other);
        assert_eq!(clock.next_alarm(), None);
    }

    #[test]
    fn the_system_clock_wakes() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let start = clock.now();
        pollster::block_on(Sleep::new(clock.clone(), Duration::from_millis(20)));
        assert!(clock.now().since(start) >= Duration::from_millis(20));
    }

    #[test]
    fn an_earlier_alarm_overtakes_a_later_one() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let late = clock.arm(clock.now().after(Duration::from_secs(3600)), Waker::noop().clone());
        let start = clock.now();
        pollster::block_on(Sleep::new(clock.clone(), Duration::from_millis(5)));
        assert!(clock.now().since(start) < Duration::from_secs(60));
        clock.disarm(late);
    }
}
