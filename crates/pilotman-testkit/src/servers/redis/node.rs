//! One server process.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::clock::Clock;
use super::resp::{Client, Reply};
use crate::net;
use crate::process::Process;

/// How long a server may take to come up.
pub(super) const READY: Duration = Duration::from_secs(30);
/// How often a start is tried again with other ports when somebody else took one.
const PORT_TRIES: usize = 5;

/// What a node is started as.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) program: PathBuf,
    pub(super) extra: Vec<OsString>,
    /// A configuration file, which sentinels need since they write to it.
    pub(super) sentinel: Option<PathBuf>,
    /// Whether it takes part in a cluster: it then has a second port for the other nodes.
    pub(super) cluster: bool,
    /// TLS on the port instead of plain text; administration goes through the socket.
    pub(super) tls: bool,
    /// What administration logs in with.
    pub(super) password: Option<&'static str>,
    /// A clock that can be set, instead of the system's.
    pub(super) clock: Option<Clock>,
}

impl Setup {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, extra: Vec::new(), sentinel: None, cluster: false, tls: false, password: None, clock: None }
    }

    pub(super) fn args<S: Into<OsString>>(mut self, extra: impl IntoIterator<Item = S>) -> Self {
        self.extra.extend(extra.into_iter().map(Into::into));
        self
    }
}

/// One Redis server (or Valkey, or Sentinel) on a loopback port. It keeps nothing on disk unless it is told to, ends when
/// this is dropped, and can be killed, frozen and restarted on the same port.
#[derive(Debug)]
pub struct Node {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    setup: Setup,
    directory: PathBuf,
    port: u16,
    bus_port: u16,
    _home: Option<Arc<TempDir>>,
}

impl Node {
    /// Starts Debian's Redis with these arguments after the usual ones, such as `["--appendonly", "yes"]`.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let setup = Setup::new(super::program(&super::REDIS)?).args(extra.iter().copied());
        Self::launch(setup, &home.path().join("node"), Some(home.clone()))
    }

    /// Starts Debian's Redis with a wall clock that [`Self::step_clock`] can set. It shows the right time first.
    ///
    /// # Errors
    ///
    /// When it or libfaketime is not installed, or it doesn't come up; with the end of its log.
    pub fn start_with_clock(extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let mut setup = Setup::new(super::program(&super::REDIS)?).args(extra.iter().copied());
        setup.clock = Some(Clock::new(home.path())?);
        Self::launch(setup, &home.path().join("node"), Some(home.clone()))
    }

    /// Starts a node with its files in `directory`, on a free port.
    pub(super) fn launch(setup: Setup, directory: &Path, home: Option<Arc<TempDir>>) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut tries = 1;
        loop {
            let ports = net::free_ports(2)?;
            match run(&setup, directory, ports[0], ports[1]) {
                Ok(process) => {
                    let directory = directory.to_owned();
                    return Ok(Self { process, setup, directory, port: ports[0], bus_port: ports[1], _home: home });
                }
                Err(error) if tries < PORT_TRIES && port_taken(&error) => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for the other nodes of a cluster.
    pub(super) fn bus_port(&self) -> u16 {
        self.bus_port
    }

    /// `redis://127.0.0.1:PORT`, or with `rediss` if it speaks TLS.
    pub fn url(&self) -> String {
        format!("{}://{}:{}", if self.setup.tls { "rediss" } else { "redis" }, Ipv4Addr::LOCALHOST, self.port)
    }

    /// The directory with its files and log.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens a connection for administration, with all rights and past TLS.
    ///
    /// # Errors
    ///
    /// When the server doesn't accept it.
    pub fn connect(&self) -> io::Result<Client> {
        connect(&self.setup, &self.directory, self.port)
    }

    /// Runs one command on a connection of its own.
    ///
    /// # Errors
    ///
    /// When the server can't be reached or refuses; then the error has its words.
    pub fn cli(&self, command: &[&str]) -> io::Result<Reply> {
        self.connect()?.call(command)
    }

    /// One field of `INFO`.
    ///
    /// # Errors
    ///
    /// When the server can't be reached, or has no such field.
    pub fn info(&self, field: &str) -> io::Result<String> {
        let all = self.cli(&["INFO", "everything"])?.to_string();
        let value = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned).ok_or_else(|| io::Error::other(format!("INFO has no field {field:?}")))
    }

    /// Ends it with `SIGKILL`.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.kill()
    }

    /// Asks it to end, as an administrator would (`SIGTERM`), and waits for that.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.process.terminate()
    }

    /// Sets its wall clock forward by so many seconds, or back if they are negative, at once and while it runs.
    ///
    /// # Errors
    ///
    /// When it was not started with [`Self::start_with_clock`].
    pub fn step_clock(&self, seconds: i64) -> io::Result<()> {
        let Some(clock) = &self.setup.clock else {
            return Err(io::Error::other("the clock of this node is the system's: use start_with_clock"));
        };
        clock.set(clock.offset()? + seconds)
    }

    /// Stops it without its knowledge (`SIGSTOP`): its sockets stay, and nobody answers.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.process.freeze()
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.process.thaw()
    }

    /// Kills it if it still runs, and starts it again on the same port with the same arguments and directory. What it
    /// had in memory is gone, unless its arguments made it write that to disk.
    ///
    /// # Errors
    ///
    /// When it doesn't come up, or somebody else keeps the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let start = Instant::now();
        loop {
            match run(&self.setup, &self.directory, self.port, self.bus_port) {
                Ok(process) => {
                    self.process = process;
                    return Ok(());
                }
                // A client's socket may have been given the number in between; most of them don't live long.
                Err(error) if port_taken(&error) && start.elapsed() < READY => thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error),
            }
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(super) fn into_process(self) -> Process {
        self.process
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join(super::ADMIN_SOCKET)
}

