//! A clock, a runtime and a backend that do what they are told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pilotman_conformance::faults::{Faults, Faulty, Operation};
use pilotman_core::clock::{Clock, ManualClock, Time};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{Error, Guard, Locks, Primitive, Waiting};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) locks: Locks,
    pub(crate) faults: Faults,
}

pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// 1 % of the lease and 2 ms.
pub(crate) const DRIFT: Duration = Duration::from_millis(302);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLI: Duration = Duration::from_millis(1);

pub(crate) fn world() -> World {
    world_of(Waiting::Queue)
}

pub(crate) fn world_of(waiting: Waiting) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = ManualClock::new();
    let backend = Faulty::new(MemoryBackend::new()).waiting(waiting);
    let faults = backend.faults();
    let locks = Locks::builder(backend).clock(clock.clone()).runtime(runtime.handle().clone()).build();
    World { runtime, clock, locks, faults }
}

impl World {
    /// Runs what can run without time going by.
    pub(crate) fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets time go by, from alarm to alarm, and runs what each one wakes.
    pub(crate) fn advance(&self, by: Duration) {
        let end = self.clock.now().after(by);
        self.settle();
        while let Some(alarm) = self.clock.next_alarm().filter(|alarm| *alarm <= end) {
            self.clock.advance(alarm.since(self.clock.now()));
            self.settle();
        }
        self.clock.advance(end.since(self.clock.now()));
        self.settle();
    }

    pub(crate) fn advance_to(&self, since_start: Duration) {
        self.advance(Time::ZERO.after(since_start).since(self.clock.now()));
        assert_eq!(self.clock.now(), Time::ZERO.after(since_start), "time went by already");
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let task = self.runtime.spawn(future);
        self.settle();
        task
    }

    pub(crate) fn take(&self, name: &str) -> Guard {
        self.run(self.locks.mutex(name).lease(LEASE).acquire()).unwrap()
    }

    pub(crate) fn holders(&self, name: &str) -> usize {
        self.run(self.locks.inspect(name, Primitive::Mutex)).unwrap().holders.len()
    }

    pub(crate) fn calls(&self, operation: Operation) -> usize {
        self.faults.calls(operation)
    }

    /// When calls of an operation were made, in milliseconds.
    pub(crate) fn times(&self, operation: Operation) -> Vec<u64> {
        self.faults.log_of(operation).iter().map(|call| call.at.as_nanos() / 1_000_000).collect()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        self.settle();
        assert_eq!(self.run(self.locks.list()).unwrap(), []);
    }
}

pub(crate) fn outage() -> Error {
    Error::unavailable("refused for a test")
}
