//! The lock table: what is refused, what breaks it, what is left of the dead, what people see.
#![cfg(target_os = "linux")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotman_core::blocking::Locks;
use pilotman_core::{Error, ErrorKind, HoldState, NameRule, Primitive, Release};
use pilotman_os::{OsBackend, OsOptions};

const LONG: Duration = Duration::from_secs(30);
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";
const DIRECTORY: &str = "PILOTMAN_OS_TEST_DIRECTORY";

fn with(options: OsOptions) -> Locks {
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(OsBackend::new(options).unwrap())).build())
}

fn locks(directory: &Path) -> Locks {
    with(OsOptions::new().directory(directory))
}

fn table(directory: &Path) -> PathBuf {
    directory.join(format!("pilotman-os-1-{}", rustix::process::geteuid().as_raw()))
}

#[track_caller]
fn refused(error: Error, kind: ErrorKind, word: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(word), "{error} does not say {word:?}");
    assert!(error.has_no_effect() && error.advice().is_some(), "{error:?}");
}

fn refusal(directory: &Path) -> Error {
    locks(directory).mutex("a").try_acquire().map(drop).unwrap_err()
}

/// Runs one test of this binary once more, as another process.
fn child(test: &str, role: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(DIRECTORY).unwrap().into()))
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn options_of_windows_are_refused() {
    use pilotman_os::Scope;
    for options in [
        OsOptions::new().dotnet_compatible(true),
        OsOptions::new().security("D:(A;;GA;;;AU)"),
        OsOptions::new().scope(Scope::Session),
        OsOptions::new().directory("/a\0b"),
    ] {
        assert_eq!(OsBackend::new(options).unwrap_err().kind(), ErrorKind::Misconfigured);
    }
}

#[test]
fn what_is_no_table_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = table(directory.path());
    std::fs::write(&path, "gold").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(refusal(directory.path()), ErrorKind::Misconfigured, "no lock table");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "gold");
    // Of the right length, too.
    let other = tempfile::tempdir().unwrap();
    drop(locks(other.path()).mutex("a").try_acquire().unwrap());
    let length = std::fs::metadata(table(other.path())).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    refused(refusal(directory.path()), ErrorKind::Misconfigured, "no lock table");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    refused(refusal(directory.path()), ErrorKind::Misconfigured, "");
    std::fs::remove_dir(&path).unwrap();
    symlink(table(other.path()), &path).unwrap();
    refused(refusal(directory.path()), ErrorKind::Misconfigured, "");
}

#[test]
fn a_directory_that_can_not_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(refusal(&file), ErrorKind::Misconfigured, "directory");
    let open = directory.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    refused(refusal(&open), ErrorKind::Misconfigured, "written by others");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(locks(&open).mutex("a").try_acquire().unwrap().is_some());
    refused(refusal(Path::new("/proc")), ErrorKind::Misconfigured, "");
}

#[test]
fn a_table_is_private_unless_it_is_to_be_shared() {
    let directory = tempfile::tempdir().unwrap();
    let private = locks(directory.path());
    let _held = private.mutex("a").try_acquire().unwrap().unwrap();
    assert_eq!(std::fs::metadata(table(directory.path())).unwrap().mode() & 0o777, 0o600);
    let sharing = with(OsOptions::new().directory(directory.path()).shared(true));
    assert!(sharing.mutex("a").try_acquire().unwrap().is_some(), "another table");
    let shared = directory.path().join("pilotman-os-1-shared");
    assert_eq!(std::fs::metadata(shared).unwrap().mode() & 0o777, 0o666, "whatever the umask is");

    let open = tempfile::tempdir().unwrap();
    drop(locks(open.path()).mutex("a").try_acquire().unwrap());
    std::fs::set_permissions(table(open.path()), std::fs::Permissions::from_mode(0o660)).unwrap();
    refused(refusal(open.path()), ErrorKind::Misconfigured, "open to other users");
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(table(open.path()), std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(table(open.path()), Some(65534), None).unwrap();
        refused(refusal(open.path()), ErrorKind::Misconfigured, "another user");
    }
}

