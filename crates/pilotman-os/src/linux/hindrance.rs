//! Who was in our way when we wanted to change a part of the table, and since when.

use std::collections::HashMap;
use std::sync::Mutex;
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
pub(crate) struct Hindrances(Mutex<HashMap<usize, Hindrance>>);

struct Hindrance {
    thread: u32,
    first: Instant,
    last: Instant,
}

impl Hindrances {
    /// Notes an error that was met at a chain. Says whether it is that somebody was in the way, and not for too long.
    pub(super) fn is_new(&self, bucket: usize, error: &Error) -> bool {
        let Some(thread) = stuck_by(error) else { return false };
        let now = Instant::now();
        let mut known = lock(&self.0);
        known.retain(|_, hindrance| now.duration_since(hindrance.last) < FORGET);
        let hindrance = known.entry(bucket).or_insert(Hindrance { thread, first: now, last: now });
        if hindrance.thread != thread {
            *hindrance = Hindrance { thread, first: now, last: now };
        }
        hindrance.last = now;
        now.duration_since(hindrance.first) < PATIENCE
    }
}
