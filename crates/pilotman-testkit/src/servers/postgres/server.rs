//! One PostgreSQL server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::release::{self, Release};
use crate::certificates::{self, Certificates};
use crate::process::{self, Process};
use crate::servers::port;
use crate::{servers, user};

/// How long a server may take to come up.
pub(super) const READY: Duration = Duration::from_secs(30);

/// Connections that a server takes, which a standby must not take less of.
const CONNECTIONS: &str = "max_connections=1500";

/// What a server says about TLS on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// It doesn't speak it.
    Off,
    /// A client may use it.
    Offered,
    /// It speaks it, and `pg_hba.conf` has no line for clients that don't.
    Demanded,
    /// It speaks it, but `pg_hba.conf` has no line for clients that do.
    Refused,
}

/// One PostgreSQL server on a loopback port. It ends when this is dropped, and can be killed, frozen and restarted on the
/// same port with the same data. It doesn't flush to the disk: its data survives the end of the server, not that of the
/// machine.
#[derive(Debug)]
pub struct Postgres {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    release: Release,
    settings: Vec<String>,
    encryption: Encryption,
    directory: PathBuf,
    port: u16,
    _home: Option<Arc<TempDir>>,
}

impl Postgres {
    /// Starts Debian's server without TLS and with these settings, such as `["deadlock_timeout=200ms"]`.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(settings: &[&str]) -> io::Result<Self> {
        Self::start_with(Encryption::Off, settings)
    }

    /// As [`Self::start`], with a certificate of an authority of its own unless TLS is off.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start_with(encryption: Encryption, settings: &[&str]) -> io::Result<Self> {
        let home = servers::home("postgres")?;
        let release = Release::new(servers::program, &super::INITDB, &super::SERVER)?;
        Self::launch(release, encryption, settings, home.path(), Some(home.clone()))
    }

    /// As [`Self::start`], with the newest server that the tests know.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start_newest(settings: &[&str]) -> io::Result<Self> {
        let home = servers::home("postgres")?;
        let release = Release::new(servers::program, &super::NEWEST_INITDB, &super::NEWEST_SERVER)?;
        Self::launch(release, Encryption::Off, settings, home.path(), Some(home.clone()))
    }

    /// Starts a server that copies this one and can only be read. It has this one's TLS, certificates included, and goes
    /// on by itself when this one is gone.
    ///
    /// # Errors
    ///
    /// When this is not Debian's server, or the copy can't be made or doesn't come up.
    pub fn standby(&self, settings: &[&str]) -> io::Result<Self> {
        let home = servers::home("postgres")?;
        let directory = home.path();
        user::make_directory(directory)?;
        let mut copy = Command::new(servers::program(&super::BASEBACKUP)?);
        user::give_up_rights(&mut copy, directory);
        copy.arg("-D").arg(data(directory)).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        release::connection(&mut copy, &self.directory, self.port);
        process::output(&mut copy)?;
        if self.encryption != Encryption::Off {
            let (from, to) = (Certificates::of(&self.directory), Certificates::of(directory));
            for (from, to) in [(from.ca, to.ca), (from.server, to.server), (from.server_key, to.server_key)] {
                fs::copy(from, to)?;
            }
            user::keep_secret(&Certificates::of(directory).server_key)?;
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let release = self.release.clone();
        Self::run_in(directory.to_owned(), release, self.encryption, settings, Some(home.clone()))
    }

    /// Starts a server with its files in `directory`, on a free port.
    pub(super) fn launch(
        release: Release,
        encryption: Encryption,
        settings: &[&str],
        directory: &Path,
        home: Option<Arc<TempDir>>,
    ) -> io::Result<Self> {
        user::make_directory(directory)?;
        release.initialize(directory, &data(directory))?;
        fs::write(data(directory).join("pg_hba.conf"), rules(encryption))?;
        if encryption != Encryption::Off {
            user::keep_secret(&Certificates::make(directory)?.server_key)?;
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self::run_in(directory.to_owned(), release, encryption, settings, home)
    }

    fn run_in(
        directory: PathBuf,
        release: Release,
        encryption: Encryption,
        settings: Vec<String>,
        home: Option<Arc<TempDir>>,
    ) -> io::Result<Self> {
        let (process, port) = port::on_free(|port| run(&release, encryption, &settings, &directory, port))?;
        Ok(Self { process, release, settings, encryption, directory, port, _home: home })
    }

    /// `postgres://locker:pw-locker@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        super::url("127.0.0.1", self.port)
    }

    /// The same with `localhost`, for clients that compare names with certificates.
    pub fn url_by_name(&self) -> String {
        super::url(certificates::HOST, self.port)
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with its files. Its Unix socket is there, too.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file with what the server has said since its last start.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its certificates, and the authority that a client has to trust. `None` when it doesn't speak TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        (self.encryption != Encryption::Off).then(|| Certificates::of(&self.directory))
    }

    /// Runs statements as the superuser on a connection of their own, past TLS and `pg_hba.conf`, and returns the rows
    /// of the result: one on each line, with `|` between the columns.
    ///
    /// # Errors
    ///
    /// When the server can't be reached or refuses; then the error has its words.
    pub fn sql(&self, text: &str) -> io::Result<String> {
        process::output(&mut self.release.psql(&self.directory, self.port, text))
    }

    /// Stops it and all its connections without their knowledge (`SIGSTOP`): the sockets stay, and nobody answers.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.process.freeze()
    }

    /// Lets a frozen server and its connections go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn thaw(&mut self) -> io::Result<()> {
        self.process.thaw()
    }

    /// Ends it and all its connections with `SIGKILL`.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        let status = self.process.kill()?;
        remove_shared_memory(&data(&self.directory));
        Ok(status)
    }

    /// Asks it to end, as an administrator would who doesn't wait for clients (`SIGINT`), and waits for that.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.process.end_with(Signal::INT)
    }

    /// Kills it if it still runs, and starts it again on the same port with the same settings and data.
    ///
    /// # Errors
    ///
    /// When it doesn't come up, or somebody else keeps the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let (release, directory) = (&self.release, &self.directory);
        self.process = port::on_same(|| run(release, self.encryption, &self.settings, directory, self.port))?;
        Ok(())
    }

    /// The server's first process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(super) fn into_process(self) -> Process {
        self.process
    }
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Who may come in: the tests through the socket, and clients as they are asked to.
fn rules(encryption: Encryption) -> String {
    let kind = match encryption {
        Encryption::Off | Encryption::Offered => "host",
        Encryption::Demanded => "hostssl",
        Encryption::Refused => "hostnossl",
    };
    format!(
        "local all all scram-sha-256\n\
         local replication all scram-sha-256\n\
         {kind} all all 127.0.0.1/32 scram-sha-256\n"
    )
}

