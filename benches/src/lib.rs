//! What the measuring programs share: figures, clocks, printing.

#![forbid(unsafe_code)]

use std::time::Duration;

pub mod contend;
pub mod history;
mod sides;

pub use sides::{Sides, micros};

/// Why a measuring program stopped.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Prints one figure, as `cargo xtask bench` reads it.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("{}", serde_json::json!({ "name": name, "value": value, "unit": unit }));
}

/// Gives a lock back, which must have been held to this moment.
///
/// # Errors
///
/// When it had been lost: then the figures mean nothing.
pub fn give_back_blocking(guard: pilotman::blocking::Guard) -> Result<(), Failure> {
    returned(guard.release()?)
}

/// Gives a lock back, which must have been held to this moment.
///
/// # Errors
///
/// When it had been lost: then the figures mean nothing.
pub async fn give_back(guard: pilotman::Guard) -> Result<(), Failure> {
    returned(guard.release().await?)
}

fn returned(release: pilotman::Release) -> Result<(), Failure> {
    match release {
        pilotman::Release::Released => Ok(()),
        pilotman::Release::AlreadyLost(reason) => Err(format!("the lock was lost: {reason:?}").into()),
    }
}

/// The value below which `share` (0 to 1) of the values lie.
///
/// # Panics
///
/// If there are no values.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// The value in the middle.
///
/// # Panics
///
/// If there are no values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The time since the machine started, the same for all its processes.
#[cfg(unix)]
pub fn machine_time() -> Duration {
    clock(rustix::time::ClockId::Monotonic)
}

/// The processor time that this process has used, with all its threads.
#[cfg(unix)]
pub fn processor_time() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

/// The processor time that the calling thread has used.
#[cfg(unix)]
pub fn thread_time() -> Duration {
    clock(rustix::time::ClockId::ThreadCPUTime)
}

#[cfg(unix)]
fn clock(id: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    // These clocks start at zero and only go forward.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!((quantile(&values, 0.0), median(&values), quantile(&values, 1.0)), (1.0, 3.0, 5.0));
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[cfg(unix)]
    #[test]
    fn processor_time_grows_with_work_and_machine_time_with_both() {
        let (machine, processor) = (machine_time(), processor_time());
        let mut sum = 0_u64;
        for i in 0..1_000_000_u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        assert!(processor_time() > processor);
        assert!(machine_time() > machine);
    }
}
