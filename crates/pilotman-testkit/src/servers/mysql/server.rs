//! One MariaDB or MySQL server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::flavour::{Flavour, Programs};
use super::{ADMIN, ADMIN_PASSWORD, DATABASE, LOCKER, PASSWORD};
use crate::certificates::{self, Certificates};
use crate::process::{self, Process};
use crate::servers::port;
use crate::{servers, user};

/// How long a server may take to come up.
const READY: Duration = Duration::from_secs(60);

/// What a server says about TLS on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// It doesn't speak it.
    Off,
    /// A client may use it.
    Offered,
    /// It refuses clients that don't use it (`require_secure_transport`).
    Demanded,
}

/// One MariaDB or MySQL server on a loopback port. It ends when this is dropped, and can be killed, frozen and restarted
/// on the same port with the same data. It doesn't flush to the disk: its data survives the end of the server, not that
/// of the machine.
#[derive(Debug)]
pub struct MySql {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    programs: Programs,
    extra: Vec<String>,
    encryption: Encryption,
    directory: PathBuf,
    port: u16,
    _home: Option<Arc<TempDir>>,
}

impl MySql {
    /// Starts a server that offers TLS, with these arguments after the usual ones, such as `["--wait-timeout=2"]`.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(flavour: Flavour, extra: &[&str]) -> io::Result<Self> {
        Self::start_with(flavour, Encryption::Offered, extra)
    }

    /// As [`Self::start`], with a certificate of an authority of its own unless TLS is off.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start_with(flavour: Flavour, encryption: Encryption, extra: &[&str]) -> io::Result<Self> {
        let home = servers::home("mysql")?;
        let programs = Programs::new(flavour, servers::program)?;
        Self::launch(programs, encryption, extra, home.path(), Some(home.clone()))
    }

    /// Starts a server with its files in `directory`, on a free port.
    pub(super) fn launch(
        programs: Programs,
        encryption: Encryption,
        extra: &[&str],
        directory: &Path,
        home: Option<Arc<TempDir>>,
    ) -> io::Result<Self> {
        user::make_directory(directory)?;
        if encryption != Encryption::Off {
            user::keep_secret(&Certificates::make(directory)?.server_key)?;
        }
        programs.initialize(directory, &data(directory))?;
        let extra: Vec<String> = extra.iter().map(|&argument| argument.to_owned()).collect();
        let (process, port) = port::on_free(|port| run(&programs, encryption, &extra, directory, port))?;
        let directory = directory.to_owned();
        let server = Self { process, programs, extra, encryption, directory, port, _home: home };
        process::output(&mut server.programs.client(&socket(&server.directory), None, &first_statements()))?;
        Ok(server)
    }

    /// `mysql://locker:pw-locker@127.0.0.1:PORT/locks`, for both servers.
    pub fn url(&self) -> String {
        format!("mysql://{LOCKER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// The same with `localhost`, for clients that compare names with certificates.
    pub fn url_by_name(&self) -> String {
        format!("mysql://{LOCKER}:{PASSWORD}@{}:{}/{DATABASE}", certificates::HOST, self.port)
    }

    /// The URL of the user who may do everything.
    pub fn admin_url(&self) -> String {
        format!("mysql://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Which of the two servers it is.
    pub fn flavour(&self) -> Flavour {
        self.programs.flavour
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory with its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// The file with what the server has said since its last start.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its certificates, and the authority that a client has to trust. `None` when it doesn't speak TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        (self.encryption != Encryption::Off).then(|| Certificates::of(&self.directory))
    }

    /// Runs statements as [`ADMIN`] on a connection of their own through the Unix socket, and returns the rows of the
    /// result: one on each line, with tabs between the columns.
    ///
    /// # Errors
    ///
    /// When the server can't be reached or refuses; then the error has its words.
    pub fn sql(&self, text: &str) -> io::Result<String> {
        process::output(&mut self.programs.admin(&self.socket(), text))
    }

    /// The server's own command-line client, with no settings of the person who runs the tests and no host or user yet.
    pub fn client(&self) -> Command {
        self.programs.bare_client()
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

    /// Kills it if it still runs, and starts it again on the same port with the same arguments and data.
    ///
    /// # Errors
    ///
    /// When it doesn't come up, or somebody else keeps the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let (programs, directory) = (&self.programs, &self.directory);
        self.process = port::on_same(|| run(programs, self.encryption, &self.extra, directory, self.port))?;
        Ok(())
    }

    /// The process.
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

fn socket(directory: &Path) -> PathBuf {
    directory.join("sock")
}

/// The password comes last: until then the administrator is known by having none.
fn first_statements() -> String {
    format!(
        "CREATE DATABASE {DATABASE}; \
         CREATE USER '{LOCKER}'@'%' IDENTIFIED BY '{PASSWORD}'; \
         GRANT ALL PRIVILEGES ON {DATABASE}.* TO '{LOCKER}'@'%'; \
         CREATE USER IF NOT EXISTS '{ADMIN}'@'127.0.0.1' IDENTIFIED BY '{ADMIN_PASSWORD}'; \
         ALTER USER '{ADMIN}'@'127.0.0.1' IDENTIFIED BY '{ADMIN_PASSWORD}'; \
         GRANT ALL PRIVILEGES ON *.* TO '{ADMIN}'@'127.0.0.1' WITH GRANT OPTION; \
         ALTER USER '{ADMIN}'@'localhost' IDENTIFIED BY '{ADMIN_PASSWORD}'"
    )
}

fn run(
    programs: &Programs,
    encryption: Encryption,
    extra: &[String],
    directory: &Path,
    port: u16,
) -> io::Result<Process> {
    let mut command = programs.server(directory)?;
    for (option, path) in
        [("--datadir", data(directory)), ("--socket", socket(directory)), ("--pid-file", directory.join("pid"))]
    {
        command.arg(format!("{option}={}", path.display()));
    }
    command.arg(format!("--port={port}")).args([
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--max-connections=400",
        "--innodb-buffer-pool-size=16M",
        // Nobody needs what a crash of the machine would take.
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-flush-method=nosync",
        "--skip-log-bin",
        // So that tests see who holds and waits for what.
        "--performance-schema=ON",
        "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON",
    ]);
    match programs.flavour {
        Flavour::MariaDb => command.arg("--innodb-log-file-size=8M"),
        // The first would listen on a second port, which is always the same.
        Flavour::MySql => command.args(["--mysqlx=OFF", "--innodb-redo-log-capacity=8M"]),
    };
    if encryption == Encryption::Off {
        command.arg(match programs.flavour {
            Flavour::MariaDb => "--skip-ssl",
            Flavour::MySql => "--tls-version=",
        });
    } else {
        let files = Certificates::of(directory);
        for (option, file) in [("--ssl-ca", files.ca), ("--ssl-cert", files.server), ("--ssl-key", files.server_key)] {
            command.arg(format!("{option}={}", file.display()));
        }
    }
    if encryption == Encryption::Demanded {
        command.arg("--require-secure-transport=ON");
    }
    command.args(extra);
    let name = match programs.flavour {
        Flavour::MariaDb => "mariadbd",
        Flavour::MySql => "mysqld",
    };
    let log = directory.join("log");
    let mut process = Process::spawn(name, command, &log)?;
    // It says so when it has its port. That somebody answers there would not show that it does.
    process.wait_ready(READY, || {
        std::fs::read(&log).is_ok_and(|text| {
            let text = String::from_utf8_lossy(&text);
            text.lines().any(|line| line.contains("ready for connections"))
        })
    })?;
    Ok(process)
}
