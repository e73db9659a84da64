//! Signals: what reaches the child, what ends us, and what the child's end means for the lock.

#![cfg(unix)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::Signal;

#[test]
fn term_to_the_wrapper_ends_the_child_and_exits_143() {
    let place = Place::new();
    let holder = place.hold("x", &[]);
    let child = holder.child_pid();
    signal(holder.wrapper_pid(), Signal::SIGTERM);
    let (status, _) = holder.finish();
    assert_eq!(status.code(), Some(143));
    assert!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), None).is_err(), "the child is gone");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0, "and so is the lock");
}

#[test]
fn a_childs_own_answer_to_a_signal_counts() {
    let place = Place::new();
    for (signal_, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
    ] {
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let holder = Running::start(place.pilotman(&["run", "x", "--", "sh", "-c", &script]), "ready");
        signal(holder.wrapper_pid(), signal_);
        let (status, said) = holder.finish();
        assert_eq!((status.code(), said.trim()), (Some(5), format!("got {name}").as_str()));
    }
}

#[test]
fn signals_reach_the_whole_group_of_the_child() {
    let place = Place::new();
    // The shell waits for its child, which the signal must reach too, as the shell alone doesn't end it.
    let script = "trap '' TERM; sh -c 'trap \"echo grandchild ended; exit 0\" TERM; echo ready; while :; do sleep 0.05; done'; exit 6";
    let holder = Running::start(place.pilotman(&["run", "x", "--", "sh", "-c", script]), "ready");
    signal(holder.wrapper_pid(), Signal::SIGTERM);
    // An ignored signal stays ignored in the inner shell, so it is USR1 that must get through.
    signal(holder.wrapper_pid(), Signal::SIGUSR1);
    let (status, _) = holder.finish();
    assert_eq!(status.code(), Some(138));
}

#[test]
fn an_interrupted_child_makes_us_look_interrupted() {
    // A shell goes on with its script after a command that exits with 130, and not after one that died of SIGINT.
    let place = Place::new();
    let holder = place.hold("x", &[]);
    signal(holder.wrapper_pid(), Signal::SIGINT);
    let (status, _) = holder.finish();
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_signal_ends_the_wait_and_leaves_nothing_locked() {
    let place = Place::new();
    for ending in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        let holder = place.hold("x", &[]);
        let mut waiter = place.pilotman(&["run", "-v", "x", "--", "sh", "-c", "echo ran"]);
        let mut waiter = waiter.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut heard = std::io::BufReader::new(waiter.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("waiting for") {
            assert_ne!(std::io::BufRead::read_line(&mut heard, &mut lines).unwrap(), 0, "{lines}");
        }
        signal(waiter.id() as i32, ending);
        let output = waiter.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(ending as i32));
        assert_eq!(out(&output), "", "the command was never started");
        drop(holder);
        assert_eq!(code(&place.run(&["run", "-w", "20s", "x", "--", "true"])), 0);
    }
}

#[test]
fn what_was_ignored_stays_ignored() {
    let place = Place::new();
    // As nohup does it.
    let script = format!(
        "trap '' HUP; exec {} run x -- sh -c 'kill -HUP $$; echo alive $PPID; sleep 600'",
        env!("CARGO_BIN_EXE_pilotman")
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("PILOTMAN_BACKEND", place.url()).stdin(Stdio::null());
    let holder = Running::start(shell, "alive ");
    signal(holder.wrapper_pid(), Signal::SIGHUP);
    signal(holder.wrapper_pid(), Signal::SIGTERM);
    let (status, _) = holder.finish();
    assert_eq!(status.code(), Some(143), "HUP had no effect, TERM had");
}

#[test]
fn ignored_children_are_reaped_nevertheless() {
    let place = Place::new();
    let script = format!("trap '' CHLD; exec {} run x -- sh -c 'exit 9'", env!("CARGO_BIN_EXE_pilotman"));
    let mut shell = std::process::Command::new("sh");
    let status = shell.args(["-c", &script]).env("PILOTMAN_BACKEND", place.url()).status().unwrap();
    assert_eq!(status.code(), Some(9));
}

#[cfg(target_os = "linux")]
#[test]
fn the_child_has_the_signals_as_we_found_them() {
    let place = Place::new();
    let show = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let bare = std::process::Command::new("sh").args(["-c", show]).output().unwrap();
    let under = place.run(&["run", "x", "--", "sh", "-c", show]);
    assert_eq!(out(&under), out(&bare));
}

/// Kills a wrapper while a waiter waits. The child must be dead before the waiter's command runs, and that must run
/// within a second.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_wrapper_takes_its_child_along_before_anyone_else_holds() {
    let place = Place::new();
    for _ in 0..5 {
        std::fs::write(place.path("beat"), "").unwrap();
        // The child shows that it lives by writing without a pause.
        let script = "echo held $$; while :; do echo x; done >>beat";
        let holder = Running::start(place.pilotman(&["run", "x", "--", "sh", "-c", script]), "held ");
        let size = "stat -c %s beat";
        let script = format!("a=$({size}); echo in; sleep 0.1; b=$({size}); [ $a = $b ] && [ $a != 0 ]");
        let mut waiter = place.pilotman(&["run", "-v", "x", "--", "sh", "-c", &script]);
        let mut waiter = waiter.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut heard = std::io::BufReader::new(waiter.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("waiting for") {
            assert_ne!(std::io::BufRead::read_line(&mut heard, &mut lines).unwrap(), 0, "{lines}");
        }
        until("the child writes", || !place.read("beat").is_empty());

        let killed = Instant::now();
        signal(holder.wrapper_pid(), Signal::SIGKILL);
        let mut said = std::io::BufReader::new(waiter.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        let took = killed.elapsed();
        assert_eq!(line, "in\n");
        assert!(took < Duration::from_secs(1), "the waiter had the lock after {took:?}");
        assert_eq!(waiter.wait().unwrap().code(), Some(0), "the child went on after somebody else had the lock");
    }
}

#[test]
fn a_signal_during_the_rest_of_hold_at_least_ends_it() {
    let place = Place::new();
    let command = place.pilotman(&["run", "--hold-at-least", "600s", "x", "--", "sh", "-c", "echo over"]);
    let holder = Running::start(command, "over");
    until("the lock is kept", || code(&place.run(&["run", "-n", "x", "--", "true"])) == 75);
    signal(holder.wrapper_pid(), Signal::SIGTERM);
    let (status, _) = holder.finish();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0);
}
