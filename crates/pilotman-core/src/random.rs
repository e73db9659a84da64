//! Randomness, injected: owner ids must be unguessable, jitter must be repeatable in a simulation.

use std::fmt;
use std::sync::Mutex;

/// A source of randomness.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Sixty-four random bits.
    fn next(&self) -> u64;
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom(());

impl SystemRandom {
    /// The generator; all values are alike.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        getrandom::u64().expect("the operating system gives no random numbers")
    }
}

/// A generator that repeats itself for the same seed (SplitMix64). For tests only: its output can be guessed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