#[test]
fn a_process_without_a_free_descriptor_is_told() {
    const TEST: &str = "a_process_without_a_free_descriptor_is_told";
    if let Some((_, directory)) = role() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
        let locks = locks(&directory);
        let error = locks.mutex("a").try_acquire().map(drop).unwrap_err();
        setrlimit(Resource::Nofile, before).unwrap();
        refused(error, ErrorKind::Unavailable, "lock table");
        assert!(locks.mutex("a").try_acquire().unwrap().is_some(), "and what failed once works later");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(child(TEST, "poor", directory.path()).wait().unwrap().success());
    assert!(table(directory.path()).exists());
}

#[test]
fn odd_names() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let long = "x".repeat(300);
    let held: Vec<_> = [r"a\b", "a_b", &long, &long[1..], "é", "\u{1}"]
        .into_iter()
        .map(|name| locks.mutex(name).try_acquire().unwrap().unwrap_or_else(|| panic!("{name:?} collides")))
        .collect();
    // As in .NET, where the prefix is added if it is missing.
    assert!(locks.mutex(r"Global\a_b").try_acquire().unwrap().is_none());
    let strict = with(OsOptions::new().directory(directory.path()).names(NameRule::Strict));
    assert!(strict.mutex(r"Global\a_b").try_acquire().unwrap().is_some());
    drop(held);
}

#[test]
fn a_table_that_is_removed_is_told_and_a_new_one_made() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (locks(directory.path()), locks(directory.path()));
    let (watched, asked) = (one.mutex("a").acquire().unwrap(), one.mutex("b").acquire().unwrap());
    let lost = watched.lost();
    std::fs::remove_file(table(directory.path())).unwrap();
    assert_eq!(asked.ensure_held().unwrap_err().kind(), ErrorKind::Lost);
    pollster::block_on(lost);
    assert_eq!(watched.state(), HoldState::Lost);
    // Within a second everybody finds the new one.
    eventually("the new table is used", || {
        let (mine, theirs) = (one.mutex("c").try_acquire().unwrap(), other.mutex("c").try_acquire().unwrap());
        mine.is_some() && theirs.is_none() && table(directory.path()).exists()
    });
    assert!(matches!(watched.release().unwrap(), Release::AlreadyLost(_)));
}

#[test]
fn a_table_of_another_boot_or_namespace_is_made_anew_when_nobody_uses_it() {
    use std::os::unix::fs::FileExt;
    const TEST: &str = "a_table_of_another_boot_or_namespace_is_made_anew_when_nobody_uses_it";
    if let Some((_, directory)) = role() {
        refused(refusal(&directory), ErrorKind::Misconfigured, "PID namespace");
        std::fs::write(directory.join("refused"), "").unwrap();
        return;
    }
    // Second and third number of the header.
    for at in [8, 16] {
        let directory = tempfile::tempdir().unwrap();
        let path = table(directory.path());
        let locks_now = locks(directory.path());
        let guard = locks_now.mutex("a").acquire().unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&[1; 8], at).unwrap();
        let is_new = || {
            let mut number = [0; 8];
            std::fs::File::open(&path).unwrap().read_exact_at(&mut number, at).unwrap();
            number != [1; 8]
        };
        if at == 16 {
            // In use: whoever comes from elsewhere is told.
            assert!(child(TEST, "stranger", directory.path()).wait().unwrap().success());
            assert!(directory.path().join("refused").exists());
        }
        drop(guard);
        drop(locks_now);
        // The thread of this process leaves the table a moment later.
        eventually("a new table", || {
            locks(directory.path()).mutex("a").try_acquire().is_ok_and(|guard| guard.is_some()) && is_new()
        });
    }
}

