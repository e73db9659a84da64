//! Tells the loss of a lease in time. It runs on the clock's own thread and waits for nothing: no renewal, no runtime
//! and no caller can hold it up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use super::Hold;
use crate::backend::AttemptId;
use crate::clock::{Clock, Time};
use crate::sync::lock;

/// See the [module](self).
pub(super) struct Deadlines {
    clock: Arc<dyn Clock>,
    watched: Mutex<Watched>,
}

struct Watched {
    /// By the time at which to look at a hold, which is its deadline when it was last looked at.
    holds: BTreeMap<(Time, AttemptId), Weak<Hold>>,
    times: std::collections::HashMap<AttemptId, Time>,
    /// The earliest alarm that is set.
    armed: Time,
}

impl Deadlines {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let watched = Watched { holds: BTreeMap::new(), times: Default::default(), armed: Time::NEVER };
        Arc::new(Self { clock, watched: Mutex::new(watched) })
    }

    pub(super) fn watch(self: &Arc<Self>, hold: &Arc<Hold>, deadline: Time) {
        let arm = {
            let mut watched = lock(&self.watched);
            watched.holds.insert((deadline, hold.id()), Arc::downgrade(hold));
            watched.times.insert(hold.id(), deadline);
            watched.rearm()
        };
        self.arm(arm);
    }

    pub(super) fn forget(&self, hold: &Hold) {
        let mut watched = lock(&self.watched);
        if let Some(at) = watched.times.remove(&hold.id()) {
            watched.holds.remove(&(at, hold.id()));
        }
    }

    fn arm(self: &Arc<Self>, at: Option<Time>) {
        if let Some(at) = at {
            self.clock.arm(at, Waker::from(self.clone()));
        }
    }
}

impl Watched {
    /// When to set an alarm, if none is set that is early enough.
    fn rearm(&mut self) -> Option<Time> {
        let ((first, _), _) = self.holds.first_key_value()?;
        (*first < self.armed).then(|| {
            self.armed = *first;
            *first
        })
    }
}

impl Wake for Deadlines {
    fn wake(self: Arc<Self>) {
        let mut due = Vec::new();
        let arm = {
            let now = self.clock.now();
            let mut watched = lock(&self.watched);
            if now < watched.armed && watched.armed != Time::NEVER {
                // An alarm that was overtaken by an earlier one. To set another would be to have ever more of them.
                return;
            }
            watched.armed = Time::NEVER;
            while let Some((&(at, id), _)) = watched.holds.first_key_value() {
                if at > now {
                    break;
                }
                let Some((_, weak)) = watched.holds.pop_first() else { break };
                watched.times.remove(&id);
                let Some(hold) = weak.upgrade() else { continue };
                let deadline = hold.deadline();
                if deadline > now {
                    watched.holds.insert((deadline, id), weak);
                    watched.times.insert(id, deadline);
                } else {
                    due.push(hold);
                }
            }
            watched.rearm()
        };
        self.arm(arm);
        for hold in due {
            hold.expire_if_due();
        }
    }
}
