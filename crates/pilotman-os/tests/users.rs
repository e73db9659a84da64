//! Two users who share a table, as far as one machine with root can tell.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pilotman_core::blocking::Locks;
use pilotman_os::{OsBackend, OsOptions};

const LONG: Duration = Duration::from_secs(30);
const ROLE: &str = "PILOTMAN_OS_TEST_ROLE";
const USER: &str = "PILOTMAN_OS_TEST_USER";
const DIRECTORY: &str = "PILOTMAN_OS_TEST_DIRECTORY";
/// What begins a line that is meant for the test.
const MARK: &str = "to the test: ";

const ONE: u32 = 65_534;
const OTHER: u32 = 54_321;

fn locks(directory: &Path, shared: bool) -> Locks {
    let options = OsOptions::new().directory(directory).shared(shared);
    Locks::from(pilotman_core::Locks::builder_shared(Arc::new(OsBackend::new(options).unwrap())).build())
}

/// Two users can be had.
fn can_be_others() -> bool {
    // Root of a user namespace may have no other users.
    let becomes = |user: &u32| Command::new("true").uid(*user).gid(*user).status().is_ok_and(|status| status.success());
    let root = rustix::process::geteuid().is_root() && [ONE, OTHER].iter().all(becomes);
    if !root {
        println!("skipped: only root can become two other users");
    }
    root
}

/// A directory that any user can make something in, as `/tmp` is; in `/dev/shm`, since others may not get to the one
/// for temporary files.
fn anybodys() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    mode(directory.path(), 0o1777);
    directory
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A process of another user, which does one thing and says how that went.
struct User {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl User {
    fn start(test: &str, role: &str, user: u32, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(USER, user.to_string())
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// What it says next.
    fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "it ended and said nothing");
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return said.to_owned();
            }
        }
    }

    /// Has a holder let go.
    fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a process of this user for a single answer.
fn ask(test: &str, role: &str, user: u32, directory: &Path) -> String {
    User::start(test, role, user, directory).says()
}

fn token(said: &str) -> u64 {
    said.strip_prefix("taken, token ").unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

/// Does what the role says, as the user that it names, if this is such a process.
fn played() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    become_user(std::env::var(USER).unwrap().parse().unwrap());
    let shared = locks(&directory, role != "private");
    let mutex = shared.mutex("a");
    let guard = match role.as_str() {
        "wait" => {
            println!("{MARK}waits");
            mutex.try_acquire_for(LONG)
        }
        _ => mutex.try_acquire(),
    };
    match guard {
        Ok(Some(guard)) => {
            println!("{MARK}taken, token {}", guard.token().unwrap());
            if role == "hold" {
                // Ends with the test at the latest.
                std::io::stdin().read_line(&mut String::new()).unwrap();
                guard.release().unwrap();
                println!("{MARK}released");
            }
        }
        Ok(None) => println!("{MARK}contended"),
        Err(error) => println!("{MARK}{:?}: {error} ({})", error.kind(), error.advice().unwrap_or_default()),
    }
    true
}

/// For good, and with a umask that keeps all others out.
fn become_user(user: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // SAFETY: plain system calls, which the C library makes in all threads.
    #[allow(unsafe_code)]
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) | libc::setresgid(user, user, user) | libc::setresuid(user, user, user)
    };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn two_users_exclude_each_other_wherever_the_table_is_made() {
    const TEST: &str = "two_users_exclude_each_other_wherever_the_table_is_made";
    if played() || !can_be_others() {
        return;
    }
    let top = anybodys();
    let directory = top.path().join("above/locks");
    let mut holder = User::start(TEST, "hold", ONE, &directory);
    let first = token(&holder.says());
    // For all users, though the first one's umask is 077.
    let modes = [&directory, &top.path().join("above")].map(|path| {
        let stat = std::fs::metadata(path).unwrap();
        assert_eq!(stat.uid(), ONE);
        stat.mode() & 0o7777
    });
    assert_eq!(modes, [0o1777, 0o755]);
    let left: Vec<_> = std::fs::read_dir(top.path().join("above")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    assert_eq!(ask(TEST, "try", OTHER, &directory), "contended");
    assert!(ask(TEST, "private", OTHER, &directory).contains("belongs to another user"));
    let mut waiter = User::start(TEST, "wait", OTHER, &directory);
    assert_eq!(waiter.says(), "waits");
    let seen = locks(&directory, true);
    let holders = seen.inspect("a", pilotman_core::Primitive::Mutex).unwrap().holders;
    assert!(holders.len() == 1 && holders[0].owner.ends_with(&format!("user {ONE}")), "{holders:?}");
    holder.go_on();
    assert_eq!(holder.says(), "released");
    let second = token(&waiter.says());
    assert!(second > first);
    drop(waiter);

    // And a dead holder of one user is found by the other.
    let mut holder = User::start(TEST, "hold", OTHER, &directory);
    let third = token(&holder.says());
    let mut waiter = User::start(TEST, "wait", ONE, &directory);
    assert_eq!(waiter.says(), "waits");
    holder.child.kill().unwrap();
    assert!(token(&waiter.says()) > third);
}

#[test]
fn a_table_of_another_user_serves_all_after_a_boot() {
    const TEST: &str = "a_table_of_another_user_serves_all_after_a_boot";
    if played() || !can_be_others() {
        return;
    }
    let top = anybodys();
    let before = token(&ask(TEST, "try", ONE, top.path()));
    let table = top.path().join("pilotman-os-1-shared");
    let file = std::fs::File::options().write(true).open(&table).unwrap();
    // The second number of the header is that of the boot. Nobody but its owner may remove the table.
    file.write_all_at(&[1; 8], 8).unwrap();
    // And this the last token, here one that the clock has not come to.
    let before = before + 1_000_000_000_000;
    file.write_all_at(&before.to_le_bytes(), 64).unwrap();
    let mut holder = User::start(TEST, "hold", OTHER, top.path());
    assert!(token(&holder.says()) > before);
    assert_eq!(ask(TEST, "try", ONE, top.path()), "contended");
    assert_eq!(std::fs::metadata(&table).unwrap().uid(), ONE, "it is the same file");
    holder.go_on();
    assert_eq!(holder.says(), "released");
    assert!(token(&ask(TEST, "try", ONE, top.path())) > before);
}

#[test]
fn a_directory_that_one_user_can_write_tells_the_others() {
    const TEST: &str = "a_directory_that_one_user_can_write_tells_the_others";
    if played() || !can_be_others() {
        return;
    }
    let top = anybodys();
    let directory = top.path().join("mine");
    std::fs::create_dir(&directory).unwrap();
    mode(&directory, 0o755);
    chown(&directory, Some(ONE), None).unwrap();
    let refused = ask(TEST, "try", OTHER, &directory);
    assert!(refused.starts_with("Misconfigured") && refused.contains("chmod 1777"), "{refused}");
    // Once the table is there, it is everybody's.
    let first = token(&ask(TEST, "try", ONE, &directory));
    assert!(token(&ask(TEST, "try", OTHER, &directory)) > first);
    // Unless somebody has closed it.
    mode(&directory.join("pilotman-os-1-shared"), 0o600);
    let refused = ask(TEST, "try", OTHER, &directory);
    assert!(refused.starts_with("Misconfigured") && refused.contains("chmod 666"), "{refused}");
}
