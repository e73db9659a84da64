//! Every row of the table of exit statuses, and every bad input, which must be refused before anything is locked.

#![cfg(unix)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use common::*;

#[test]
fn the_childs_own_status_is_ours() {
    let place = Place::new();
    for status in [0, 1, 7, 64, 69, 75, 76, 126, 127, 128, 255] {
        let script = format!("exit {status}");
        assert_eq!(code(&place.run(&["run", "x", "--", "sh", "-c", &script])), status);
    }
}

#[test]
fn a_signal_that_ends_the_child_is_128_and_its_number() {
    let place = Place::new();
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("HUP", 129), ("USR1", 138)] {
        let script = format!("kill -{signal} $$");
        assert_eq!(code(&place.run(&["run", "x", "--", "sh", "-c", &script])), status);
    }
}

#[test]
fn a_signal_beyond_the_standard_ones_is_told_too() {
    // Real-time signals have no names that all systems share, so they are easily forgotten.
    if cfg!(target_os = "linux") {
        let output = Place::new().run(&["run", "x", "--", "sh", "-c", "kill -40 $$"]);
        assert_eq!(code(&output), 168);
    }
}

#[test]
fn a_held_lock_is_75_or_what_the_user_says() {
    let place = Place::new();
    let _holder = place.hold("x", &[]);
    for options in [&["-n"][..], &["-w", "0"], &["-w", "50ms"]] {
        let arguments = [&["run"], options, &["x", "--", "true"]].concat();
        let output = place.run(&arguments);
        assert_eq!(code(&output), 75);
        assert!(err(&output).contains("held by pid"), "{output:?}");
        let arguments = [&["run", "-E", "3", "-q"], options, &["x", "--", "true"]].concat();
        let output = place.run(&arguments);
        assert_eq!(code(&output), 3);
        assert_eq!(err(&output), "", "-q is quiet about conflicts");
    }
    assert_eq!(code(&place.run(&["run", "-n", "y", "--", "true"])), 0, "another name is free");
}

#[test]
fn whose_a_status_is_can_be_told() {
    let place = Place::new();
    let exit = |arguments: &[&str]| {
        // The shell gives us the descriptor, as a user's would.
        let script =
            format!("exec {} run --status-fd 3 {} 3>status", env!("CARGO_BIN_EXE_pilotman"), arguments.join(" "));
        let mut shell = std::process::Command::new("sh");
        let output = shell
            .args(["-c", &script])
            .env("PILOTMAN_BACKEND", place.url())
            .current_dir(place.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let events = events(&place.read("status"));
        let last = events.last().unwrap().clone();
        assert_eq!(last["event"], "exit");
        assert_eq!(last["code"], code(&output));
        (code(&output), last["source"].as_str().unwrap().to_owned(), kinds(&events).join(" "))
    };
    let theirs = exit(&["x", "--", "sh", "-c", "'exit 75'"]);
    assert_eq!(theirs, (75, "child".into(), "acquired released exit".into()));
    let _holder = place.hold("x", &[]);
    assert_eq!(exit(&["-n", "x", "--", "true"]), (75, "pilotman".into(), "not-acquired exit".into()));
    assert_eq!(exit(&["-w", "50ms", "x", "--", "true"]), (75, "pilotman".into(), "waiting not-acquired exit".into()));
    assert_eq!(exit(&["y", "--", "no-such-program"]), (127, "pilotman".into(), "error exit".into()));
    assert_eq!(exit(&["y", "--", "sh", "-c", "'kill -9 $$'"]), (137, "child".into(), "acquired released exit".into()));
}

#[test]
fn a_status_descriptor_that_is_not_there_is_refused() {
    let place = Place::new();
    let output = place.run(&["run", "--status-fd", "77", "x", "--", "true"]);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains("--status-fd 77"), "{output:?}");
    assert_eq!(lock_files(&place.path("locks")), 0);
}

