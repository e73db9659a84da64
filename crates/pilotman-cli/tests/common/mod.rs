//! What the tests of the command share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that is busy.
pub const LONG: Duration = Duration::from_secs(30);

/// A directory of a test's own, with the locks in it.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.path("locks").display())
    }

    /// The command, with the backend in its environment and nothing else of ours.
    pub fn pilotman(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.env("PILOTMAN_BACKEND", self.url()).current_dir(self.0.path());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.pilotman(arguments).output().unwrap()
    }

    /// A holder of `name` that holds it until it is dropped.
    pub fn hold(&self, name: &str, options: &[&str]) -> Running {
        let mut arguments = vec!["run"];
        arguments.extend(options);
        arguments.extend([name, "--", "sh", "-c", "echo held $$; exec sleep 600"]);
        Running::start(self.pilotman(&arguments), "held ")
    }

    /// A holder of several locks.
    pub fn hold_all(&self, names: &str) -> Running {
        let arguments = ["run", "--all", names, "--", "sh", "-c", "echo held $$; exec sleep 600"];
        Running::start(self.pilotman(&arguments), "held ")
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotman"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PILOTMAN") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A `pilotman run` whose child has said that it is there.
pub struct Running {
    pub wrapper: Child,
    /// What the child said after the word that was waited for.
    pub said: String,
    pub stdout: std::process::ChildStdout,
}

impl Running {
    /// Starts `command` and waits until it prints a line that begins with `word`.
    pub fn start(mut command: Command, word: &str) -> Self {
        let mut wrapper = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = wrapper.stdout.take().unwrap();
        let said = loop {
            let line = line(&mut stdout).expect("the command ended without a word");
            if let Some(rest) = line.strip_prefix(word) {
                break rest.to_owned();
            }
        };
        Self { wrapper, said, stdout }
    }

    pub fn wrapper_pid(&self) -> i32 {
        self.wrapper.id() as i32
    }

    pub fn child_pid(&self) -> i32 {
        self.said.parse().unwrap()
    }

    pub fn next_line(&mut self) -> Option<String> {
        line(&mut self.stdout)
    }

    /// Waits for the end and returns it, with the rest of what was said.
    pub fn finish(mut self) -> (std::process::ExitStatus, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.wrapper.wait().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.wrapper.kill();
        let _ = self.wrapper.wait();
    }
}

fn line(from: &mut impl Read) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 {
        if byte[0] == b'\n' {
            return Some(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte[0]);
    }
    None
}

/// Waits until `done` says so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The events that a status descriptor or `--json` got, without what a shell may have said between them.
pub fn events(text: &str) -> Vec<serde_json::Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// The names of the events.
pub fn kinds(events: &[serde_json::Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// The number of lock files in a directory: nothing was locked if there are none.
pub fn lock_files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, |entries| entries.count())
}

#[cfg(unix)]
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}
