//! What is counted and measured with the feature `metrics`.
#![cfg(feature = "metrics")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use pilotman_core::{Locks, Primitive};

/// Remembers which figures were recorded, with their labels.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

struct Cell(Seen, String);

impl Seen {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: BTreeSet<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let labels: Vec<_> = labels.into_iter().collect();
        Arc::new(Cell(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl Cell {
    fn note(&self) {
        self.0.0.lock().unwrap().insert(self.1.clone());
    }
}

impl CounterFn for Cell {
    fn increment(&self, _: u64) {
        self.note();
    }

    fn absolute(&self, _: u64) {
        self.note();
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        assert!(value.is_finite() && value >= 0.0, "{} is {value}", self.1);
        self.note();
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

#[tokio::test]
async fn every_figure_is_recorded_under_its_name() {
    let seen = Seen::default();
    metrics::set_global_recorder(seen.clone()).map_err(|_| "a recorder is set").unwrap();
    let locks = Locks::memory();
    let mutex = locks.mutex("a").lease(Duration::from_millis(60));
    let guard = mutex.acquire().await.unwrap();
    assert!(mutex.try_acquire_for(Duration::from_millis(1)).await.unwrap().is_none());
    let waiting = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(guard);
    let guard = waiting.await.unwrap();
    locks.force_release("a", Primitive::Mutex).await.unwrap();
    guard.lost().await;
    drop(guard);
    let seen = seen.0.lock().unwrap();
    for figure in [
        "pilotman_attempts_total{backend=memory,outcome=acquired,primitive=mutex}",
        "pilotman_wait_seconds{backend=memory,primitive=mutex}",
        "pilotman_hold_seconds{backend=memory,primitive=mutex}",
        "pilotman_hand_off_seconds{backend=memory,primitive=mutex}",
        "pilotman_renewals_total{backend=memory,outcome=renewed,primitive=mutex}",
        "pilotman_renewal_margin_seconds{backend=memory,primitive=mutex}",
        "pilotman_losses_total{backend=memory,cause=gone,primitive=mutex}",
        "pilotman_queue_length{backend=memory,primitive=mutex}",
    ] {
        assert!(seen.contains(figure), "{figure} is missing in {seen:#?}");
    }
}
