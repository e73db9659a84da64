//! From the start of a release, or of a kill, in one process to the return of the waiting acquire in another.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use pilotman::blocking::{Locks, Mutex};
use pilotman_bench::{Failure, figure, give_back_blocking, machine_time, milliseconds, quantile};

const RELEASES: u64 = 151;
const CRASHES: u64 = 51;
const NAME: &str = "wake";

/// Measures both on the backend of a URL; returns the median after a crash.
pub(crate) fn measure(url: &str) -> Result<f64, Failure> {
    let mutex = Locks::connect(url)?.mutex(NAME);

    let mut holder = Holder::start(url)?;
    let releases: Vec<f64> =
        (0..RELEASES).map(|round| after_release(&mutex, &mut holder, round)).collect::<Result<_, _>>()?;
    drop(holder);
    report("release", &releases);

    let crashes: Vec<f64> = (0..CRASHES).map(|round| after_crash(&mutex, url, round)).collect::<Result<_, _>>()?;
    report("crash", &crashes);
    Ok(quantile(&crashes, 0.5))
}

fn report(what: &str, waits: &[f64]) {
    figure(&format!("wake-{what}-p50"), quantile(waits, 0.5), "ms");
    figure(&format!("wake-{what}-p90"), quantile(waits, 0.9), "ms");
    figure(&format!("wake-{what}-longest"), quantile(waits, 1.0), "ms");
}

/// How long the holder waits before it gives the lock back: long enough for the waiter to be asleep, and never the
/// same, so that a waiter that polls can't be in step with it.
fn pause(round: u64) -> Duration {
    Duration::from_micros(10_000 + round * 7_919 % 20_000)
}

fn after_release(mutex: &Mutex, holder: &mut Holder, round: u64) -> Result<f64, Failure> {
    holder.tell(&format!("hold {}", pause(round).as_micros()))?;
    holder.expect("held")?;
    let guard = mutex.acquire()?;
    let acquired = machine_time();
    let released = Duration::from_nanos(holder.answer()?.parse()?);
    give_back_blocking(guard)?;
    Ok(milliseconds(acquired.saturating_sub(released)))
}

fn after_crash(mutex: &Mutex, url: &str, round: u64) -> Result<f64, Failure> {
    let mut holder = Holder::start(url)?;
    holder.tell("hold for ever")?;
    holder.expect("held")?;
    let killer = thread::spawn(move || -> Result<Duration, Failure> {
        thread::sleep(pause(round));
        let killed = machine_time();
        holder.process.kill()?;
        Ok(killed)
    });
    let guard = mutex.acquire()?;
    let acquired = machine_time();
    let killed = killer.join().map_err(|_| "the killing thread panicked")??;
    give_back_blocking(guard)?;
    Ok(milliseconds(acquired.saturating_sub(killed)))
}

/// This program again, as the process that holds the lock.
struct Holder {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(url: &str) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.args(["hold", url]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or("the holder has no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("the holder has no output")?);
        Ok(Self { process, input, output })
    }

    fn tell(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.input, "{line}")?;
        Ok(())
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        let answer = self.answer()?;
        if answer == word { Ok(()) } else { Err(format!("the holder said {answer:?} instead of {word:?}").into()) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have been killed already; then there is only the exit status to collect.
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("the holding process was left running: {error}");
        }
    }
}

/// The other process: takes the lock when told, and gives it back after a pause.
pub(crate) fn hold(url: &str) -> Result<(), Failure> {
    let mutex = Locks::connect(url)?.mutex(NAME);
    for line in std::io::stdin().lines() {
        let line = line?;
        let guard = mutex.acquire()?;
        println!("held");
        let Some(pause) = line.strip_prefix("hold ").and_then(|word| word.parse().ok()) else {
            loop {
                thread::park();
            }
        };
        thread::sleep(Duration::from_micros(pause));
        let start = machine_time();
        give_back_blocking(guard)?;
        println!("{}", start.as_nanos());
    }
    Ok(())
}
