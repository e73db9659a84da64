//! Times side by side.

use std::time::Instant;

use crate::{figure, median};

/// Our time for a pair beside that of the bare commands, round by round.
#[derive(Debug, Default)]
pub struct Sides {
    ours: Vec<f64>,
    ratios: Vec<f64>,
    differences: Vec<f64>,
}

impl Sides {
    /// One round, in microseconds.
    pub fn add(&mut self, ours: f64, bare: f64) {
        self.ours.push(ours);
        self.ratios.push(ours / bare);
        self.differences.push(ours - bare);
    }

    /// Prints the medians.
    pub fn report(&self, what: &str) {
        figure(what, median(&self.ratios), "×");
        figure(&format!("{what}-over"), median(&self.differences), "µs");
        figure(&format!("{what}-pilotman"), median(&self.ours), "µs");
    }
}

/// The time since `start` for each of so many, in microseconds.
pub fn micros(start: Instant, pairs: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(pairs)
}
