//! Processes whose tasks take one lock in turns, and what that comes to.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::history::{Hold, Summary};
use crate::{Failure, figure, machine_time, quantile};

/// Who takes a lock again and again: one task.
pub trait Contender: Send + 'static {
    /// Waits for the lock. Its token, or 0 where there is none.
    fn take(&mut self) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Gives it back.
    fn give_back(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What one process does.
#[derive(Debug, Clone)]
pub struct Work {
    /// With what: a word that only the measuring program understands.
    pub side: String,
    /// Where the servers listen.
    pub ports: Vec<u16>,
    /// How many tasks contend.
    pub tasks: usize,
    /// How long each hold lasts.
    pub hold: Duration,
    /// Each task takes the lock until so much time has passed, or so many times.
    pub time: Duration,
    /// See [`Self::time`].
    pub rounds: usize,
}

impl Work {
    fn arguments(&self) -> [String; 6] {
        let (hold, time) = (self.hold.as_micros().to_string(), self.time.as_micros().to_string());
        let ports = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        [self.side.clone(), ports, self.tasks.to_string(), hold, time, self.rounds.to_string()]
    }

    fn parse(arguments: &[&str]) -> Result<Self, Failure> {
        let [side, ports, tasks, hold, time, rounds] = arguments else {
            return Err("a worker takes six arguments".into());
        };
        let micros = |text: &str| text.parse().map(Duration::from_micros);
        Ok(Self {
            side: (*side).to_owned(),
            ports: ports.split(',').map(str::parse).collect::<Result<_, _>>()?,
            tasks: tasks.parse()?,
            hold: micros(hold)?,
            time: micros(time)?,
            rounds: rounds.parse()?,
        })
    }
}

/// The process, seen from the one that started it.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program again, with `worker` as its first argument, and waits until it has its connections.
    ///
    /// # Errors
    ///
    /// When it doesn't come so far.
    pub fn start(work: &Work) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").args(work.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().ok_or("the worker has no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("the worker has no output")?);
        let mut worker = Self { process, input, output };
        let mut line = String::new();
        worker.output.read_line(&mut line)?;
        if line != "ready\n" {
            return Err(format!("the worker said {line:?} instead of \"ready\"").into());
        }
        Ok(worker)
    }

    /// Lets it begin.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn go(&mut self) -> io::Result<()> {
        writeln!(self.input, "go")
    }

    /// Its holds, when it has ended.
    ///
    /// # Errors
    ///
    /// When it failed.
    pub fn holds(mut self, process: usize) -> Result<Vec<Hold>, Failure> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(format!("a worker failed: {status}").into());
        }
        text.lines().map(|line| Hold::parse(process, line)).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended, unless something failed; then its end is all there is left to see to.
        let ended = self.process.try_wait().and_then(|status| match status {
            Some(_) => Ok(()),
            None => self.process.kill().and_then(|()| self.process.wait()).map(drop),
        });
        if let Err(error) = ended {
            eprintln!("a worker was left running: {error}");
        }
    }
}

/// The process itself: its arguments are those after `worker`.
///
/// # Errors
///
/// Whatever `connect` and the contenders return.
pub fn run<C: Contender, F: Future<Output = Result<Vec<C>, Failure>>>(
    arguments: &[&str],
    connect: impl FnOnce(Work) -> F,
) -> Result<(), Failure> {
    let work = Work::parse(arguments)?;
    let holds = Runtime::new()?.block_on(contend(work.clone(), connect(work)))?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    for hold in holds {
        writeln!(output, "{}", hold.line())?;
    }
    output.flush()?;
    Ok(())
}

async fn contend<C: Contender>(
    work: Work,
    contenders: impl Future<Output = Result<Vec<C>, Failure>>,
) -> Result<Vec<Hold>, Failure> {
    let contenders = contenders.await?;
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if line != "go\n" {
        return Err("nobody says when to start any more".into());
    }
    let mut tasks: JoinSet<_> = contenders.into_iter().map(|contender| take_turns(contender, work.clone())).collect();
    let mut holds = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        holds.extend(ended??);
    }
    Ok(holds)
}

