//! A process whose tasks take one lock in turns with those of other processes, and what it tells about it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use pilotman_bench::history::Hold;
use pilotman_bench::{Failure, machine_time};
use pilotman_core::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bare::{self, Queue};
use crate::ours;

/// The lock that all contend for.
pub(crate) const NAME: &str = "contended";
/// The list, with another name so that the keys differ.
pub(crate) const LIST: &str = "list";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The tasks of a process share their connection.
    Pilotman,
    /// Each task is a process's only one, as far as the server and the library can see.
    PilotmanEach,
    /// A bare list.
    List,
}

/// What one process does.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) side: Side,
    /// Where the servers listen. The list is on the first.
    pub(crate) ports: Vec<u16>,
    pub(crate) tasks: usize,
    /// How long each hold lasts.
    pub(crate) hold: Duration,
    /// Each task takes the lock until so much time has passed, or so many times.
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
}

impl Work {
    fn arguments(&self) -> [String; 6] {
        let side = match self.side {
            Side::Pilotman => "pilotman",
            Side::PilotmanEach => "pilotman-each",
            Side::List => "list",
        };
        let (hold, time) = (self.hold.as_micros().to_string(), self.time.as_micros().to_string());
        let ports = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        [side.to_owned(), ports, self.tasks.to_string(), hold, time, self.rounds.to_string()]
    }

    fn parse(arguments: &[&str]) -> Result<Self, Failure> {
        let [side, ports, tasks, hold, time, rounds] = arguments else {
            return Err("a worker takes six arguments".into());
        };
        let side = match *side {
            "pilotman" => Side::Pilotman,
            "pilotman-each" => Side::PilotmanEach,
            "list" => Side::List,
            _ => return Err(format!("{side:?} is no side").into()),
        };
        let micros = |text: &str| text.parse().map(Duration::from_micros);
        Ok(Self {
            side,
            ports: ports.split(',').map(str::parse).collect::<Result<_, _>>()?,
            tasks: tasks.parse()?,
            hold: micros(hold)?,
            time: micros(time)?,
            rounds: rounds.parse()?,
        })
    }
}

/// The process, seen from the one that started it.
pub(crate) struct Worker {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts this program again and waits until it has its connections.
    pub(crate) fn start(work: &Work) -> Result<Self, Failure> {
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

    pub(crate) fn go(&mut self) -> io::Result<()> {
        writeln!(self.input, "go")
    }

    /// Its holds, when it has ended.
    pub(crate) fn holds(mut self, process: usize) -> Result<Vec<Hold>, Failure> {
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

/// The process itself.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let work = Work::parse(arguments)?;
    let holds = Runtime::new()?.block_on(contend(work))?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    for hold in holds {
        writeln!(output, "{}", hold.line())?;
    }
    output.flush()?;
    Ok(())
}

async fn contend(work: Work) -> Result<Vec<Hold>, Failure> {
    let mut takers = Vec::new();
    let mut shared = None;
    for _ in 0..work.tasks {
        takers.push(match work.side {
            Side::List => {
                let first = work.ports.first().ok_or("there is no server")?;
                Taker::List(Queue::new(bare::connect(*first).await?, LIST))
            }
            Side::PilotmanEach => Taker::Pilotman(ours::locks(&work.ports).await?.mutex(NAME)),
            Side::Pilotman => {
                if shared.is_none() {
                    shared = Some(ours::locks(&work.ports).await?);
                }
                Taker::Pilotman(shared.as_ref().ok_or("there are no locks")?.mutex(NAME))
            }
        });
    }
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if line != "go\n" {
        return Err("nobody says when to start any more".into());
    }
    let mut tasks: JoinSet<_> = takers.into_iter().map(|taker| taker.take_turns(work.clone())).collect();
    let mut holds = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        holds.extend(ended??);
    }
    Ok(holds)
}

enum Taker {
    Pilotman(Mutex),
    List(Queue),
}

impl Taker {
    async fn take_turns(mut self, work: Work) -> Result<Vec<Hold>, Failure> {
        let start = Instant::now();
        let mut holds = Vec::new();
        while holds.len() < work.rounds && start.elapsed() < work.time {
            holds.push(self.take_once(work.hold).await?);
        }
        Ok(holds)
    }

    async fn take_once(&mut self, hold: Duration) -> Result<Hold, Failure> {
        let asked = machine_time();
        match self {
            Self::Pilotman(mutex) => {
                let guard = mutex.acquire().await?;
                let acquired = machine_time();
                let token = guard.token().ok_or("Redis gives a token with each lock")?;
                keep(hold).await;
                let released = machine_time();
                ours::give_back(guard).await?;
                Ok(Hold { process: 0, asked, acquired, released, token })
            }
            Self::List(queue) => {
                queue.take().await?;
                let acquired = machine_time();
                keep(hold).await;
                let released = machine_time();
                queue.give_back().await?;
                Ok(Hold { process: 0, asked, acquired, released, token: 0 })
            }
        }
    }
}

async fn keep(hold: Duration) {
    if !hold.is_zero() {
        tokio::time::sleep(hold).await;
    }
}
