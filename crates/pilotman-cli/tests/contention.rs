//! Several processes and one lock.

#![cfg(unix)]

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::*;

const PROCESSES: usize = 8;
const ROUNDS: usize = 200;

/// Reads, dawdles, and writes: what was read is old by then, unless nobody else is let in.
const INCREMENT: &str = "read n <counter; i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; echo $((n + 1)) >counter";

fn count(place: &Place, one_round: impl Fn() -> Command + Sync) -> usize {
    place.write("counter", "0\n");
    thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let round = one_round().current_dir(place.path("")).stdin(Stdio::null()).output().unwrap();
                    assert!(round.status.success(), "{round:?}");
                }
            });
        }
    });
    place.read("counter").trim().parse().unwrap()
}

#[test]
fn no_increment_of_a_counter_file_is_lost() {
    let place = Place::new();
    let counted = count(&place, || place.pilotman(&["run", "counter", "--", "sh", "-c", INCREMENT]));
    assert_eq!(counted, PROCESSES * ROUNDS);
}

#[test]
fn without_the_lock_some_increments_are_lost() {
    let place = Place::new();
    let counted = count(&place, || {
        let mut command = Command::new("sh");
        command.args(["-c", INCREMENT]);
        command
    });
    assert!(counted < PROCESSES * ROUNDS, "the test above proves nothing: {counted}");
}

#[test]
fn readers_are_together_and_a_writer_is_alone() {
    let place = Place::new();
    let code_of = |arguments: &[&str]| code(&place.run(arguments));
    let reader = place.hold("x", &["-s"]);
    let other = place.hold("x", &["-s"]);
    assert_eq!(code_of(&["run", "-n", "-x", "x", "--", "true"]), 75);
    drop((reader, other));
    let _writer = place.hold("x", &["-x"]);
    assert_eq!(code_of(&["run", "-n", "-s", "x", "--", "true"]), 75);
    assert_eq!(code_of(&["run", "-n", "-x", "x", "--", "true"]), 75);
}

#[test]
fn a_semaphore_lets_in_as_many_as_it_has_permits() {
    let place = Place::new();
    let first = place.hold("x", &["--permits", "2"]);
    let _second = place.hold("x", &["--permits", "2"]);
    assert_eq!(code(&place.run(&["run", "-n", "--permits", "2", "x", "--", "true"])), 75);
    drop(first);
    assert_eq!(code(&place.run(&["run", "-w", "20s", "--permits", "2", "x", "--", "true"])), 0);
}

#[test]
fn all_or_none() {
    let place = Place::new();
    let show = ["--", "sh", "-c", "echo $PILOTMAN_NAME"];
    let output = place.run(&[&["run", "--all", "c,a,b,a"], &show[..]].concat());
    assert_eq!(out(&output), "a,b,c\n");

    let _holder = place.hold("b", &[]);
    let output = place.run(&["run", "-n", "--all", "c,a,b", "--", "true"]);
    assert_eq!(code(&output), 75);
    for free in ["a", "c"] {
        assert_eq!(code(&place.run(&["run", "-n", free, "--", "true"])), 0, "{free} was left locked");
    }
    let _both = place.hold_all("a,c");
    for held in ["a", "c"] {
        assert_eq!(code(&place.run(&["run", "-n", held, "--", "true"])), 75);
    }
}

#[test]
fn a_time_out_is_kept() {
    let place = Place::new();
    let _holder = place.hold("x", &[]);
    let start = Instant::now();
    assert_eq!(code(&place.run(&["run", "-w", "300ms", "x", "--", "true"])), 75);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "gave up after {took:?}");
    assert!(took < Duration::from_secs(10), "gave up only after {took:?}");
}

#[test]
fn the_second_waits_and_then_runs() {
    let place = Place::new();
    let holder = place.hold("x", &[]);
    let waiter = thread::scope(|scope| {
        let waiter = scope.spawn(|| place.run(&["run", "--json", "x", "--", "sh", "-c", "echo ran"]));
        thread::sleep(Duration::from_millis(200));
        drop(holder);
        waiter.join().unwrap()
    });
    assert_eq!((code(&waiter), out(&waiter).as_str()), (0, "ran\n"));
    let events = events(&err(&waiter));
    assert_eq!(kinds(&events), ["waiting", "acquired", "released", "exit"]);
    let owner = events[0]["holders"][0]["owner"].as_str().unwrap();
    assert!(owner.contains("pid") && owner.contains("sh"), "{owner}");
}