async fn take_turns(mut contender: impl Contender, work: Work) -> Result<Vec<Hold>, Failure> {
    let start = Instant::now();
    let mut holds = Vec::new();
    while holds.len() < work.rounds && start.elapsed() < work.time {
        let asked = machine_time();
        let token = contender.take().await?;
        let acquired = machine_time();
        if !work.hold.is_zero() {
            tokio::time::sleep(work.hold).await;
        }
        let released = machine_time();
        contender.give_back().await?;
        holds.push(Hold { process: 0, asked, acquired, released, token });
    }
    Ok(holds)
}

/// What several runs of one side come to.
#[derive(Debug, Default)]
pub struct Turns {
    all: Summary,
    /// Of all servers together, divided by their number.
    requests: f64,
    holds: usize,
    time: Duration,
    unfairness: Vec<f64>,
}

impl Turns {
    /// Lets so many processes contend. `requests` tells how many requests all servers together have had so far, or zero.
    ///
    /// # Errors
    ///
    /// When a process fails, or what they tell is not of a lock.
    pub fn take(
        &mut self,
        processes: usize,
        work: &Work,
        requests: impl Fn() -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        let mut workers: Vec<Worker> = (0..processes).map(|_| Worker::start(work)).collect::<Result<_, _>>()?;
        let before = requests()?;
        for worker in &mut workers {
            worker.go()?;
        }
        let mut holds = Vec::new();
        for (process, worker) in workers.into_iter().enumerate() {
            holds.extend(worker.holds(process)?);
        }
        self.requests += (requests()? - before) as f64 / work.ports.len() as f64;
        self.holds += holds.len();
        self.time += work.time;
        let summary = Summary::of(holds, processes * work.tasks)?;
        self.unfairness.push(summary.longest_wait() / summary.mean_wait());
        self.all.append(summary);
        Ok(())
    }

    /// From a release to the acquire of another process, in milliseconds: the value below which this share of them lies.
    pub fn elsewhere(&self, share: f64) -> f64 {
        quantile(&self.all.elsewhere, share)
    }

    /// Requests to each server for each hold.
    pub fn requests_each(&self) -> f64 {
        self.requests / self.holds as f64
    }

    /// The longest wait by the mean wait: of the turns the one in the middle, for the longest of all waits is the
    /// machine's doing.
    pub fn unfairness(&self) -> f64 {
        quantile(&self.unfairness, 0.5)
    }

    /// Prints what is not compared with anything.
    pub fn report(&self, what: &str) {
        let all = &self.all;
        figure(&format!("{what}-elsewhere-p50"), self.elsewhere(0.5), "ms");
        figure(&format!("{what}-wait-mean"), all.mean_wait(), "ms");
        figure(&format!("{what}-wait-p99"), quantile(&all.waits, 0.99), "ms");
        figure(&format!("{what}-each"), self.time.as_secs_f64() * 1e3 / self.holds as f64, "ms");
        if !all.here.is_empty() {
            figure(&format!("{what}-here-p50"), quantile(&all.here, 0.5), "ms");
        }
        let elsewhere = all.elsewhere.len() as f64 / (all.elsewhere.len() + all.here.len()) as f64;
        figure(&format!("{what}-elsewhere"), elsewhere * 100.0, "%");
    }
}

/// Prints what all rows say of a contended lock: ours against another.
pub fn compare(what: &str, ours: &Turns, other: &Turns, name: &str) {
    figure(&format!("{what}-p50"), ours.elsewhere(0.5) / other.elsewhere(0.5), "×");
    figure(&format!("{what}-p99"), ours.elsewhere(0.99), "ms");
    figure(&format!("{what}-longest-wait"), ours.unfairness(), "× mean");
    ours.report(&format!("{what}-pilotman"));
    other.report(&format!("{what}-{name}"));
    figure(&format!("{what}-{name}-p99"), other.elsewhere(0.99), "ms");
    figure(&format!("{what}-{name}-longest-wait"), other.unfairness(), "× mean");
}