#[test]
fn a_process_of_another_pid_namespace_is_refused() {
    const TEST: &str = "a_process_of_another_pid_namespace_is_refused";
    if let Some((_, directory)) = role() {
        refused(refusal(&directory), ErrorKind::Misconfigured, "PID namespace");
        // What it can have for itself alone works there.
        let own = tempfile::tempdir_in(&directory).unwrap();
        assert!(locks(own.path()).mutex("a").try_acquire().unwrap().is_some());
        std::fs::write(directory.join("refused"), "").unwrap();
        return;
    }
    let apart = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]).stdin(Stdio::null()).stdout(Stdio::null());
        unshare
    };
    if !apart().arg("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: no PID namespace can be made here, for which it takes root and unshare(1)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let guard = locks.mutex("a").acquire().unwrap();
    let status = apart()
        .arg(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, "stranger")
        .env(DIRECTORY, directory.path())
        .status()
        .unwrap();
    assert!(status.success() && directory.path().join("refused").exists(), "{status}");
    assert!(guard.ensure_held().is_ok());
}

#[test]
fn the_places_of_the_dead_are_used_again() {
    const TEST: &str = "the_places_of_the_dead_are_used_again";
    if let Some((_, directory)) = role() {
        let locks = locks(&directory);
        let held: Vec<_> = (0..500).map(|number| locks.mutex(format!("{number}")).acquire().unwrap()).collect();
        std::fs::write(directory.join("holding"), "").unwrap();
        std::thread::sleep(LONG * 2);
        drop(held);
    }
    let directory = tempfile::tempdir().unwrap();
    // More than the table has entries, all in all.
    for _ in 0..4 {
        let mut holder = child(TEST, "holder", directory.path());
        eventually("it holds", || directory.path().join("holding").exists());
        holder.kill().unwrap();
        holder.wait().unwrap();
        std::fs::remove_file(directory.path().join("holding")).unwrap();
    }
    let locks = locks(directory.path());
    assert!(locks.mutex("7").try_acquire_for(LONG).unwrap().is_some());
    assert_eq!(locks.list().unwrap().len(), 0, "nothing is left of them");
    let findings = locks.diagnose().unwrap();
    assert!(findings[0].what.contains("1 of 2048 processes, 0 of 32768 holds"), "{findings:?}");
}

