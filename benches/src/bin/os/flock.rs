//! The same with a bare `flock` that blocks: from the kill of its holder to the return of the call.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use pilotman_bench::{Failure, figure, machine_time, milliseconds, quantile};
use rustix::fs::{FlockOperation, flock};

const CRASHES: u64 = 51;

/// Measures it; the median is returned too.
pub(crate) fn measure(path: &Path) -> Result<f64, Failure> {
    let crashes = (0..CRASHES).map(|round| after_crash(path, round)).collect::<Result<Vec<_>, _>>()?;
    let median = quantile(&crashes, 0.5);
    figure("wake-crash-flock-p50", median, "ms");
    Ok(median)
}

fn after_crash(path: &Path, round: u64) -> Result<f64, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut holder = command.arg("flock").arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().ok_or("the holder has no output")?).read_line(&mut line)?;
    let killer = thread::spawn(move || -> Result<Duration, Failure> {
        thread::sleep(Duration::from_micros(10_000 + round * 7_919 % 20_000));
        let killed = machine_time();
        holder.kill()?;
        holder.wait()?;
        Ok(killed)
    });
    let file = File::create(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let acquired = machine_time();
    let killed = killer.join().map_err(|_| "the killing thread panicked")??;
    Ok(milliseconds(acquired.saturating_sub(killed)))
}

/// The other process.
pub(crate) fn hold(path: &str) -> Result<(), Failure> {
    let file = File::create(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    println!("held");
    loop {
        thread::park();
    }
}
