//! The machine's clock: one that counts suspended time, and one thread that rings all alarms of the process.

use std::sync::Mutex;
use std::task::Waker;

use super::{Alarm, Alarms, Clock, Time};
use crate::sync::{lock, wake_all};

/// The clock of the machine.
///
/// On Linux it is `CLOCK_BOOTTIME`, with a timer on that same clock: both run on while the machine is suspended, as
/// the server's clock does. Elsewhere it is [`std::time::Instant`], which may stand still during a suspend.
///
/// Alarms are rung by one thread per process, which starts with the first alarm and sleeps in between.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock(());

impl SystemClock {
    /// The clock; all values are alike.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        platform::now()
    }

    fn arm(&self, at: Time, waker: Waker) -> Alarm {
        let ringer = Ringer::get();
        let mut set = lock(&ringer.set);
        let alarm = set.alarms.add(at, waker);
        ringer.ring_by(&mut set, at);
        alarm
    }

    fn disarm(&self, alarm: Alarm) {
        // The timer stays set: ringing once for nothing is cheaper than setting it anew for every time-out not reached.
        let waker = lock(&Ringer::get().set).alarms.wakers.remove(&alarm);
        // Foreign code: not to be dropped under the mutex.
        drop(waker);
    }
}

/// The thread that rings alarms, and what it shares with those who set them.
struct Ringer {
    set: Mutex<Set>,
    timer: platform::Timer,
}

struct Set {
    alarms: Alarms,
    /// When the timer rings, which may be before the first alarm.
    rings: Time,
}

impl Ringer {
    fn get() -> &'static Self {
        static RINGER: Mutex<Option<(u32, &'static Ringer)>> = Mutex::new(None);
        crate::fork::count();
        let generation = crate::fork::generation();
        let mut current = lock(&RINGER);
        // A forked child has the parent's timer, which it must not touch, but not its thread.
        if let Some((_, ringer)) = current.filter(|(made_in, _)| *made_in == generation) {
            return ringer;
        }
        let ringer: &'static Self = Box::leak(Box::new(Self {
            set: Mutex::new(Set { alarms: Alarms::default(), rings: Time::NEVER }),
            timer: platform::Timer::new(),
        }));
        std::thread::Builder::new()
            .name("pilotman-timer".into())
            .spawn(move || ringer.ring())
            .expect("the operating system refuses a thread for timers");
        *current = Some((generation, ringer));
        ringer
    }

    /// Has the timer ring at `at` at the latest. To set it is a system call, so it is left as it is where it rings earlier.
    fn ring_by(&self, set: &mut Set, at: Time) {
        if at < set.rings {
            set.rings = at;
            self.timer.set(at);
        }
    }

    fn ring(&self) -> ! {
        loop {
            self.timer.wait();
            let due = {
                let mut set = lock(&self.set);
                set.rings = Time::NEVER;
                let due = set.alarms.take_due(platform::now());
                if let Some(next) = set.alarms.earliest() {
                    self.ring_by(&mut set, next);
                }
                due
            };
            // A panic in there must not end the timers of the whole process.
            wake_all(due);
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
        timerfd_settime,
    };

    use super::Time;

    pub(super) fn now() -> Time {
        let now = clock_gettime(ClockId::Boottime);
        Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    /// A kernel timer that one thread waits for and any thread may set.
    pub(super) struct Timer(rustix::fd::OwnedFd);

    impl Timer {
        pub(super) fn new() -> Self {
            let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC);
            Self(timer.expect("the operating system refuses a timer descriptor"))
        }

        pub(super) fn set(&self, at: Time) {
            // Zero would switch the timer off; a time that has passed rings at once.
            let nanos = at.as_nanos().max(1);
            let it_value = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as _ };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let set = timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value });
            debug_assert!(set.is_ok(), "{set:?}");
        }

        pub(super) fn wait(&self) {
            let mut count = [0; 8];
            while let Err(rustix::io::Errno::INTR) = rustix::io::read(&self.0, &mut count) {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::sync::{Condvar, Mutex, OnceLock};
    use std::time::Instant;

    use super::Time;

    pub(super) fn now() -> Time {
        static START: OnceLock<Instant> = OnceLock::new();
        Time::ZERO.after(START.get_or_init(Instant::now).elapsed())
    }

    /// The earliest time that was set, and a way to be told when it changes.
    pub(super) struct Timer(Mutex<Option<Time>>, Condvar);

    impl Timer {
        pub(super) fn new() -> Self {
            Self(Mutex::new(None), Condvar::new())
        }

        pub(super) fn set(&self, at: Time) {
            *self.0.lock().unwrap() = Some(at);
            self.1.notify_one();
        }

        pub(super) fn wait(&self) {
            let mut at = self.0.lock().unwrap();
            loop {
                match *at {
                    None => at = self.1.wait(at).unwrap(),
                    Some(due) if due <= now() => break,
                    Some(due) => at = self.1.wait_timeout(at, due.since(now())).unwrap().0,
                }
            }
            *at = None;
        }
    }
}