#[test]
fn a_full_table_says_so_and_works_again() {
    let directory = tempfile::tempdir().unwrap();
    let locks = locks(directory.path());
    let all = locks.semaphore("many", u32::MAX);
    let mut held = Vec::new();
    // One name would be one long chain: many, as in a program that forgets to release.
    let error = loop {
        match locks.mutex(format!("{}", held.len())).try_acquire() {
            Ok(guard) => held.push(guard.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), 32_768);
    refused(error, ErrorKind::Unavailable, "is full");
    assert_eq!(all.try_acquire().map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
    held.pop();
    assert!(all.try_acquire().unwrap().is_some());
}

#[test]
fn people_see_who_holds_and_who_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (locks(directory.path()), locks(directory.path()));
    assert_eq!(one.list().unwrap(), []);
    let guard = one.mutex("invoice:42").acquire().unwrap();
    let permits: Vec<_> = (0..3).map(|_| one.semaphore("smtp", 5).acquire().unwrap()).collect();
    let long = "n".repeat(200);
    let _long = one.mutex(&long).acquire().unwrap();
    let waiting = other.mutex("invoice:42");
    let waiter = std::thread::spawn(move || waiting.acquire().map(drop));
    eventually("the waiter is seen", || one.inspect("invoice:42", Primitive::Mutex).unwrap().waiters == Some(1));
    let found = one.inspect("invoice:42", Primitive::Mutex).unwrap();
    let holder = &found.holders[0];
    assert!(holder.owner.starts_with(&format!("pid {} (", std::process::id())), "{holder:?}");
    assert_eq!((holder.token, holder.primitive), (guard.token(), Some("mutex")));
    assert!(holder.since.unwrap().elapsed().unwrap_or_default() < LONG);
    let list = one.list().unwrap();
    let names: Vec<_> = list.iter().map(|found| (found.name.as_deref(), found.holders.len())).collect();
    assert!(names.contains(&(Some("invoice:42"), 1)) && names.contains(&(Some("smtp"), 3)), "{names:?}");
    assert!(names.contains(&(None, 1)), "a long name is not kept: {names:?}");
    drop(guard);
    waiter.join().unwrap().unwrap();
    drop(permits);
}

#[test]
fn a_stopped_waiter_keeps_nobody_out() {
    const TEST: &str = "a_stopped_waiter_keeps_nobody_out";
    if let Some((_, directory)) = role() {
        let _ = locks(&directory).mutex("a").acquire().unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (locks(directory.path()), locks(directory.path()));
    let guard = one.mutex("a").acquire().unwrap();
    let mut first = child(TEST, "waiter", directory.path());
    let waits = |count| one.inspect("a", Primitive::Mutex).unwrap().waiters == Some(count);
    eventually("it waits", || waits(1));
    let waiting = other.mutex("a");
    let second = std::thread::spawn(move || waiting.acquire().map(drop));
    eventually("both wait", || waits(2));
    let pid = rustix::process::Pid::from_raw(first.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let status = format!("/proc/{}/status", first.id());
    eventually("it is stopped", || std::fs::read_to_string(&status).unwrap().contains("State:\tT"));
    guard.release().unwrap();
    // The first is told, and can't do anything; the timer of the second finds out.
    second.join().unwrap().unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_program_that_is_run_in_place_of_the_holder_has_no_lock() {
    const TEST: &str = "a_program_that_is_run_in_place_of_the_holder_has_no_lock";
    if let Some((_, directory)) = role() {
        use std::os::unix::process::CommandExt;
        std::mem::forget(locks(&directory).mutex("a").acquire().unwrap());
        std::fs::write(directory.join("holding"), "").unwrap();
        panic!("{}", Command::new("sleep").arg("100").exec());
    }
    let directory = tempfile::tempdir().unwrap();
    let mut holder = child(TEST, "holder", directory.path());
    eventually("it holds", || directory.path().join("holding").exists());
    let guard = locks(directory.path()).mutex("a").try_acquire_for(LONG).unwrap();
    assert!(guard.is_some());
    assert!(holder.try_wait().unwrap().is_none(), "the other program runs");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_forked_child_is_a_process_of_its_own() {
    const TEST: &str = "a_forked_child_is_a_process_of_its_own";
    if let Some((_, directory)) = role() {
        let parent = locks(&directory);
        let guard = parent.mutex("a").acquire().unwrap();
        // SAFETY: this process has threads, but none of them is in the middle of anything: the child can go on.
        #[allow(unsafe_code)]
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            let sound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // What it has from its parent is its parent's.
                let refused = parent.mutex("b").try_acquire().map(drop).unwrap_err().kind() == ErrorKind::Closed;
                drop(guard);
                let own = locks(&directory);
                let taken = own.mutex("b").try_acquire().unwrap();
                let kept = own.mutex("a").try_acquire().unwrap().is_none();
                std::mem::forget(taken);
                refused && kept && locks(&directory).mutex("b").try_acquire().unwrap().is_none()
            }));
            let sound = sound.unwrap_or(false);
            // SAFETY: ends the child at once, without what the parent would do at its end.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(if sound { 7 } else { 1 })
            }
        }
        let mut status = 0;
        // SAFETY: waits for the child that was just made.
        #[allow(unsafe_code)]
        let ended = unsafe { libc::waitpid(forked, &raw mut status, 0) };
        assert!(ended == forked && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status}");
        assert!(parent.mutex("a").try_acquire().unwrap().is_none(), "the child gave nothing back");
        assert!(parent.mutex("b").try_acquire_for(LONG).unwrap().is_some(), "what the child had went with it");
        guard.release().unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut forking = child(TEST, "parent", directory.path());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = forking.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LONG {
            forking.kill().unwrap();
            panic!("parent or child hang");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success());
}
