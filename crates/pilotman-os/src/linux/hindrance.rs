//! Who was in our way when we wanted to change a part of the table, and since when.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::Error;

use super::latch::stuck_by;
use crate::sync::lock;

/// After so long it is no matter of a busy machine any more: somebody was stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Who was not met again for so long is met for the first time.
const FORGET: Duration = Duration::from_secs(1);

/// For each chain of entries. An attempt looks and is soon over, so that time-outs are kept; this remembers between them.
#[derive(Default)]
pub(crate) struct Hindrances {
    known: Mutex<HashMap<usize, Hindrance>>,
    /// Whether there are any, for those who meet none.
    any: AtomicBool,
}

struct Hindrance {
    thread: u32,
    first: Instant,
    last: Instant,
}

impl Hindrances {
    /// Notes an error that was met at a chain. Says whether it is that somebody was in the way, and not for too long.
    pub(super) fn is_new(&self, bucket: usize, error: &Error) -> bool {
        stuck_by(error).is_some_and(|thread| self.met(bucket, thread, Instant::now()))
    }

    fn met(&self, bucket: usize, thread: u32, now: Instant) -> bool {
        let mut known = lock(&self.known);
        known.retain(|_, hindrance| now.duration_since(hindrance.last) < FORGET);
        let hindrance = known.entry(bucket).or_insert(Hindrance { thread, first: now, last: now });
        if hindrance.thread != thread {
            *hindrance = Hindrance { thread, first: now, last: now };
        }
        hindrance.last = now;
        self.any.store(true, Ordering::Relaxed);
        now.duration_since(hindrance.first) < PATIENCE
    }

    /// Nobody is in the way at a chain.
    pub(super) fn passed(&self, bucket: usize) {
        if self.any.load(Ordering::Relaxed) {
            let mut known = lock(&self.known);
            known.remove(&bucket);
            self.any.store(!known.is_empty(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_thread_that_is_always_there_is_in_the_way_for_too_long() {
        let (start, step) = (Instant::now(), FORGET / 2);
        let hindrances = Hindrances::default();
        let met = |bucket, thread, steps| hindrances.met(bucket, thread, start + step * steps);
        assert!((0..4).all(|steps| met(7, 1, steps)) && !met(7, 1, 4) && !met(7, 1, 5));
        assert!(met(8, 1, 5), "another chain is another matter");
        assert!(met(7, 2, 5), "so is another thread");
        assert!((6..9).all(|steps| met(7, 2, steps)));
        hindrances.passed(7);
        assert!(met(7, 2, 9), "it was not there all the time");
        assert!(met(7, 2, 12), "nor was anybody who looked");
        for bucket in [7, 8] {
            hindrances.passed(bucket);
        }
        assert!(!hindrances.any.load(Ordering::Relaxed));
    }
}
