//! The command on real PostgreSQL and MariaDB servers: locks that end with a session.

#![cfg(all(target_os = "linux", feature = "postgres", feature = "mysql"))]

mod common;

use std::process::{Command, Output, Stdio};

use common::*;
use pilotman_testkit::servers::{Shared, shared_or_skip};
use serde_json::Value;

/// A server that others use too, with a name of this test's own.
struct Server {
    shared: Shared,
    kind: &'static str,
    name: String,
}

impl Server {
    fn all(test: &str) -> impl Iterator<Item = Self> {
        let name = format!("cli-{}-{test}", std::process::id());
        [("postgres", "postgres"), ("mariadb", "mysql")].into_iter().map(move |(server, kind)| Self {
            shared: shared_or_skip(server),
            kind,
            name: name.clone(),
        })
    }

    fn url(&self) -> String {
        self.shared.url().to_owned()
    }

    fn pilotman(&self, arguments: &[&str]) -> Command {
        on(&self.url(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.pilotman(arguments).output().unwrap()
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json", &self.name]);
        serde_json::from_str(&out(&output)).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn held(&self) -> Running {
        let script = "echo held $PILOTMAN_BACKEND_KIND; exec sleep 600";
        Running::start(self.pilotman(&["run", &self.name, "--", "sh", "-c", script]), "held ")
    }
}

fn on(url: &str, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("PILOTMAN_BACKEND", url);
    command
}

#[test]
fn a_job_runs_under_a_lock_and_others_wait_for_it() {
    for server in Server::all("run") {
        let name = server.name.as_str();
        let holder = server.held();
        assert_eq!(holder.said, server.kind);
        assert_eq!(code(&server.run(&["run", "-n", name, "--", "true"])), 75);
        assert_eq!(code(&server.run(&["run", "-w", "300ms", name, "--", "true"])), 75);
        let mut waiter = server.pilotman(&["run", name, "--", "echo", "next"]);
        let waiter = waiter.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        match server.kind {
            "postgres" => until("a waiter", || server.status()["waiters"] == 1),
            // Its user may not see who waits.
            _ => std::thread::sleep(std::time::Duration::from_millis(300)),
        }
        let status = server.status();
        assert_eq!((&status["held"], status["holders"].as_array().unwrap().len()), (&true.into(), 1), "{status}");
        // It is killed, and its lock ends with its session.
        drop(holder);
        let output = waiter.wait_with_output().unwrap();
        assert_eq!((code(&output), out(&output).as_str()), (0, "next\n"), "{output:?}");
        until("it is free", || server.status()["held"] == false);
    }
}

#[test]
fn tokens_are_given_on_request_and_grow() {
    for server in Server::all("token") {
        let token = || {
            let output = server.run(&["run", "--token", &server.name, "--", "sh", "-c", "echo $PILOTMAN_TOKEN"]);
            assert_eq!(code(&output), 0, "{output:?}");
            out(&output).trim().parse::<u64>().unwrap_or_else(|_| panic!("{output:?}"))
        };
        let tokens = [token(), token(), token()];
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
        let without = server.run(&["run", &server.name, "--", "sh", "-c", "echo ${PILOTMAN_TOKEN-none}"]);
        assert_eq!(out(&without), "none\n", "a token costs a write here");
    }
}

#[test]
fn a_lock_that_is_broken_ends_its_command() {
    for server in Server::all("broken") {
        let holder = server.held();
        let broken = server.run(&["release", "--force", "--yes", &server.name]);
        assert_eq!(code(&broken), 0, "{broken:?}");
        assert_eq!(holder.finish().0.code(), Some(76), "whoever held it is told");
        assert_eq!(code(&server.run(&["wait", "-w", "20s", &server.name])), 0);
    }
}

/// The golden vectors, as an operator sees them.
#[test]
fn a_name_is_shown_as_the_server_sees_it() {
    for (url, name, physical) in [
        ("postgres://host/db", "漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢", "-5707277204051710361"),
        ("postgres://host/db", "00000000000000ff", "255"),
        ("postgres://host/db", "00000001,ffffffff", "1,-1"),
        ("mysql://host/db", "ABC", "abczj4qr6tvn4a3kmgq4bukhowqyfrlxsb3"),
        ("mariadb://host/db", "plain", "plain"),
    ] {
        let output = on(url, &["name", name]).output().unwrap();
        assert_eq!((code(&output), out(&output)), (0, format!("{physical}\n")), "{url} {name}: {output:?}");
    }
}

#[test]
fn a_server_that_is_down_is_69_and_a_wrong_password_78() {
    for server in Server::all("down") {
        let nowhere = pilotman_testkit::net::free_ports(1).unwrap()[0];
        let port = server.shared.ports()[0].to_string();
        let down = server.url().replace(&port, &nowhere.to_string());
        for arguments in [&["run", "x", "--", "echo", "ran"][..], &["status", "x"], &["doctor"]] {
            let output = on(&down, arguments).output().unwrap();
            assert_eq!((code(&output), out(&output).as_str()), (69, ""), "{arguments:?}: {output:?}");
            assert!(err(&output).contains(&nowhere.to_string()), "{output:?}");
        }
        let wrong = server.url().replace("pw-locker", "hunter2");
        let output = on(&wrong, &["run", "x", "--", "echo", "ran"]).output().unwrap();
        assert_eq!((code(&output), out(&output).as_str()), (78, ""), "{output:?}");
        assert!(!err(&output).contains("hunter2") && !err(&output).contains("pw-locker"), "{output:?}");
    }
}

#[test]
fn doctor_finds_nothing_that_endangers_locks() {
    for server in Server::all("doctor") {
        let output = server.run(&["doctor", "--json"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let told: Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(told["backend"], server.kind);
        assert!(!told["findings"].as_array().unwrap().is_empty(), "{told}");
    }
}
