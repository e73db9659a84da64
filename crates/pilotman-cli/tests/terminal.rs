//! Job control, on a pseudo-terminal with an interactive shell, as a person has it.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use nix::pty::openpty;

/// An interactive shell on a terminal of its own.
struct Session {
    shell: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    seen: usize,
}

impl Session {
    fn start(place: &Place) -> Self {
        let pty = openpty(None, None).unwrap();
        let (keyboard, slave) = (File::from(pty.master), File::from(pty.slave));
        let mut command = Command::new("sh");
        command.arg("-i").current_dir(place.path(""));
        command.env("PILOTMAN_BACKEND", place.url()).env("PS1", "ready> ").env("ENV", "/dev/null").env("TERM", "dumb");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        #[expect(unsafe_code, reason = "a session with a terminal is made between fork and exec")]
        // SAFETY: two system calls, on the child's own standard input.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match nix::libc::ioctl(0, nix::libc::TIOCSCTTY as _, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let shell = command.spawn().unwrap();
        drop(command);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (keyboard.try_clone().unwrap(), screen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let mut session = Self { shell, keyboard, screen, seen: 0 };
        session.expect("ready> ");
        session
    }

    /// Types `keys`. What they are is echoed, so words that are waited for must not stand in them as they are.
    fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` appears after what was expected last; returns what stands between.
    fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap().clone();
            if let Some(at) = screen[self.seen..].find(text) {
                let between = screen[self.seen..][..at].to_owned();
                self.seen += at + text.len();
                return between;
            }
            assert!(start.elapsed() < LONG, "no {text:?} after {:?} in {screen:?}", &screen[..self.seen]);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The terminal hangs up, which ends whoever is left on it.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn me() -> &'static str {
    env!("CARGO_BIN_EXE_pilotman")
}

#[test]
fn a_child_can_use_the_terminal() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.send(&format!("{} run x -- sh -c 'echo wa\"\"iting; read a; echo \"got\"\"-$a\"'\n", me()));
    session.expect("waiting");
    session.send("hello\n");
    session.expect("got-hello");
    session.expect("ready> ");
}

#[test]
fn ctrl_c_ends_the_child_and_the_shell_sees_it() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.send(&format!("WAIT_TO_BE_ENDED=1 {} run x -- {}\n", me(), waiter()));
    session.expect("the child is up");
    session.send("\x03");
    session.expect("ready> ");
    session.send("echo status-$?\n");
    session.expect("status-130");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 0);
}

/// A child that prints "the child is up" and then does nothing until a signal ends it. `sh -c 'echo running; sleep 600'` would not
/// do: where a shell starts its command by `vfork`, it can lose a Ctrl-C at that moment, and both go on.
fn waiter() -> String {
    format!("{} --exact wait_to_be_ended --nocapture", std::env::current_exe().unwrap().display())
}

/// Not a test but that child.
#[test]
fn wait_to_be_ended() {
    if std::env::var_os("WAIT_TO_BE_ENDED").is_some() {
        println!("the child is up");
        thread::sleep(Duration::from_secs(600));
    }
}

#[test]
fn ctrl_c_reaches_the_child_once() {
    let place = Place::new();
    for in_script in [false, true] {
        let mut session = Session::start(&place);
        let counter = std::env::current_exe().unwrap();
        let command =
            format!("COUNT_INTERRUPTS=1 {} run x -- {} --exact count_interrupts --nocapture", me(), counter.display());
        if in_script {
            // The shell around it gets the signal too, and must not die of it before the result is there.
            place.write("script", &format!("trap : INT\n{command}\n"));
            session.send("sh script\n");
        } else {
            session.send(&format!("{command}\n"));
        }
        session.expect("counting");
        session.send("\x03");
        session.expect("interrupts: 1.");
    }
}

/// Not a test but the child of the one above.
#[test]
fn count_interrupts() {
    use nix::sys::signal::Signal;
    if std::env::var_os("COUNT_INTERRUPTS").is_none() {
        return;
    }
    #[expect(unsafe_code, reason = "a handler is the only way to count a signal in a program with other threads")]
    // SAFETY: the handler increments an atomic.
    unsafe {
        let action = nix::sys::signal::SigHandler::Handler(count);
        nix::sys::signal::signal(Signal::SIGINT, action).unwrap();
    }
    println!("counting");
    until("an interrupt", || COUNTED.load(std::sync::atomic::Ordering::SeqCst) > 0);
    thread::sleep(Duration::from_millis(300));
    println!("interrupts: {}.", COUNTED.load(std::sync::atomic::Ordering::SeqCst));
}

static COUNTED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    COUNTED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.send(&format!("{} run x -- sh -c 'echo wa\"\"iting; read a; echo \"got\"\"-$a\"'\n", me()));
    session.expect("waiting");
    session.send("\x1a");
    session.expect("ready> ");
    session.send("jobs\n");
    let stopped = session.expect("pilotman") + &session.expect("ready> ");
    assert!(stopped.contains("Stopped") || stopped.contains("Suspended"), "{stopped}");
    assert_eq!(code(&place.run(&["run", "-n", "x", "--", "true"])), 75, "the lock is still held");

    session.send("fg\n");
    session.expect("pilotman");
    session.send("hello\n");
    session.expect("got-hello");
    session.expect("ready> ");
}

#[test]
fn a_job_in_the_background_is_stopped_when_it_wants_the_terminal() {
    let place = Place::new();
    let mut session = Session::start(&place);
    session.send(&format!("{} run x -- sh -c 'echo wa\"\"iting; read a; echo \"got\"\"-$a\"' &\n", me()));
    session.expect("waiting");
    until("the job is stopped", || {
        session.send("jobs\n");
        thread::sleep(Duration::from_millis(100));
        let screen = session.screen.lock().unwrap();
        screen.contains("Stopped") || screen.contains("Suspended")
    });
    session.send("fg\n");
    session.expect("fg");
    session.send("hello\n");
    session.expect("got-hello");
}

#[test]
fn in_a_script_ctrl_c_ends_the_script_too() {
    let place = Place::new();
    let mut session = Session::start(&place);
    for child in [&waiter(), "sh -c 'echo the child is up; read a'"] {
        place.write("script", &format!("WAIT_TO_BE_ENDED=1 {} run x -- {child}\necho 'went on'\n", me()));
        session.send("sh script\n");
        session.expect("the child is up");
        // The second one has to get the terminal first, which it does by being stopped for reading.
        thread::sleep(Duration::from_millis(200));
        session.send("\x03");
        let said = session.expect("ready> ");
        assert!(!said.contains("went on"), "{said}");
    }
}

#[test]
fn in_a_script_the_child_gets_the_terminal_when_it_reads_it() {
    let place = Place::new();
    let mut session = Session::start(&place);
    place.write("script", &format!("{} run x -- sh -c 'read a; echo \"got-$a\"'\nread b\necho \"then-$b\"\n", me()));
    session.send("sh script\n");
    session.send("hello\n");
    session.expect("got-hello");
    session.send("world\n");
    session.expect("then-world");
}

#[test]
fn waiting_is_told_on_a_terminal() {
    let place = Place::new();
    let holder = place.hold("x", &[]);
    let mut session = Session::start(&place);
    session.send(&format!("{} run x -- echo its\"\" turn\n", me()));
    session.expect("pilotman: waiting for 'x', held by pid");
    drop(holder);
    session.expect("its turn");
}

#[test]
fn ctrl_c_ends_the_wait() {
    let place = Place::new();
    let _holder = place.hold("x", &[]);
    let mut session = Session::start(&place);
    session.send(&format!("{} run x -- echo its\"\" turn\n", me()));
    session.expect("waiting for 'x'");
    session.send("\x03");
    let said = session.expect("ready> ");
    assert!(!said.contains("its turn"), "{said}");
    session.send("echo status-$?\n");
    session.expect("status-130");
}
