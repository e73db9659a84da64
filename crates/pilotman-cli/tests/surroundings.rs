//! What the child finds: its environment, its arguments, its input, and the lock itself.

#![cfg(unix)]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::*;

const SHOW: &str = "env | grep ^PILOTMAN | sort";

#[test]
fn the_environment_tells_about_the_lock() {
    let place = Place::new();
    let output = place.run(&["run", "nightly", "--", "sh", "-c", SHOW]);
    let text = out(&output);
    assert!(text.contains("PILOTMAN_NAME=nightly\n") && text.contains("PILOTMAN_BACKEND_KIND=file\n"), "{text}");
    assert!(text.contains("PILOTMAN_OWNER="), "{text}");
    assert!(!text.contains("PILOTMAN_TOKEN"), "none was asked for: {text}");
}

#[test]
fn tokens_increase_from_holder_to_holder() {
    let place = Place::new();
    let token = || -> u64 {
        let output = place.run(&["run", "--token", "x", "--", "sh", "-c", "echo $PILOTMAN_TOKEN"]);
        out(&output).trim().parse().unwrap()
    };
    let tokens: Vec<_> = (0..5).map(|_| token()).collect();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[test]
fn in_nested_calls_the_inner_values_win() {
    let place = Place::new();
    let me = env!("CARGO_BIN_EXE_pilotman");
    let inner = format!("{me} run inner -- sh -c '{SHOW}'");
    let output = place.run(&["run", "--token", "outer", "--", "sh", "-c", &inner]);
    let text = out(&output);
    assert!(text.contains("PILOTMAN_NAME=inner\n"), "{text}");
    assert!(!text.contains("PILOTMAN_TOKEN"), "the outer lock's token is not the inner lock's: {text}");
    assert_eq!(text.matches("PILOTMAN_NAME").count(), 1);
}

#[test]
fn the_url_is_passed_on_only_if_it_came_from_there_and_holds_no_secret() {
    let place = Place::new();
    let kept = place.run(&["run", "x", "--", "sh", "-c", SHOW]);
    assert!(out(&kept).contains("PILOTMAN_BACKEND=file://"), "a nested call has to find the same locks");
    // An argument is not in the environment, and what was there before is another backend.
    let url = place.url();
    let mut command = bare(&["run", "--backend", &url, "x", "--", "sh", "-c", SHOW]);
    let replaced = command.env("PILOTMAN_BACKEND", "memory://").output().unwrap();
    assert_eq!(code(&replaced), 0);
    assert!(!out(&replaced).contains("PILOTMAN_BACKEND="), "{replaced:?}");
}

#[test]
fn arguments_are_passed_on_as_they_are() {
    let place = Place::new();
    let arguments = ["--", "-n", "--json", "", "a b", "*", "$HOME", "ü", "--help"];
    let command = ["run", "x", "--", "sh", "-c", "for a; do printf '[%s]' \"$a\"; done", "sh"];
    let output = place.run(&[&command[..], &arguments].concat());
    assert_eq!(out(&output), arguments.map(|a| format!("[{a}]")).concat());
}

#[test]
fn the_program_sees_its_name_as_it_was_given() {
    let output = Place::new().run(&[
        "run",
        "x",
        "--",
        "sh",
        "-c",
        "ps -o args= -p $$ 2>/dev/null || cat /proc/$$/cmdline | tr '\\0' ' '",
    ]);
    assert!(out(&output).starts_with("sh -c"), "{output:?}");
}

#[test]
fn input_and_output_pass_through() {
    let place = Place::new();
    let mut command = place.pilotman(&["run", "x", "--", "sh", "-c", "cat; echo wrong >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\0two\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"one\0two\xff"[..], &b"wrong\n"[..]));
}

#[test]
fn the_lock_stays_with_what_the_child_leaves_behind() {
    let place = Place::new();
    let fifo = place.path("end");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let leave = "(cat end >/dev/null) >/dev/null 2>&1 </dev/null & echo left $!";
    let output = place.run(&["run", "x", "--", "sh", "-c", leave]);
    assert_eq!(code(&output), 0);
    let still_held = code(&place.run(&["run", "-n", "x", "--", "true"]));
    std::fs::write(&fifo, "").unwrap();
    assert_eq!(still_held, 75, "as with flock(1)");
    assert_eq!(code(&place.run(&["run", "-w", "20s", "x", "--", "true"])), 0, "until the last one has ended");
}

#[test]
fn with_close_the_lock_ends_with_the_child() {
    let place = Place::new();
    let fifo = place.path("end");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let leave = "(cat end >/dev/null) >/dev/null 2>&1 </dev/null & echo left $!";
    let output = place.run(&["run", "--close", "x", "--", "sh", "-c", leave]);
    assert_eq!(code(&output), 0);
    let free = code(&place.run(&["run", "-n", "x", "--", "true"]));
    std::fs::write(&fifo, "").unwrap();
    assert_eq!(free, 0);
}

#[test]
fn the_default_backend_does_not_depend_on_the_environment() {
    // Only looked at, not locked: it is the user's own.
    let show = |home: &str| {
        let output =
            bare(&["name", "some name of a test"]).env("HOME", home).env("XDG_STATE_HOME", home).output().unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        out(&output)
    };
    assert_eq!(show("/nonexistent"), show("/"));
    assert!(show("/").contains("pilotman"));
}

#[test]
fn verbose_tells_where_the_locks_are() {
    let place = Place::new();
    let output = place.run(&["run", "-v", "x", "--", "true"]);
    let text = err(&output);
    assert!(text.contains(&place.url()) && text.contains("of PILOTMAN_BACKEND"), "{text}");
    assert!(text.contains("got 'x'") && text.contains("gave 'x' back") && text.contains("exit status 0"), "{text}");
}

#[test]
fn json_goes_to_standard_error_one_event_a_line() {
    let place = Place::new();
    let output = place.run(&["run", "--json", "x", "--", "sh", "-c", "exit 4"]);
    let events = events(&err(&output));
    assert_eq!(kinds(&events), ["acquired", "released", "exit"]);
    assert!(events.iter().all(|event| event["name"] == "x"));
    assert!(events[0]["waited_ms"].is_number() && events[1]["held_ms"].is_number());
    assert_eq!((&events[2]["code"], &events[2]["source"]), (&4.into(), &"child".into()));
}
