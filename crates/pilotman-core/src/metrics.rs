//! What can be counted and measured, through the [`metrics`](https://docs.rs/metrics) facade; nothing without the
//! feature `metrics`. `metrics.md` lists the names.

use std::time::Duration;

use crate::backend::Spec;
use crate::clock::{Clock, Time};

/// Where a figure belongs.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code))]
pub(crate) struct Labels {
    backend: &'static str,
    primitive: &'static str,
}

/// The start of something that is measured; reads no clock without the feature.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(#[cfg_attr(not(feature = "metrics"), expect(dead_code))] Time);

impl Stopwatch {
    pub(crate) fn start(clock: &dyn Clock) -> Self {
        Self(if cfg!(feature = "metrics") { clock.now() } else { Time::ZERO })
    }
}

#[cfg(feature = "metrics")]
impl Stopwatch {
    fn elapsed(self, clock: &dyn Clock) -> f64 {
        clock.now().since(self.0).as_secs_f64()
    }
}

impl Labels {
    pub(crate) fn new(backend: &'static str, spec: &Spec) -> Self {
        Self { backend, primitive: spec.target.primitive.as_str() }
    }
}

#[cfg(feature = "metrics")]
impl Labels {
    pub(crate) fn attempt(self, outcome: &'static str) {
        let Self { backend, primitive } = self;
        metrics::counter!("pilotman_attempts_total", "backend" => backend, "primitive" => primitive, "outcome" => outcome)
            .increment(1);
    }

    pub(crate) fn waited(self, since: Stopwatch, clock: &dyn Clock) {
        let Self { backend, primitive } = self;
        metrics::histogram!("pilotman_wait_seconds", "backend" => backend, "primitive" => primitive)
            .record(since.elapsed(clock));
    }

    pub(crate) fn held(self, since: Stopwatch, clock: &dyn Clock) {
        let Self { backend, primitive } = self;
        metrics::histogram!("pilotman_hold_seconds", "backend" => backend, "primitive" => primitive)
            .record(since.elapsed(clock));
    }

    pub(crate) fn handed_off(self, since: Stopwatch, clock: &dyn Clock) {
        let Self { backend, primitive } = self;
        metrics::histogram!("pilotman_hand_off_seconds", "backend" => backend, "primitive" => primitive)
            .record(since.elapsed(clock));
    }

    pub(crate) fn renewal(self, outcome: &'static str, margin: Option<Duration>) {
        let Self { backend, primitive } = self;
        metrics::counter!("pilotman_renewals_total", "backend" => backend, "primitive" => primitive, "outcome" => outcome)
            .increment(1);
        if let Some(margin) = margin {
            metrics::histogram!("pilotman_renewal_margin_seconds", "backend" => backend, "primitive" => primitive)
                .record(margin.as_secs_f64());
        }
    }

    pub(crate) fn lost(self, cause: &'static str) {
        let Self { backend, primitive } = self;
        metrics::counter!("pilotman_losses_total", "backend" => backend, "primitive" => primitive, "cause" => cause)
            .increment(1);
    }

    pub(crate) fn queue_length(self, waiters: usize) {
        let Self { backend, primitive } = self;
        metrics::histogram!("pilotman_queue_length", "backend" => backend, "primitive" => primitive)
            .record(waiters as f64);
    }

    pub(crate) fn background_error(self, operation: &'static str) {
        let Self { backend, primitive } = self;
        metrics::counter!("pilotman_background_errors_total", "backend" => backend, "primitive" => primitive, "operation" => operation)
            .increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
#[rustfmt::skip]
mod off {
    use super::*;

    impl Labels {
        pub(crate) fn attempt(self, _outcome: &'static str) {}
        pub(crate) fn waited(self, _since: Stopwatch, _clock: &dyn Clock) {}
        pub(crate) fn held(self, _since: Stopwatch, _clock: &dyn Clock) {}
        pub(crate) fn handed_off(self, _since: Stopwatch, _clock: &dyn Clock) {}
        pub(crate) fn renewal(self, _outcome: &'static str, _margin: Option<Duration>) {}
        pub(crate) fn lost(self, _cause: &'static str) {}
        pub(crate) fn queue_length(self, _waiters: usize) {}
        pub(crate) fn background_error(self, _operation: &'static str) {}
    }
}
