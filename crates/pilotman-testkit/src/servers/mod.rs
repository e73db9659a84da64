//! The servers that the tests know how to start. A backend that needs one adds a [`ServerKind`] to [`SERVERS`].
//!
//! A test that only uses a server takes a [`shared`] one; a test that breaks it starts its own, by the types of
//! the modules here.

#[cfg(unix)]
pub mod azurite;
#[cfg(unix)]
pub mod mysql;
#[cfg(unix)]
mod port;
#[cfg(unix)]
pub mod postgres;
#[cfg(unix)]
pub mod redis;
mod shared;
#[cfg(unix)]
pub mod zookeeper;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::needs::{self, Program};
use crate::process::Process;

pub use shared::{
    SEARCH_VARIABLE, SKIP_VARIABLE, Shared, installed_in, is_skipped, search, shared, shared_or_skip, variables,
};

/// Every known server.
pub const SERVERS: &[ServerKind] = &[
    #[cfg(unix)]
    redis::ONE,
    #[cfg(unix)]
    redis::TLS,
    #[cfg(unix)]
    redis::SENTINEL,
    #[cfg(unix)]
    redis::CLUSTER,
    #[cfg(unix)]
    redis::NEWEST,
    #[cfg(unix)]
    redis::VALKEY,
    #[cfg(unix)]
    redis::QUORUM,
    #[cfg(unix)]
    postgres::ONE,
    #[cfg(unix)]
    postgres::NEWEST,
    #[cfg(unix)]
    postgres::POOLED,
    #[cfg(unix)]
    mysql::MARIADB,
    #[cfg(unix)]
    mysql::MYSQL,
    #[cfg(unix)]
    zookeeper::ONE,
    #[cfg(unix)]
    zookeeper::THREE,
    #[cfg(unix)]
    azurite::ONE,
];

/// A kind of server: what it takes, and how to start a throw-away one.
#[derive(Clone, Copy)]
pub struct ServerKind {
    /// The name to start it by.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The programs that must be there.
    pub programs: &'static [Program],
    /// Starts one on loopback, with its data in the scratch directory, and returns when it answers.
    pub start: fn(&Scratch) -> io::Result<Started>,
}

impl fmt::Debug for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKind").field("name", &self.name).field("programs", &self.programs).finish_non_exhaustive()
    }
}

/// What [`ServerKind::start`] returns: the processes, and where the server can be reached.
#[derive(Debug)]
pub struct Started {
    /// The processes that it consists of.
    pub processes: Vec<Process>,
    /// What to connect to: a URL that `Locks::connect` takes, one per endpoint.
    pub urls: Vec<String>,
}

/// Where one server keeps its data, and where its programs are.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    search: Vec<PathBuf>,
}

impl Scratch {
    fn new(search: &[PathBuf]) -> io::Result<Self> {
        Ok(Self { directory: tempfile::Builder::new().prefix("pilotman-server-").tempdir()?, search: search.to_vec() })
    }

    /// An empty directory, removed with the server.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The full path of a program.
    ///
    /// # Errors
    ///
    /// When it is not installed; the error says what has it.
    pub fn program(&self, program: &Program) -> io::Result<PathBuf> {
        needs::find(program, &self.search).ok_or_else(|| not_installed(program))
    }
}

/// The full path of a program, for servers that a test keeps as a typed value.
#[cfg(unix)]
fn program(program: &Program) -> io::Result<PathBuf> {
    needs::find(program, &search()).ok_or_else(|| not_installed(program))
}

/// A directory for such a server, called after what it is.
#[cfg(unix)]
fn home(what: &str) -> io::Result<std::sync::Arc<TempDir>> {
    Ok(std::sync::Arc::new(tempfile::Builder::new().prefix(&format!("pilotman-{what}-")).tempdir()?))
}

fn not_installed(program: &Program) -> io::Error {
    let message = format!(
        "{} is not installed; the package {} has it: `cargo xtask test --install`",
        program.command, program.package
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// A server that runs until this is dropped; its data goes with it.
#[derive(Debug)]
pub struct Running {
    // The order matters: the processes end before their data is removed.
    started: Started,
    scratch: Scratch,
}

impl Running {
    /// What to connect to: a URL that `Locks::connect` takes, one per endpoint.
    pub fn urls(&self) -> &[String] {
        &self.started.urls
    }

    /// The processes, to freeze or kill.
    pub fn processes(&mut self) -> &mut [Process] {
        &mut self.started.processes
    }

    /// The directory with its data and logs.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }
}

/// The server of this name.
pub fn find(name: &str) -> Option<&'static ServerKind> {
    SERVERS.iter().find(|kind| kind.name == name)
}

/// The programs of a server that are not installed.
pub fn missing(kind: &ServerKind, search: &[PathBuf]) -> Vec<Program> {
    kind.programs.iter().filter(|program| needs::find(program, search).is_none()).copied().collect()
}

/// Starts a server with its programs from `PATH` or the directories of `search`, and waits until it answers.
///
/// # Errors
///
/// When a program is missing, or the server doesn't come up; with the end of its log.
pub fn start(kind: &ServerKind, search: &[PathBuf]) -> io::Result<Running> {
    let scratch = Scratch::new(search)?;
    let started = (kind.start)(&scratch)?;
    Ok(Running { started, scratch })
}
