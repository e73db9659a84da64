//! A lock that is lost, or whose time is up, while the command runs.

#![cfg(unix)]

mod common;

use std::time::{Duration, Instant};

use common::*;

/// A child that says when it gets TERM, and goes on.
const STUBBORN: &str = "trap 'echo term' TERM; echo held $$; while :; do sleep 0.02; done";

#[test]
fn a_command_is_ended_before_its_time_is_up() {
    let place = Place::new();
    let start = Instant::now();
    let output = place.run(&["run", "--hold-at-most", "600ms", "x", "--", "sleep", "600"]);
    assert_eq!(code(&output), 76);
    assert!(start.elapsed() >= Duration::from_millis(450), "a sixth is the grace");
    assert!(err(&output).contains("as long as is allowed"), "{output:?}");
}

#[test]
fn who_does_not_listen_is_killed_in_time() {
    let place = Place::new();
    let arguments = ["run", "--json", "--hold-at-most", "2s", "--grace", "1s", "x", "--", "sh", "-c", STUBBORN];
    let output = place.run(&arguments);
    assert_eq!((code(&output), out(&output).contains("term")), (76, true));
    let events = events(&err(&output));
    assert_eq!(kinds(&events), ["acquired", "lost", "exit"]);
    assert_eq!(events[1]["reason"], "hold_limit");
    assert_eq!((&events[2]["source"], &events[2]["code"]), (&"pilotman".into(), &76.into()));
    let next = place.run(&["run", "-n", "x", "--", "true"]);
    assert_eq!(code(&next), 0, "the lock is free: {next:?}");
}

#[test]
fn whatever_the_child_returns_it_is_76() {
    let place = Place::new();
    let polite = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let output = place.run(&["run", "--hold-at-most", "600ms", "x", "--", "sh", "-c", polite]);
    assert_eq!(code(&output), 76);
}

#[test]
fn another_signal_can_be_asked_for_and_nobody_is_killed() {
    let place = Place::new();
    let script = "trap 'echo told; sleep 1; echo still here; exit 0' USR1; while :; do sleep 0.02; done";
    let output =
        place.run(&["run", "--hold-at-most", "600ms", "--on-lost", "signal:USR1", "x", "--", "sh", "-c", script]);
    assert_eq!((code(&output), out(&output).as_str()), (76, "told\nstill here\n"));
}

#[test]
fn a_child_that_is_left_alone_loses_the_lock_nevertheless() {
    let place = Place::new();
    let arguments =
        ["run", "--hold-at-most", "300ms", "--on-lost", "ignore", "x", "--", "sh", "-c", "echo held; read end"];
    let mut command = place.pilotman(&arguments);
    let holder = Running::start(
        {
            command.stdin(std::process::Stdio::piped());
            command
        },
        "held",
    );
    assert_eq!(code(&place.run(&["run", "-w", "20s", "x", "--", "true"])), 0, "it was given back at the limit");
    let mut holder = holder;
    drop(holder.wrapper.stdin.take());
    assert_eq!(holder.finish().0.code(), Some(76));
}

#[test]
fn a_replaced_lock_file_is_a_lost_lock() {
    let place = Place::new();
    let arguments = ["run", "--json", "x", "--", "sh", "-c", STUBBORN];
    let mut command = place.pilotman(&arguments);
    command.stderr(std::process::Stdio::piped());
    let mut holder = Running::start(command, "held ");
    // Longer than a command for which nobody listens.
    std::thread::sleep(Duration::from_millis(300));
    let file = out(&place.run(&["name", "x"]));
    std::fs::remove_file(file.trim()).unwrap();
    assert_eq!(holder.next_line().as_deref(), Some("term"), "told at once");
    let stderr = holder.wrapper.stderr.take().unwrap();
    assert_eq!(holder.finish().0.code(), Some(76), "and killed after the grace");
    let events = events(&std::io::read_to_string(stderr).unwrap());
    assert_eq!(kinds(&events), ["acquired", "lost", "exit"]);
    assert_eq!(events[1]["reason"], "replaced");
}

#[test]
fn a_loss_just_before_the_end_counts() {
    let place = Place::new();
    let file = out(&place.run(&["name", "x"]));
    let script = format!("rm {}", file.trim());
    assert_eq!(code(&place.run(&["run", "x", "--", "sh", "-c", &script])), 76);
}

#[test]
fn a_stopped_child_is_ended_too() {
    let place = Place::new();
    let output = place.run(&["run", "--hold-at-most", "600ms", "x", "--", "sh", "-c", "kill -STOP $$"]);
    assert_eq!(code(&output), 76);
}

#[test]
fn what_the_child_has_started_is_ended_with_it() {
    let place = Place::new();
    let script = "(trap '' TERM; echo $$ >started; while :; do echo x >>beat; sleep 0.01; done) & exec sleep 600";
    let output = place.run(&["run", "--hold-at-most", "900ms", "x", "--", "sh", "-c", script]);
    assert_eq!(code(&output), 76);
    let size = || place.read("beat").len();
    let before = size();
    assert!(before > 0);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(size(), before, "a grandchild went on without the lock");
}

#[test]
fn a_lock_is_kept_at_least_as_long_as_asked() {
    let place = Place::new();
    let start = Instant::now();
    assert_eq!(code(&place.run(&["run", "--hold-at-least", "500ms", "x", "--", "sh", "-c", "exit 3"])), 3);
    assert!(start.elapsed() >= Duration::from_millis(500));
}