fn connect(setup: &Setup, directory: &Path, port: u16) -> io::Result<Client> {
    let mut client = if setup.tls { Client::connect_unix(&socket(directory)) } else { Client::connect(port) }?;
    if let Some(password) = setup.password {
        client.call(&["AUTH", password])?;
    }
    Ok(client)
}

fn port_taken(error: &io::Error) -> bool {
    error.to_string().contains("Address already in use")
}

fn run(setup: &Setup, directory: &Path, port: u16, bus_port: u16) -> io::Result<Process> {
    let (port_text, bus_text) = (port.to_string(), bus_port.to_string());
    let mut command = Command::new(&setup.program);
    if let Some(configuration) = &setup.sentinel {
        command.arg(configuration).arg("--sentinel");
    }
    command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--dir"]).arg(directory);
    if setup.tls {
        command.args(["--port", "0", "--tls-port", &port_text, "--unixsocket"]).arg(socket(directory));
    } else {
        command.args(["--port", &port_text]);
    }
    if setup.sentinel.is_none() {
        // Replicas are sent their first copy at once, not after five seconds.
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
    }
    if setup.cluster {
        command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout"]);
        // Without its own port the bus uses the port plus 10 000, which may not exist.
        command.args(["1000", "--cluster-port", &bus_text]);
    }
    command.args(&setup.extra);
    if let Some(clock) = &setup.clock {
        command.envs(clock.variables());
    }
    let name = setup.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut process = Process::spawn(&name, command, &directory.join("log"))?;
    let pid = process.id();
    let ready = process.wait_ready(READY, || is_this(setup, directory, port, pid));
    if setup.clock.is_some() {
        super::clock::tidy_up(pid);
    }
    ready?;
    Ok(process)
}

/// Whether the server answers and is the one that was started: a port may have been taken by another server. (A replica
/// that has no primary yet is ready, too.)
fn is_this(setup: &Setup, directory: &Path, port: u16, pid: u32) -> bool {
    let answer = connect(setup, directory, port).and_then(|mut client| client.call(&["INFO", "server"]));
    answer.is_ok_and(|info| info.to_string().lines().any(|line| line == format!("process_id:{pid}")))
}
