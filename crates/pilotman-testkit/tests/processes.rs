//! Processes are started, watched, frozen and ended as the tests of the backends rely on.
#![cfg(unix)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilotman_testkit::servers::{self, Started};
use pilotman_testkit::{Package, Process, Program, Scratch, ServerKind};

const LONG: Duration = Duration::from_secs(30);
const SH: Program = Program { command: "sh", package: Package::Debian("dash"), also_in: &[] };

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn printed(log: &Path, what: &str) -> bool {
    fs::read_to_string(log).unwrap_or_default().contains(what)
}

fn ready(process: &mut Process) {
    let log = process.log().to_owned();
    process.wait_ready(LONG, || printed(&log, "ready")).unwrap();
}

/// The state letter of a process from the kernel, or `None` when there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_that_ends_before_it_is_ready_is_an_error_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut process =
        Process::spawn("sick", shell("echo no disk left >&2; exit 3"), &directory.path().join("log")).unwrap();
    let error = process.wait_ready(LONG, || false).unwrap_err().to_string();
    assert!(error.contains("sick ended") && error.contains("3") && error.contains("no disk left"), "{error}");
}

#[test]
fn a_process_that_never_gets_ready_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::spawn("slow", shell("exec sleep 600"), &directory.path().join("log")).unwrap();
    let error = process.wait_ready(Duration::from_millis(50), || false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("printed nothing"), "{error}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let command = Command::new("/nonexistent/server");
    let error = Process::spawn("server", command, &directory.path().join("log")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/nonexistent/server"), "{error}");
}

#[test]
fn terminate_lets_it_clean_up() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut process = Process::spawn("polite", shell(script), &directory.path().join("log")).unwrap();
    ready(&mut process);
    assert_eq!(process.terminate().unwrap().code(), Some(7));
    assert!(printed(process.log(), "bye"));
    assert_eq!(process.terminate().unwrap().code(), Some(7), "a second time is harmless");
}

#[test]
fn kill_ends_a_frozen_process_that_ignores_everything() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap '' TERM INT; echo ready; while :; do sleep 0.01; done";
    let mut process = Process::spawn("stubborn", shell(script), &directory.path().join("log")).unwrap();
    ready(&mut process);
    process.freeze().unwrap();
    assert_eq!(process.kill().unwrap().signal(), Some(9));
    assert!(process.freeze().is_err(), "there is nothing to freeze any more");
}

#[cfg(target_os = "linux")]
#[test]
fn a_shell_that_is_always_starting_something_can_be_frozen() {
    let directory = tempfile::tempdir().unwrap();
    // Where the shell uses `vfork`, it waits for its child without interruption, and that may be stopped first.
    let script = "echo ready; while :; do /bin/true; done";
    let mut process = Process::spawn("busy", shell(script), &directory.path().join("log")).unwrap();
    ready(&mut process);
    for _ in 0..20 {
        process.freeze().unwrap();
        process.thaw().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn freeze_and_thaw_stop_and_resume_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut process =
        Process::spawn("cat", shell("echo ready; exec sleep 600"), &directory.path().join("log")).unwrap();
    ready(&mut process);
    process.freeze().unwrap();
    eventually("stopped", || state(process.id()) == Some('T'));
    process.thaw().unwrap();
    eventually("running or sleeping", || matches!(state(process.id()), Some('S' | 'R')));
    assert!(process.exit_status().unwrap().is_none());
}

#[cfg(target_os = "linux")]
#[test]
fn drop_ends_what_the_process_started_too() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut process = Process::spawn("parent", shell("sleep 600 & echo child=$!; echo ready; wait"), &log).unwrap();
    ready(&mut process);
    let text = fs::read_to_string(&log).unwrap();
    let child: u32 = text.lines().find_map(|line| line.strip_prefix("child=")).unwrap().parse().unwrap();
    let parent = process.id();
    assert!(state(child).is_some());
    drop(process);
    assert_eq!(state(parent), None);
    eventually("the grandchild is gone", || matches!(state(child), None | Some('Z')));
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_test_takes_its_processes_with_it() {
    const CHILD: &str = "PILOTMAN_TESTKIT_CHILD_LOG";
    // This test again, in a process of its own that can be killed.
    if let Some(log) = std::env::var_os(CHILD) {
        let mut kept = Process::spawn("kept", shell("echo ready; exec sleep 600"), Path::new(&log)).unwrap();
        ready(&mut kept);
        let ended = Process::spawn("ended", shell("exec sleep 600"), &Path::new(&log).with_extension("2")).unwrap();
        drop(ended);
        fs::write(Path::new(&log).with_extension("pid"), format!("{} ", kept.id())).unwrap();
        std::thread::sleep(LONG);
        panic!("it was not killed");
    }
    let directory = tempfile::tempdir().unwrap();
    let (log, mut command) = (directory.path().join("log"), Command::new(std::env::current_exe().unwrap()));
    command.args(["--exact", "a_killed_test_takes_its_processes_with_it"]).env(CHILD, &log);
    let mut test = Process::spawn("test", command, &directory.path().join("test")).unwrap();
    let pid_file = log.with_extension("pid");
    eventually("the process of the other test runs", || printed(&pid_file, " "));
    let pid: u32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(state(pid).is_some_and(|state| state != 'Z'));
    // What it started is in groups of its own, so this does not reach that.
    test.kill().unwrap();
    eventually("it is gone", || matches!(state(pid), None | Some('Z')));
}

fn start_shell_server(scratch: &Scratch) -> std::io::Result<Started> {
    let mut command = Command::new(scratch.program(&SH)?);
    command.args(["-c", "echo ready; exec sleep 600"]);
    let log = scratch.path().join("log");
    let mut process = Process::spawn("shell", command, &log)?;
    process.wait_ready(LONG, || printed(&log, "ready"))?;
    Ok(Started { processes: vec![process], urls: vec!["test://127.0.0.1".to_owned()] })
}

#[test]
fn a_server_and_its_data_go_with_the_handle() {
    let kind = ServerKind { name: "shell", about: "for this test", programs: &[SH], start: start_shell_server };
    assert!(servers::missing(&kind, &[]).is_empty());
    let mut server = servers::start(&kind, &[]).unwrap();
    assert_eq!(server.urls(), ["test://127.0.0.1"]);
    let directory = server.directory().to_owned();
    assert!(directory.join("log").exists());
    assert!(server.processes()[0].exit_status().unwrap().is_none());
    drop(server);
    assert!(!directory.exists());
}

#[test]
fn a_server_whose_program_is_missing_says_what_has_it() {
    const GHOST: Program = Program { command: "ghost-server", package: Package::Debian("ghostd"), also_in: &[] };
    fn start_ghost(scratch: &Scratch) -> std::io::Result<Started> {
        scratch.program(&GHOST)?;
        Ok(Started { processes: Vec::new(), urls: Vec::new() })
    }
    let kind = ServerKind { name: "ghost", about: "for this test", programs: &[GHOST], start: start_ghost };
    assert_eq!(servers::missing(&kind, &[]), [GHOST]);
    let error = servers::start(&kind, &[]).unwrap_err();
    assert!(error.to_string().contains("ghost-server") && error.to_string().contains("ghostd"), "{error}");
}