fn run(
    release: &Release,
    encryption: Encryption,
    settings: &[String],
    directory: &Path,
    port: u16,
) -> io::Result<Process> {
    let mut command = release.server(directory)?;
    command.arg("-D").arg(data(directory)).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", directory.display()));
    let fixed = [
        CONNECTIONS,
        "shared_buffers=16MB",
        // Nobody needs what a crash of the machine would take.
        "fsync=off",
        "full_page_writes=off",
        // In the data directory, and so gone with it.
        "dynamic_shared_memory_type=mmap",
        "logging_collector=off",
    ];
    for setting in fixed {
        command.args(["-c", setting]);
    }
    if encryption != Encryption::Off {
        let files = Certificates::of(directory);
        command.args(["-c", "ssl=on"]);
        for (name, file) in
            [("ssl_ca_file", files.ca), ("ssl_cert_file", files.server), ("ssl_key_file", files.server_key)]
        {
            command.arg("-c").arg(format!("{name}={}", file.display()));
        }
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let mut process = Process::spawn("postgres", command, &directory.join("log"))?.with_children(Signal::QUIT);
    // Only this server has its socket in this directory.
    process.wait_ready(READY, || {
        directory.join(format!(".s.PGSQL.{port}")).exists()
            && process::output(&mut release.psql(directory, port, "SELECT 1")).is_ok()
    })?;
    Ok(process)
}

/// A server that was killed leaves a small piece of memory that is to keep a second one from its data. It would outlive
/// the data.
fn remove_shared_memory(data: &Path) {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    // The key and the id are in the seventh line.
    if let Some(id) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        // A server that is started before it is gone removes it, too.
        let _ = Command::new("ipcrm").args(["-m", id]).output();
    }
}
