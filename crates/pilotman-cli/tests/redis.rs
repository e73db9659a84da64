//! The command on a real Redis: what a lease and a server that can be away change.

#![cfg(all(unix, feature = "redis"))]

mod common;

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pilotman_testkit::servers::redis::Node;
use pilotman_testkit::servers::{Shared, shared_or_skip};
use serde_json::Value;

/// A server that others use too, with names of this test's own.
struct Redis {
    server: Shared,
    prefix: String,
}

impl Redis {
    fn new(test: &str) -> Self {
        Self { server: shared_or_skip("redis"), prefix: format!("cli-{}-{test}:", std::process::id()) }
    }

    fn url(&self) -> String {
        format!("{}?lease=2s&prefix={}", self.server.url(), self.prefix)
    }

    fn pilotman(&self, arguments: &[&str]) -> Command {
        on(&self.url(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.pilotman(arguments).output().unwrap()
    }

    fn status(&self, name: &str) -> Value {
        let output = self.run(&["status", "--json", name]);
        serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

fn on(url: &str, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("PILOTMAN_BACKEND", url);
    command
}

/// A `pilotman` that waits for a lock, and ends when the test does.
struct Waiting(Option<Child>);

impl Waiting {
    fn start(mut command: Command) -> Self {
        Self(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    fn finish(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port where nobody listens.
fn nowhere() -> u16 {
    pilotman_testkit::net::free_ports(1).unwrap()[0]
}

#[test]
fn a_job_runs_under_a_lock_with_a_token() {
    let redis = Redis::new("run");
    let token = || -> u64 {
        let script = "echo $PILOTMAN_TOKEN $PILOTMAN_NAME $PILOTMAN_BACKEND_KIND; env | grep -c PILOTMAN_BACKEND=";
        let output = redis.run(&["run", "x", "--", "sh", "-c", script]);
        assert_eq!(code(&output), 0, "{output:?}");
        let text = out(&output);
        let rest = text.split_once(' ').unwrap();
        assert_eq!(rest.1, "x redis\n1\n", "a nested call finds the same locks");
        rest.0.parse().unwrap()
    };
    let tokens: Vec<_> = (0..4).map(|_| token()).collect();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    let shown = redis.run(&["run", "-v", "x", "--", "sh", "-c", "exit 5"]);
    assert_eq!(code(&shown), 5);
    assert!(err(&shown).contains("got 'x'") && err(&shown).contains("gave 'x' back"), "{shown:?}");
}

#[test]
fn who_holds_it_and_who_waits_is_told_and_a_lock_can_be_broken() {
    let redis = Redis::new("look");
    assert_eq!(redis.status("x")["held"], false);
    let script = "echo held $PILOTMAN_TOKEN; exec sleep 600";
    let holder = Running::start(redis.pilotman(&["run", "x", "--", "sh", "-c", script]), "held ");

    let waiter = Waiting::start(redis.pilotman(&["run", "x", "--", "sh", "-c", "echo $PILOTMAN_TOKEN"]));
    until("a waiter", || redis.status("x")["waiters"] == 1);
    let status = redis.status("x");
    let first = &status["holders"][0];
    let owner = first["owner"].as_str().unwrap();
    assert!(owner.contains(&format!("pid {}", holder.wrapper_pid())), "{status}");
    let remaining = first["remaining_ms"].as_f64().unwrap();
    assert!(remaining > 0.0 && remaining <= 2_000.0, "{status}");
    let token: u64 = holder.said.parse().unwrap();
    assert_eq!((&first["token"], &status["held"]), (&token.into(), &true.into()), "{status}");
    let table = out(&redis.run(&["status", "x"]));
    assert!(table.contains(owner) && table.contains(&token.to_string()), "{table}");
    assert!(table.contains(&format!("physical name: {}x", redis.prefix)), "{table}");
    assert_eq!(out(&redis.run(&["name", "x"])), format!("{}x\n", redis.prefix));

    let list: Value = serde_json::from_str(&out(&redis.run(&["list", "--json"]))).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &"x".into()), "{list}");

    assert_eq!(code(&redis.run(&["run", "-n", "x", "--", "true"])), 75);
    assert_eq!(code(&redis.run(&["wait", "-w", "100ms", "x"])), 75);
    assert_eq!(redis.status("x")["holders"][0]["token"], token, "and it is still the first one's");

    let broken = redis.run(&["release", "--force", "--yes", "x"]);
    assert_eq!(code(&broken), 0, "{broken:?}");
    assert!(out(&broken).contains(&format!("pid {}", holder.wrapper_pid())), "{broken:?}");
    let output = waiter.finish();
    assert_eq!(code(&output), 0, "the waiter has it: {output:?}");
    assert!(out(&output).trim().parse::<u64>().unwrap() > token, "{output:?}");
    assert_eq!(holder.finish().0.code(), Some(76), "whoever held it is told");
    assert_eq!(code(&redis.run(&["wait", "x"])), 0);
    assert_eq!(redis.status("x")["held"], false);
}

#[test]
fn other_kinds_of_locks_are_there() {
    let redis = Redis::new("kinds");
    let holder =
        Running::start(redis.pilotman(&["run", "-s", "x", "--", "sh", "-c", "echo held; exec sleep 600"]), "held");
    assert_eq!(code(&redis.run(&["run", "-s", "-n", "x", "--", "true"])), 0);
    assert_eq!(code(&redis.run(&["run", "-x", "-n", "x", "--", "true"])), 75);
    assert_eq!(code(&redis.run(&["run", "--permits", "2", "-n", "x", "--", "true"])), 0);
    assert_eq!(code(&redis.run(&["run", "-n", "--all", "x,y", "--", "true"])), 0, "the mutex x is another lock");
    drop(holder);
}

#[test]
fn a_server_that_is_down_is_69() {
    let url = format!("127.0.0.1:{}", nowhere());
    for arguments in [
        &["run", "x", "--", "echo", "ran"][..],
        &["run", "-n", "x", "--", "echo", "ran"],
        &["run", "-w", "20s", "x", "--", "echo", "ran"],
        &["status", "x"],
        &["list"],
        &["doctor"],
        &["wait", "x"],
        &["release", "--force", "--yes", "x"],
    ] {
        let output = on(&url, arguments).output().unwrap();
        assert_eq!(code(&output), 69, "{arguments:?}: {output:?}");
        assert!(err(&output).contains("can't connect to the Redis at 127.0.0.1"), "{output:?}");
        assert_eq!(out(&output), "", "{arguments:?}");
    }
    let output = on(&url, &["name", "x"]).output().unwrap();
    assert_eq!((code(&output), out(&output).as_str()), (0, "x\n"), "a name needs no server");
    let output = on(&url, &["run", "--json", "x", "--", "true"]).output().unwrap();
    let events = events(&err(&output));
    assert_eq!(kinds(&events), ["error", "exit"]);
    assert_eq!((&events[0]["code"], &events[1]["source"]), (&69.into(), &"pilotman".into()));
}

/// A server that hangs can't be asked for more time, so the lease ends: the command has to be dead before.
#[test]
fn a_frozen_server_ends_the_command_before_the_lease() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    const LEASE: Duration = Duration::from_secs(6);
    let mut server = Node::start(&[]).unwrap();
    let stubborn = "trap 'echo term' TERM; echo held $$; while :; do sleep 0.02; done";
    let mut command = on(&server.url(), &["run", "--json", "--lease", "6s", "x", "--", "sh", "-c", stubborn]);
    command.stderr(Stdio::piped());
    let mut holder = Running::start(command, "held ");
    let child = Pid::from_raw(holder.child_pid());
    server.freeze().unwrap();
    // From here on nothing is renewed, so the lease ends after this much at the latest.
    let frozen = Instant::now();
    until("the end of the command", || kill(child, None).is_err());
    assert!(frozen.elapsed() < LEASE, "it outlived its lease: {:?}", frozen.elapsed());
    assert_eq!(holder.next_line().as_deref(), Some("term"), "it was asked first");
    let stderr = holder.wrapper.stderr.take().unwrap();
    assert_eq!(holder.finish().0.code(), Some(76), "and a hung server does not keep pilotman");
    let events = events(&std::io::read_to_string(stderr).unwrap());
    let kinds = kinds(&events);
    assert_eq!(kinds, ["acquired", "at-risk", "lost", "exit"]);
    assert_eq!(events[2]["reason"], "expired");
    server.thaw().unwrap();
    let next = on(&server.url(), &["run", "-w", "20s", "x", "--", "true"]).output().unwrap();
    assert_eq!(code(&next), 0, "{next:?}");
}

#[test]
fn a_server_that_goes_away_ends_the_wait_with_69() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    let mut server = Node::start(&[]).unwrap();
    let url = format!("{}?connect-timeout=1s", server.url());
    let _holder = Running::start(on(&url, &["run", "x", "--", "sh", "-c", "echo held; exec sleep 600"]), "held");
    let waiter = Waiting::start(on(&url, &["run", "x", "--", "true"]));
    until("a waiter", || out(&on(&url, &["status", "--json", "x"]).output().unwrap()).contains("\"waiters\": 1"));
    server.kill().unwrap();
    let ended = waiter.finish();
    assert_eq!(code(&ended), 69, "{ended:?}");
}

#[test]
fn secrets_are_used_and_never_shown() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    let server = Node::start(&[]).unwrap();
    let port = server.port();
    server.cli(&["ACL", "SETUSER", "job", "on", ">hunter2", "~*", "&*", "+@all"]).unwrap();
    let refused = server.cli(&["ACL", "SETUSER", "default", "resetpass"]);
    refused.unwrap();
    let show = "env | sort";
    for url in [
        format!("redis://job:hunter2@127.0.0.1:{port}"),
        format!("redis://job@127.0.0.1:{port}?password=hunter2"),
        format!("redis://job:hunter2@127.0.0.1:{port},127.0.0.1:{}?connect-timeout=5s", nowhere()),
        format!("127.0.0.1:{port},user=job,password=hunter2,abortConnect=False"),
    ] {
        let from_environment = on(&url, &["run", "-v", "x", "--", "sh", "-c", show]).output().unwrap();
        let with_argument = bare(&["--backend", &url, "run", "-v", "x", "--", "sh", "-c", show]).output().unwrap();
        for output in [&from_environment, &with_argument] {
            assert_eq!(code(output), 0, "{url}: {output:?}");
            assert!(!err(output).contains("hunter2") && !out(output).contains("hunter2"), "{url}: {output:?}");
            assert!(err(output).contains("***"), "{url}: {output:?}");
        }
        assert!(!err(&from_environment).contains("warning"), "{url}");
        assert!(err(&with_argument).contains("warning: the URL has a password"), "{url}: {with_argument:?}");
    }
    let url = format!("redis://job@127.0.0.1:{port}?password-env=SECRET_OF_REDIS");
    let mut command = bare(&["--backend", &url, "run", "-v", "x", "--", "true"]);
    let output = command.env("SECRET_OF_REDIS", "hunter2").output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(!err(&output).contains("warning") && err(&output).contains(&url), "{output:?}");

    for wrong in ["redis://job:hunter3@127.0.0.1", "redis://127.0.0.1"] {
        let output = on(&format!("{wrong}:{port}"), &["run", "x", "--", "true"]).output().unwrap();
        assert_eq!(code(&output), 78, "{output:?}");
        assert!(!err(&output).contains("hunter3"), "{output:?}");
    }
}

#[test]
fn doctor_tells_what_is_wrong_and_how_to_put_it_right() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    let server = Node::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).unwrap();
    let doctor = |arguments: &[&str]| on(&server.url(), &[&["doctor"], arguments].concat()).output().unwrap();
    let address = format!("127.0.0.1:{}", server.port());
    let output = doctor(&[]);
    assert_eq!(code(&output), 78, "{output:?}");
    let text = out(&output);
    assert!(
        text.starts_with(&format!("problem  {address}  eviction\n         maxmemory-policy is allkeys-lru")),
        "{text}"
    );
    assert!(text.contains("\n         -> CONFIG SET maxmemory-policy noeviction"), "{text}");
    assert!(text.contains("\nfine     ") && text.contains("\n1 problem, 1 warning"), "{text}");
    let quiet = out(&doctor(&["-q"]));
    assert!(quiet.contains("problem ") && !quiet.contains("fine "), "{quiet}");

    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    let output = doctor(&["--json"]);
    assert_eq!(code(&output), 0, "a warning is no problem: {output:?}");
    let told: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&told["backend"], &told["worst"]), (&"redis".into(), &"warning".into()), "{told}");
    let first = &told["findings"][0];
    assert_eq!((&first["severity"], &first["about"]), (&"warning".into(), &"persistence".into()), "{told}");
    assert_eq!(first["node"], address.as_str());
    assert!(first["advice"].as_str().unwrap().contains("append"), "{told}");
}
