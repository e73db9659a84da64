//! The suite's other processes: this same program, started again to take a lock.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pilotman_core::{LockOptions, Locks};
use serde_json::{Value, json};

use crate::context::{Ctx, SOON};
use crate::surface::{Client, Kind, Surface, Wait};
use crate::under_test::UnderTest;

const VARIABLE: &str = "PILOTMAN_CONFORMANCE_TAKER";

/// A process that takes a lock. It is killed when this is dropped.
pub(crate) struct Taker {
    child: Child,
    orders: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

/// What a taker does.
pub(crate) enum Task<'a> {
    /// Takes a lock and waits for orders.
    Hold,
    /// Adds one to the number in a file this many times, each under the lock, and notes the tokens in another file.
    Count { rounds: usize, file: &'a std::path::Path },
}

impl Taker {
    /// Starts a process that takes `name`, with a token where there are any.
    pub(crate) fn start(ctx: &Ctx, kind: &Kind, name: &str, task: &Task<'_>) -> Self {
        let (kind_name, permits) = match kind {
            Kind::Mutex => ("mutex", 0),
            Kind::Reader => ("reader", 0),
            Kind::Writer => ("writer", 0),
            Kind::Upgradeable => ("upgradeable", 0),
            Kind::Permit(permits) => ("permit", *permits),
            Kind::All(_) => ("all", 0),
        };
        let others = match kind {
            Kind::All(others) => others.clone(),
            _ => Vec::new(),
        };
        // One that only counts always gives back, so nobody waits for its lease; and a short one bounds each request so
        // tightly that a server on a busy machine may take longer.
        let ends_with_its_lease = matches!(task, Task::Hold) && ctx.capabilities.lease.is_some();
        let lease = ends_with_its_lease.then(|| ctx.lease().as_millis() as u64);
        let mut order = json!({
            "place": ctx.place, "name": name, "kind": kind_name, "permits": permits, "others": others,
            "lease_ms": lease, "fenced": ctx.capabilities.fencing != pilotman_core::Fencing::None,
        });
        if let Task::Count { rounds, file } = task {
            order["rounds"] = json!(rounds);
            order["file"] = json!(file.to_str().expect("a temporary directory with a readable name"));
        }
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .env(VARIABLE, order.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process");
        let orders = child.stdin.take();
        let output = child.stdout.take().expect("it was asked for");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, orders, lines }
    }

    /// Waits for a line that begins so, and returns the rest of it.
    #[track_caller]
    fn expect(&self, what: &str) -> String {
        match self.lines.recv_timeout(SOON * 2) {
            Ok(line) => match line.strip_prefix(what) {
                Some(rest) => rest.trim().to_owned(),
                None => panic!("the other process said {line:?} instead of {what:?}"),
            },
            Err(error) => panic!("the other process did not say {what:?}: {error}"),
        }
    }

    /// Waits until it holds the lock. Returns the token, if there is one.
    #[track_caller]
    pub(crate) fn acquired(&self) -> Option<u64> {
        self.expect("acquired").parse().ok()
    }

    /// Whether it has said anything yet.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("it takes orders until it ends");
        writeln!(orders, "{order}").and_then(|()| orders.flush()).expect("an order to the other process");
    }

    /// Has it release, and waits until it has.
    #[track_caller]
    pub(crate) fn release(mut self) {
        self.order("release");
        self.expect("released");
        self.ended();
    }

    /// Has it end without a release.
    pub(crate) fn abandon(&mut self) {
        self.order("abandon");
    }

    /// Kills it where it stands.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("to kill the other process");
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn ended(mut self) {
        drop(self.orders.take());
        let status = self.child.wait().expect("the end of the other process");
        assert!(status.success(), "the other process failed: {status}");
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        // It may have ended already; either way it must not stay as a zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// If this process was started as a taker, does that job.
pub(crate) fn run_if_asked(under_test: &UnderTest) -> Option<ExitCode> {
    let order = std::env::var(VARIABLE).ok()?;
    let done =
        serde_json::from_str(&order).map_err(|error| error.to_string()).and_then(|order| run(under_test, &order));
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taker: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run(under_test: &UnderTest, order: &Value) -> Result<(), String> {
    let text = |field: &str| order[field].as_str().map(str::to_owned).ok_or(format!("no {field}"));
    let kind = match text("kind")?.as_str() {
        "mutex" => Kind::Mutex,
        "reader" => Kind::Reader,
        "writer" => Kind::Writer,
        "upgradeable" => Kind::Upgradeable,
        "permit" => {
            Kind::Permit(order["permits"].as_u64().and_then(|permits| u32::try_from(permits).ok()).ok_or("permits")?)
        }
        "all" => {
            let others = order["others"].as_array().ok_or("no others")?;
            Kind::All(others.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        }
        other => return Err(format!("unknown kind {other}")),
    };
    let mut options = LockOptions::default();
    options.lease = order["lease_ms"].as_u64().map(Duration::from_millis);
    let locks = Locks::builder_shared(under_test.backend(&text("place")?)).options(options).build();
    let client = Client { locks, surface: Surface::Blocking };
    let fenced = order["fenced"] == json!(true) && !matches!(kind, Kind::Upgradeable | Kind::All(_));
    let mut lock = client.lock(kind, &text("name")?);
    if fenced {
        lock = lock.fenced();
    }
    let take = || match lock.get(Wait::Forever) {
        Ok(Some(hold)) => Ok(hold),
        Ok(None) => Err("gave up".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    if let Some(rounds) = order["rounds"].as_u64() {
        return count(&text("file")?, rounds, take);
    }
    let hold = take()?;
    say(&format!("acquired {}", hold.token().map_or("-".into(), |token| token.to_string())))?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
    if line.trim() == "release" {
        hold.try_release().map_err(|error| error.to_string())?;
        return say("released");
    }
    // Ends without running anything that would give the lock back.
    std::process::exit(0)
}

fn count(file: &str, rounds: u64, take: impl Fn() -> Result<crate::surface::Hold, String>) -> Result<(), String> {
    let say_io = |error: std::io::Error| error.to_string();
    for _ in 0..rounds {
        let hold = take()?;
        let text = std::fs::read_to_string(file).map_err(say_io)?;
        let (count, tokens) = text.split_once('\n').ok_or("no count")?;
        let count: u64 = count.parse().map_err(|_| format!("no count: {count:?}"))?;
        let token = hold.token().map(|token| format!("{token}\n")).unwrap_or_default();
        // Neither appended nor replaced in one step: two holders at a time would be seen.
        std::fs::write(file, format!("{}\n{tokens}{token}", count + 1)).map_err(say_io)?;
        hold.try_release().map_err(|error| error.to_string())?;
    }
    say("counted")
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}
