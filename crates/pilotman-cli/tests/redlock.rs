//! The command on a quorum of three nodes.

#![cfg(all(unix, feature = "redis"))]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pilotman_testkit::servers::is_skipped;
use pilotman_testkit::servers::redis::Node;

fn nodes() -> Vec<Node> {
    (0..3).map(|_| Node::start(&[]).unwrap()).collect()
}

fn url(nodes: &[Node]) -> String {
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    format!("redlock://{}?lease=5s&connect-timeout=2s", hosts.join(","))
}

fn on(url: &str, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("PILOTMAN_BACKEND", url);
    command
}

#[test]
fn a_job_runs_while_a_majority_is_there() {
    if is_skipped("redis") {
        return;
    }
    let mut nodes = nodes();
    let url = url(&nodes);
    let token = || -> u64 {
        let script = "echo $PILOTMAN_TOKEN $PILOTMAN_NAME $PILOTMAN_BACKEND_KIND; env | grep -c PILOTMAN_BACKEND=";
        let output = on(&url, &["run", "x", "--", "sh", "-c", script]).output().unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        let text = out(&output);
        let (token, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, "x redlock\n1\n", "a nested call finds the same locks");
        token.parse().unwrap()
    };
    // The first time all nodes have to be there.
    let mut tokens = vec![token(), token()];
    let holder = Running::start(on(&url, &["run", "y", "--", "sh", "-c", "echo held; exec sleep 600"]), "held");
    assert_eq!(code(&on(&url, &["run", "-n", "y", "--", "true"]).output().unwrap()), 75);
    let status = out(&on(&url, &["status", "y"]).output().unwrap());
    assert!(status.contains(&format!("pid {}", holder.wrapper_pid())), "{status}");
    drop(holder);

    nodes[0].kill().unwrap();
    tokens.extend([token(), token()]);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");

    nodes[2].kill().unwrap();
    for arguments in [
        &["run", "x", "--", "echo", "ran"][..],
        &["run", "-n", "x", "--", "echo", "ran"],
        &["status", "x"],
        &["wait", "x"],
    ] {
        let output = on(&url, arguments).output().unwrap();
        assert_eq!(code(&output), 69, "{arguments:?}: {output:?}");
        assert_eq!(out(&output), "", "{arguments:?}");
        let down = format!("127.0.0.1:{}", nodes[2].port());
        assert!(err(&output).contains(&down), "the nodes that are away are named: {output:?}");
    }
    let output = on(&url, &["name", "x"]).output().unwrap();
    assert_eq!((code(&output), out(&output).as_str()), (0, "x\n"), "a name needs no server");
}

/// What is left of the quorum can't renew, so the command has to be dead before its lease ends.
#[test]
fn losing_the_majority_ends_the_command_before_the_lease() {
    if is_skipped("redis") {
        return;
    }
    let mut nodes = nodes();
    let url = url(&nodes);
    let stubborn = "trap 'echo term' TERM; echo held $$; while :; do sleep 0.02; done";
    let mut holder = Running::start(on(&url, &["run", "x", "--", "sh", "-c", stubborn]), "held ");
    let child = Pid::from_raw(holder.child_pid());
    nodes[0].freeze().unwrap();
    nodes[1].kill().unwrap();
    // From here on nothing is renewed, so the lease ends after this much at the latest.
    let gone = Instant::now();
    until("the end of the command", || kill(child, None).is_err());
    assert!(gone.elapsed() < Duration::from_secs(5), "it outlived its lease: {:?}", gone.elapsed());
    assert_eq!(holder.next_line().as_deref(), Some("term"), "it was asked first");
    assert_eq!(holder.finish().0.code(), Some(76), "and a hung server does not keep pilotman");
}

#[test]
fn secrets_of_nodes_are_used_and_never_shown() {
    if is_skipped("redis") {
        return;
    }
    let nodes = nodes();
    for node in &nodes {
        node.cli(&["ACL", "SETUSER", "job", "on", ">hunter2", "~*", "&*", "+@all"]).unwrap();
        node.cli(&["ACL", "SETUSER", "default", "resetpass"]).unwrap();
    }
    let ports: Vec<u16> = nodes.iter().map(Node::port).collect();
    let hosts = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let node = |port: &u16| format!("node=redis%3A%2F%2Fjob%3Ahunter2%40127.0.0.1%3A{port}");
    let by_node = ports.iter().map(node).collect::<Vec<_>>().join("&");
    for url in [format!("redlock://job:hunter2@{hosts}"), format!("redlock://?{by_node}")] {
        let show = ["run", "-v", "x", "--", "sh", "-c", "env | sort"];
        let from_environment = on(&url, &show).output().unwrap();
        let with_argument = bare(&[&["--backend", url.as_str()], &show[..]].concat()).output().unwrap();
        for output in [&from_environment, &with_argument] {
            assert_eq!(code(output), 0, "{url}: {output:?}");
            assert!(!err(output).contains("hunter2") && !out(output).contains("hunter2"), "{url}: {output:?}");
            assert!(err(output).contains("***"), "{url}: {output:?}");
        }
        assert!(!err(&from_environment).contains("warning"), "{url}");
        assert!(err(&with_argument).contains("warning: the URL has a password"), "{url}: {with_argument:?}");
    }
    let wrong = by_node.replace("hunter2", "hunter3");
    let output = on(&format!("redlock://?{wrong}"), &["run", "x", "--", "true"]).output().unwrap();
    assert_eq!(code(&output), 78, "{output:?}");
    assert!(!err(&output).contains("hunter3"), "{output:?}");
}
