//! A connection pool before a server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use tempfile::TempDir;

use super::release::Release;
use super::server::READY;
use super::{Encryption, LOCKER, PASSWORD, Postgres};
use crate::process::Process;
use crate::servers::{Scratch, Started, port};
use crate::{servers, user};

/// For how long a client has a server's connection for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// As long as it is connected.
    Session,
    /// For one transaction, so that what a session holds is anybody's.
    Transaction,
}

/// PgBouncer on a loopback port before a [`Postgres`]. It ends when this is dropped, and can be killed, frozen and
/// restarted on the same port.
#[derive(Debug)]
pub struct PgBouncer {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    program: PathBuf,
    directory: PathBuf,
    pooling: Pooling,
    behind: u16,
    port: u16,
    _home: Option<Arc<TempDir>>,
}

impl PgBouncer {
    /// Starts Debian's PgBouncer before this server.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(pooling: Pooling, server: &Postgres) -> io::Result<Self> {
        let home = servers::home("pgbouncer")?;
        let program = servers::program(&super::PGBOUNCER)?;
        Self::launch(program, pooling, server.port(), home.path(), Some(home.clone()))
    }

    fn launch(
        program: PathBuf,
        pooling: Pooling,
        behind: u16,
        directory: &Path,
        home: Option<Arc<TempDir>>,
    ) -> io::Result<Self> {
        user::make_directory(directory)?;
        let (process, port) = port::on_free(|port| run(&program, pooling, behind, directory, port))?;
        Ok(Self { process, program, directory: directory.to_owned(), pooling, behind, port, _home: home })
    }

    /// `postgres://locker:pw-locker@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        super::url("127.0.0.1", self.port)
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with what it has said since its last start.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Stops it without its knowledge (`SIGSTOP`): its sockets stay, and nobody answers.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.process.freeze()
    }

    /// Lets it go on when it is frozen.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.process.thaw()
    }

    /// Ends it with `SIGKILL`.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.kill()
    }

    /// Kills it if it still runs, and starts it again on the same port.
    ///
    /// # Errors
    ///
    /// When it doesn't come up, or somebody else keeps the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.process = port::on_same(|| run(&self.program, self.pooling, self.behind, &self.directory, self.port))?;
        Ok(())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The pool, and after it the server behind it.
pub(super) fn start(scratch: &Scratch) -> io::Result<Started> {
    user::make_directory(scratch.path())?;
    let release = Release::new(|program| scratch.program(program), &super::INITDB, &super::SERVER)?;
    let server = Postgres::launch(release, Encryption::Off, &[], &scratch.path().join("postgres"), None)?;
    let program = scratch.program(&super::PGBOUNCER)?;
    let directory = scratch.path().join("pgbouncer");
    let pool = PgBouncer::launch(program, Pooling::Transaction, server.port(), &directory, None)?;
    Ok(Started { urls: vec![pool.url(), server.url()], processes: vec![pool.process, server.into_process()] })
}

fn run(program: &Path, pooling: Pooling, behind: u16, directory: &Path, port: u16) -> io::Result<Process> {
    let users = directory.join("users.txt");
    user::write_secret(&users, &format!("\"{LOCKER}\" \"{PASSWORD}\"\n"))?;
    let mode = match pooling {
        Pooling::Session => "session",
        Pooling::Transaction => "transaction",
    };
    let configuration = directory.join("pgbouncer.ini");
    let text = format!(
        "[databases]\n\
         * = host=127.0.0.1 port={behind}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {}\n\
         admin_users = {LOCKER}\n\
         pool_mode = {mode}\n\
         max_client_conn = 1500\n\
         default_pool_size = 1000\n\
         ignore_startup_parameters = extra_float_digits\n",
        users.display()
    );
    fs::write(&configuration, text)?;
    let mut command = Command::new(program);
    user::give_up_rights(&mut command, directory);
    command.arg(configuration);
    let log = directory.join("log");
    let mut process = Process::spawn("pgbouncer", command, &log)?;
    // It says so when it has its port. That somebody answers there would not show that it does.
    process.wait_ready(READY, || fs::read_to_string(&log).is_ok_and(|text| text.contains("process up:")))?;
    Ok(process)
}