#[test]
fn the_child_does_not_hold_the_status_descriptor_open() {
    let place = Place::new();
    let script =
        format!("exec {} run --status-fd 3 x -- sh -c 'echo bad >&3' 3>status", env!("CARGO_BIN_EXE_pilotman"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("PILOTMAN_BACKEND", place.url()).current_dir(place.path(""));
    shell.stderr(Stdio::null()).status().unwrap();
    let events = place.read("status");
    assert!(!events.contains("bad") && events.contains("exit"), "{events}");
}

#[test]
fn a_missing_command_is_127_and_one_that_is_not_executable_126() {
    let place = Place::new();
    let script = place.write("script", "#!/bin/sh\n");
    let script = script.to_str().unwrap();
    for (program, status) in
        [("no-such-program", 127), ("./no-such-program", 127), ("", 127), (script, 126), ("/", 126), ("/dev/null", 126)]
    {
        let output = place.run(&["run", "x", "--", program]);
        assert_eq!(code(&output), status, "{program}: {output:?}");
        assert!(err(&output).starts_with("pilotman: "), "{output:?}");
    }
    assert_eq!(lock_files(&place.path("locks")), 0, "nothing was locked");

    let orphan = place.write("orphan", "#!/no/such/interpreter\n");
    std::fs::set_permissions(&orphan, PermissionsExt::from_mode(0o755)).unwrap();
    let output = place.run(&["run", "x", "--", orphan.to_str().unwrap()]);
    assert_eq!(code(&output), 127);
    assert!(err(&output).contains("interpreter"), "{output:?}");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0, "and the lock is free again");
}

#[test]
fn usage_errors_are_64_and_lock_nothing() {
    let place = Place::new();
    let long = "x".repeat(100_000);
    for arguments in [
        &["run"][..],
        &["run", "x"],
        &["run", "x", "--"],
        &["run", "x", "true"],
        &["run", "--", "true"],
        &["run", "", "--", "true"],
        &["run", "-s", "", "--", "true"],
        &["run", "--permits", "2", "", "--", "true"],
        &["run", &long, "--", "true"],
        &["run", "--all", "", "--", "true"],
        &["run", "--all", "a,,b", "--", "true"],
        &["run", "--all", "a,b", "x", "--", "true"],
        &["run", "--all", "a,b", "-s", "--", "true"],
        &["run", "--all", "a,b", "--lease", "30s", "--", "true"],
        &["run", "-n", "-w", "5", "x", "--", "true"],
        &["run", "-s", "--permits", "2", "x", "--", "true"],
        &["run", "-s", "-x", "x", "--", "true"],
        &["run", "-q", "-v", "x", "--", "true"],
        &["run", "--permits", "0", "x", "--", "true"],
        &["run", "-w", "soon", "x", "--", "true"],
        &["run", "-w", "-1", "x", "--", "true"],
        &["run", "-E", "256", "x", "--", "true"],
        &["run", "--on-lost", "weep", "x", "--", "true"],
        &["run", "--on-lost", "signal:WEEP", "x", "--", "true"],
        &["run", "--on-lost", "ignore", "--grace", "1s", "x", "--", "true"],
        &["run", "--hold-at-most", "0", "x", "--", "true"],
        &["run", "--hold-at-most", "1s", "--grace", "1s", "x", "--", "true"],
        &["run", "--hold-at-most", "1s", "--hold-at-least", "2s", "x", "--", "true"],
        &["run", "--no-such-option", "x", "--", "true"],
        &["status", ""],
        &["name", ""],
        &["wait", ""],
        &["wait", "-n", "-w", "1", "x"],
        &["release", "x"],
        &["no-such-command"],
        &[],
    ] {
        let output = place.run(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stderr.len() < 3_000, "{arguments:?}: {output:?}");
        assert_eq!(lock_files(&place.path("locks")), 0, "{arguments:?} locked something");
    }
}

#[test]
fn help_has_the_table_and_succeeds() {
    let place = Place::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["-h"]] {
        let output = place.run(arguments);
        assert_eq!(code(&output), 0);
        for row in ["64 ", "69 ", "70 ", "75 ", "76 ", "78 ", "126 ", "127 ", "128+n"] {
            assert!(out(&output).contains(&format!("\n  {row}")), "{row} is missing from {arguments:?}");
        }
    }
    assert_eq!(code(&place.run(&["--version"])), 0);
}

