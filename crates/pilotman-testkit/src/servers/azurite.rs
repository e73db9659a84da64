//! Azurite, which stands in for Azure Storage, as a URL for the tests that only use it and as a type for those that break it.
//!
//! It keeps everything in memory: what it had is gone when it ends.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Scratch, ServerKind, Started, port};
use crate::certificates::Certificates;
use crate::needs::{Package, Program};
use crate::process::Process;
use crate::{servers, user};

/// The account of all URLs.
pub const ACCOUNT: &str = "locker";
/// The key of [`ACCOUNT`].
pub const KEY: &str = "cHctbG9ja2VyLXB3LWxvY2tlci1wdy1sb2NrZXItcHc=";
/// The container of all URLs. It is not there before somebody makes it.
pub const CONTAINER: &str = "locks";

/// How long it may take to come up: it is a big program for Node.js.
const READY: Duration = Duration::from_secs(60);

const PROGRAM: Program = Program { command: "azurite-blob", package: Package::Npm("azurite@3.35.0"), also_in: &[] };
const NODE: Program = Program { command: "node", package: Package::Debian("nodejs"), also_in: &[] };

pub(super) const ONE: ServerKind = ServerKind {
    name: "azurite",
    about: "Azurite 3.35, which stands in for Azure Blob Storage",
    programs: &[NODE, PROGRAM],
    start: |scratch: &Scratch| {
        let programs = [scratch.program(&NODE)?, scratch.program(&PROGRAM)?];
        let server = Azurite::launch(programs, Mode::Plain, scratch.path(), None)?;
        Ok(Started { urls: vec![server.url()], processes: vec![server.process] })
    },
};

/// How an Azurite is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By `http`, with the account's key or a SAS.
    Plain,
    /// By `https`, also with bearer tokens, of which it reads what they claim but can't tell who signed them.
    Tokens,
}

/// One Azurite on a loopback port. It ends when this is dropped, and can be killed, frozen and restarted on the same port;
/// then it is empty.
#[derive(Debug)]
pub struct Azurite {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    programs: [std::path::PathBuf; 2],
    mode: Mode,
    port: u16,
    home: Option<Arc<TempDir>>,
}

impl Azurite {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(mode: Mode) -> io::Result<Self> {
        let home = servers::home("azurite")?;
        let programs = [servers::program(&NODE)?, servers::program(&PROGRAM)?];
        Self::launch(programs, mode, home.path(), Some(home.clone()))
    }

    fn launch(
        programs: [std::path::PathBuf; 2],
        mode: Mode,
        directory: &Path,
        home: Option<Arc<TempDir>>,
    ) -> io::Result<Self> {
        user::make_directory(directory)?;
        if mode == Mode::Tokens {
            user::keep_secret(&Certificates::make(directory)?.server_key)?;
        }
        let (process, port) = port::on_free(|port| run(&programs, mode, directory, port))?;
        Ok(Self { process, programs, mode, port, home })
    }

    /// `azblob://locks?account=…&account-key=…&endpoint=…&create-container=true`.
    pub fn url(&self) -> String {
        let key = KEY.replace('=', "%3D");
        format!(
            "azblob://{CONTAINER}?account={ACCOUNT}&account-key={key}&endpoint={}&create-container=true",
            self.endpoint()
        )
    }

    /// `http://127.0.0.1:PORT/locker`.
    pub fn endpoint(&self) -> String {
        endpoint(self.mode, self.port)
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its certificates, and the authority that a client has to trust. `None` when it doesn't speak TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        let home = self.home.as_ref().filter(|_| self.mode == Mode::Tokens)?;
        Some(Certificates::of(home.path()))
    }

    /// Stops it without its knowledge (`SIGSTOP`): the sockets stay, and nobody answers.
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

    /// Ends it at once (`SIGKILL`).
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again on the same port, empty.
    ///
    /// # Errors
    ///
    /// When it doesn't come up.
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.kill()?;
        let Some(home) = self.home.clone() else {
            return Err(io::Error::other("only a server that a test keeps as its own can be restarted"));
        };
        self.process = port::on_same(|| run(&self.programs, self.mode, home.path(), self.port))?;
        Ok(())
    }
}

/// The endpoint in the URL of a shared server.
pub fn endpoint_of(url: &str) -> Option<&str> {
    url.split_once("endpoint=")?.1.split('&').next()
}

fn endpoint(mode: Mode, port: u16) -> String {
    match mode {
        Mode::Plain => format!("http://127.0.0.1:{port}/{ACCOUNT}"),
        Mode::Tokens => format!("https://127.0.0.1:{port}/{ACCOUNT}"),
    }
}

fn run(programs: &[std::path::PathBuf; 2], mode: Mode, directory: &Path, port: u16) -> io::Result<Process> {
    let [node, program] = programs;
    let mut command = Command::new(node);
    user::give_up_rights(&mut command, directory);
    command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
    let program = program.canonicalize()?;
    command.arg("--require").arg(without_collection(&program, directory)?).arg(&program);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--inMemoryPersistence"]);
    // It would tell its makers of each use.
    command.args(["--disableTelemetry", "--disableProductStyleUrl", "--silent", "--skipApiVersionCheck"]);
    if mode == Mode::Tokens {
        let files = Certificates::of(directory);
        command.arg("--cert").arg(files.server).arg("--key").arg(files.server_key).args(["--oauth", "basic"]);
    }
    let mut process = Process::spawn("azurite", command, &directory.join("azurite.log"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    process.wait_ready(READY, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())?;
    Ok(process)
}

/// A script that Node.js runs first. Every ten minutes Azurite looks for data that no blob refers to, and answers nobody
/// meanwhile, which was seen to take more than a minute after a run of many tests. No test lasts that long that it would matter.
fn without_collection(program: &Path, directory: &Path) -> io::Result<std::path::PathBuf> {
    let constants = program.with_file_name("utils").join("constants.js");
    if !constants.exists() {
        return Err(io::Error::other(format!(
            "{} is not there: this is another version of Azurite",
            constants.display()
        )));
    }
    let script = directory.join("without-collection.js");
    // A string of Rust is one of JavaScript for any path that we make. The longest time that a timer of Node.js can wait for.
    std::fs::write(&script, format!("require({constants:?}).DEFAULT_GC_INTERVAL_MS = 2147483647;\n"))?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_found_in_a_url() {
        assert_eq!(endpoint_of("azblob://c?endpoint=http://127.0.0.1:1/a&x=y"), Some("http://127.0.0.1:1/a"));
        assert_eq!(endpoint_of("redis://h"), None);
    }
}
