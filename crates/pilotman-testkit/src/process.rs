//! One child process of a test: started, waited for, frozen, killed, and never left behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take to end after [`Process::terminate`] asked it to, before it is killed.
pub const GRACE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(5);
/// How much of a log goes into an error.
const TAIL: usize = 2000;

/// A running child. Its output goes to a file. Dropping it kills it, and on Unix all that it started with it; there it
/// is also killed when this process is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Whether the watchdog knows of it.
    watched: bool,
    /// For a server whose children leave its group.
    #[cfg(unix)]
    children: Option<Children>,
}

/// How a server with children of its own is ended when there is time.
#[cfg(unix)]
#[derive(Debug)]
struct Children {
    /// What asks the server to end at once and to clear away what it shares with them.
    quit: rustix::process::Signal,
    /// Those that were stopped with it.
    stopped: Option<crate::tree::Stopped>,
}

impl Process {
    /// Starts `command` with no input and with its output in the file `log`.
    ///
    /// On Unix it leads a process group of its own, so that a Ctrl-C at the test's terminal doesn't end it first.
    ///
    /// # Errors
    ///
    /// When the log can't be written or the program can't be started; the error names it.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let output = File::create(log).map_err(|error| about(error, &format!("cannot write {}", log.display())))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| about(error, &format!("cannot start {name} ({program})")))?;
        // From here on dropping it ends the child.
        let mut process = Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            watched: false,
            #[cfg(unix)]
            children: None,
        };
        process.watch()?;
        Ok(process)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with everything that the process has printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `ready` says so, asking again every few milliseconds.
    ///
    /// # Errors
    ///
    /// When the process ended first, or `within` has passed; with the end of its log.
    pub fn wait_ready(&mut self, within: Duration, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        let start = Instant::now();
        loop {
            // Asked before the probe: another process may answer on the port that this one failed to bind.
            if let Some(status) = self.poll()? {
                return Err(io::Error::other(format!("{} ended ({status}): {}", self.name, self.log_tail())));
            }
            if ready() {
                return Ok(());
            }
            if start.elapsed() >= within {
                let message = format!("{} is not ready after {within:?}: {}", self.name, self.log_tail());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(POLL);
        }
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// When the system can't say.
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.poll()
    }

    /// Waits for it to end by itself, at most this long.
    ///
    /// # Errors
    ///
    /// When it still runs then.
    pub fn wait_exit(&mut self, within: Duration) -> io::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if start.elapsed() >= within {
                let message = format!("{} still runs after {within:?}: {}", self.name, self.log_tail());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(POLL);
        }
    }

    /// Ends it at once, and on Unix its group, and reaps it. Harmless when it has ended already.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        #[cfg(unix)]
        let children = self.stop_children()?;
        #[cfg(unix)]
        if let Some(children) = &children {
            children.kill()?;
        }
        #[cfg(unix)]
        self.signal_group(rustix::process::Signal::KILL)?;
        #[cfg(not(unix))]
        self.child.kill()?;
        let status = self.child.wait()?;
        self.forget();
        #[cfg(unix)]
        if let Some(children) = children {
            children.wait_gone()?;
        }
        Ok(status)
    }

    /// Sees whether it has ended, and reaps it then.
    fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    fn watch(&mut self) -> io::Result<()> {
        #[cfg(unix)]
        crate::watchdog::watch(self.id()).map_err(|error| about(error, "cannot tell the watchdog"))?;
        self.watched = true;
        Ok(())
    }

    /// Its id may be given to somebody else from now on.
    fn forget(&mut self) {
        if !std::mem::take(&mut self.watched) {
            return;
        }
        #[cfg(unix)]
        if let Err(error) = crate::watchdog::forget(self.id()) {
            eprintln!("the watchdog can't be told that {} has ended: {error}", self.name);
        }
    }

    fn log_tail(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) if bytes.is_empty() => "it printed nothing".to_owned(),
            Ok(bytes) => {
                let start = bytes.len().saturating_sub(TAIL);
                format!("its log ends with\n{}", String::from_utf8_lossy(&bytes[start..]))
            }
            Err(error) => format!("its log can't be read: {error}"),
        }
    }
}

#[cfg(unix)]
impl Process {
    /// Stops it without its knowledge (`SIGSTOP` to the group), and returns when it has stopped: a hung server. [`Self::thaw`] lets
    /// it go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.signal_running(rustix::process::Signal::STOP)?;
        let stopped = self.stop_children()?;
        if let Some(children) = &mut self.children {
            children.stopped = stopped;
            return Ok(());
        }
        crate::tree::wait_stopped(rustix::process::Pid::from_child(&self.child))
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn thaw(&mut self) -> io::Result<()> {
        if let Some(stopped) = self.children.as_mut().and_then(|children| children.stopped.take()) {
            stopped.thaw()?;
        }
        self.signal_running(rustix::process::Signal::CONT)
    }

    /// Asks it to end (`SIGTERM` to the group), and kills it after [`GRACE`].
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        self.signal_group(rustix::process::Signal::TERM)?;
        match self.wait_exit(GRACE) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.kill(),
            ended => ended,
        }
    }

    /// For a server whose children leave its group, such as PostgreSQL: [`Self::freeze`], [`Self::thaw`] and
    /// [`Self::kill`] reach them one by one (on Linux only), and dropping this sends the server `quit` first and gives
    /// it [`GRACE`].
    pub(crate) fn with_children(mut self, quit: rustix::process::Signal) -> Self {
        self.children = Some(Children { quit, stopped: None });
        self
    }

    /// Sends it alone a signal that ends it, thawed if need be, and kills it after [`GRACE`].
    pub(crate) fn end_with(&mut self, signal: rustix::process::Signal) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        self.thaw()?;
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .map_err(|error| about(error.into(), &format!("cannot signal {}", self.name)))?;
        match self.wait_exit(GRACE) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.kill(),
            ended => ended,
        }
    }

    fn stop_children(&mut self) -> io::Result<Option<crate::tree::Stopped>> {
        let Some(children) = &mut self.children else { return Ok(None) };
        if let Some(stopped) = children.stopped.take() {
            return Ok(Some(stopped));
        }
        self.signal_group(rustix::process::Signal::STOP)?;
        crate::tree::Stopped::below(rustix::process::Pid::from_child(&self.child)).map(Some)
    }

    fn signal_running(&mut self, signal: rustix::process::Signal) -> io::Result<()> {
        match self.poll()? {
            Some(status) => Err(io::Error::other(format!("{} has ended ({status})", self.name))),
            None => self.signal_group(signal),
        }
    }

    // Only while the child is not reaped: its id, and so its group's, can't have been given to another process.
    fn signal_group(&self, signal: rustix::process::Signal) -> io::Result<()> {
        let group = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(group, signal)
            .map_err(|error| about(error.into(), &format!("cannot signal {}", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(Children { quit, .. }) = self.children
            && let Err(error) = self.end_with(quit)
        {
            eprintln!("{} (process {}) didn't end by itself: {error}", self.name, self.child.id());
        }
        if let Err(error) = self.kill() {
            eprintln!("{} (process {}) was left running: {error}", self.name, self.child.id());
        }
    }
}

/// What a command prints.
///
/// # Errors
///
/// When it can't be started or fails; then the error has its words.
#[cfg(unix)]
pub(crate) fn output(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done =
        command.output().map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned());
    }
    let said = [done.stderr, done.stdout].concat();
    Err(io::Error::other(format!("{program} failed ({}): {}", done.status, String::from_utf8_lossy(&said).trim())))
}

fn about(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