#[test]
fn what_is_misconfigured_is_78() {
    let place = Place::new();
    let file = place.write("file", "");
    let dir = place.path("").display().to_string();
    for (url, expect) in [
        (format!("file://{dir}/locks?colour=blue"), "record-holder"),
        (format!("file://{dir}/locks?record-holder=maybe"), "record-holder"),
        (format!("file://{}", file.display()), "directory"),
        ("file://relative".into(), "file:///"),
        ("gopher://host".into(), "file://"),
        ("redis://host?colour=blue".into(), "key-format"),
        ("host:6379,colour=blue".into(), "abortConnect"),
        ("nonsense".into(), "file://"),
    ] {
        let output = bare(&["run", "--backend", &url, "x", "--", "true"]).output().unwrap();
        assert_eq!(code(&output), 78, "{url}: {output:?}");
        assert!(err(&output).contains(expect), "{url}: {output:?}");
    }
    // Files have no leases.
    let output = place.run(&["run", "--lease", "30s", "x", "--", "true"]);
    assert_eq!(code(&output), 78, "{output:?}");
    assert_eq!(lock_files(&place.path("locks")), 0);
}

#[test]
fn a_directory_that_can_not_be_written_is_told() {
    if nix::unistd::geteuid().is_root() {
        // Root can write anywhere; a directory below a file is refused to everybody.
        return;
    }
    let place = Place::new();
    let locks = place.path("locks");
    std::fs::create_dir(&locks).unwrap();
    std::fs::set_permissions(&locks, PermissionsExt::from_mode(0o500)).unwrap();
    let output = place.run(&["run", "x", "--", "true"]);
    assert_eq!(code(&output), 78, "{output:?}");
}

#[test]
fn secrets_are_never_echoed_and_warned_about_in_arguments() {
    let place = Place::new();
    for url in [
        "redis://user:hunter2@host:6379?colour=blue",
        "redis://user:hunter2@[host",
        "redis://user:hunter2@host1:1,host2:2/hunter2",
        "redis://host?password=hunter2&password-env=NONE",
        "redis-sentinel://host1,host2/main?sentinel-password=hunter2&colour=blue",
        "host:6380,password=hunter2,ssl=maybe",
        "host:6380,password=a@hunter2,colour=hunter2",
        "gopher://:hunter2@host",
        "hunter2://host",
        "nonsense:hunter2@host",
        "file:///tmp?password=hunter2",
        "memory://?sharedkey=hunter2",
    ] {
        for command in [&["run", "-v", "x", "--", "true"][..], &["status", "x"], &["name", "x"], &["wait", "-v", "x"]] {
            let from_environment = bare(command).env("PILOTMAN_BACKEND", url).output().unwrap();
            let with_argument = bare(&[&["--backend", url], command].concat()).output().unwrap();
            for output in [&from_environment, &with_argument] {
                assert!(!err(output).contains("hunter2"), "{url}: {}", err(output));
                assert!(!out(output).contains("hunter2"), "{url}: {}", out(output));
                assert_eq!(code(output), 78, "{url} {command:?}: {output:?}");
            }
            assert!(!err(&from_environment).contains("warning"), "{url}");
            if url != "hunter2://host" {
                assert!(err(&with_argument).contains("warning"), "{url}: {}", err(&with_argument));
            }
        }
    }
    let output = place.run(&["run", "x", "--", "true"]);
    assert_eq!(err(&output), "", "no warning without a secret");
}

#[test]
fn a_name_of_ten_thousand_characters_is_fine() {
    let place = Place::new();
    let name = "ü".repeat(10_000);
    assert_eq!(code(&place.run(&["run", &name, "--", "true"])), 0);
}
