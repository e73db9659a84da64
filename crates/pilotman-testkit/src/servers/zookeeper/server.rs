//! One ZooKeeper: alone, or a member of an ensemble.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::java;
use super::words::{self, Mode};
use crate::certificates::Certificates;
use crate::process::Process;
use crate::servers::port;
use crate::{net, servers, user};

/// How long a server may take to come up.
const READY: Duration = Duration::from_secs(60);
/// What all servers have. Time-outs of sessions can be short.
const CONFIGURATION: &str = "tickTime=200
minSessionTimeout=400
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
forceSync=no
";

/// The user of [`Security::Sasl`].
pub const SASL_USER: &str = "locker";
/// The password of [`SASL_USER`].
pub const SASL_PASSWORD: &str = "pg-locker-pw";
/// Where a server reads who may come by SASL.
const JAAS: &str = "jaas.conf";

/// How clients are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Anybody, unencrypted.
    Open,
    /// Who shows by SASL, with `DIGEST-MD5`, that he is [`SASL_USER`], unencrypted.
    Sasl,
    /// By TLS on a second port, with a certificate of an authority of its own; no certificate is asked of the client.
    Tls,
}

/// One ZooKeeper on a loopback port. It ends when this is dropped, and can be killed, frozen and restarted on the same port
/// with the same data. It doesn't flush to the disk: its data survives the end of the server, not that of the machine.
#[derive(Debug)]
pub struct ZooKeeper {
    // The order matters: the process ends before its directory is removed.
    process: Process,
    setup: Setup,
    _home: Option<Arc<TempDir>>,
}

/// How a server is started, and started again.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) java: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) port: u16,
    pub(super) secure_port: Option<u16>,
    /// More lines of the configuration.
    pub(super) lines: Vec<String>,
}

impl ZooKeeper {
    /// Starts a server with these further lines in its configuration, such as `["maxSessionTimeout=1000"]`.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start(lines: &[&str]) -> io::Result<Self> {
        Self::start_with(Security::Open, lines)
    }

    /// As [`Self::start`], with clients let in so.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up; with the end of its log.
    pub fn start_with(security: Security, lines: &[&str]) -> io::Result<Self> {
        let home = servers::home("zookeeper")?;
        let mut server = Self::launch(java(servers::program)?, lines, security, home.path())?;
        server._home = Some(home);
        Ok(server)
    }

    /// Starts a server with its files in `directory`, on free ports.
    pub(super) fn launch(java: PathBuf, lines: &[&str], security: Security, directory: &Path) -> io::Result<Self> {
        user::make_directory(directory)?;
        let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        match security {
            Security::Open => {}
            Security::Sasl => lines.extend(sasl_lines(directory)?),
            Security::Tls => lines.extend(tls_lines(directory)?),
        }
        let (started, _) = port::on_free(|port| {
            let secure_port = if security == Security::Tls { Some(net::free_ports(1)?[0]) } else { None };
            let setup =
                Setup { java: java.clone(), directory: directory.to_owned(), port, secure_port, lines: lines.clone() };
            Ok((setup.run(|mode| mode == Mode::Standalone)?, setup))
        })?;
        Ok(Self { process: started.0, setup: started.1, _home: None })
    }

    /// A member of an ensemble that has been started already.
    pub(super) fn member(process: Process, setup: Setup) -> Self {
        Self { process, setup, _home: None }
    }

    /// `zookeeper://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("zookeeper://{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.setup.port
    }

    /// The port for TLS.
    pub fn secure_port(&self) -> Option<u16> {
        self.setup.secure_port
    }

    /// Its certificates, and the authority that a client has to trust, where it has any.
    pub fn certificates(&self) -> Certificates {
        Certificates::of(&self.setup.directory)
    }

    /// The file with what the server has said since its last start.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// What it is; `None` while it serves nobody.
    pub fn mode(&self) -> Option<Mode> {
        words::mode(self.port())
    }

    /// How many packets it has received from clients since its start, by its own count, the question included.
    ///
    /// # Errors
    ///
    /// When it doesn't answer.
    pub fn received(&self) -> io::Result<u64> {
        let answer = words::ask(self.port(), "srvr")?;
        let count = answer.lines().find_map(|line| line.strip_prefix("Received: ")?.trim().parse().ok());
        count.ok_or_else(|| io::Error::other(format!("no count: {answer}")))
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

    /// Kills it if it still runs, and starts it again on the same port with the same data; returns when it serves.
    ///
    /// # Errors
    ///
    /// When it doesn't come up, or somebody else keeps the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.process = port::on_same(|| self.setup.run(|_| true))?;
        Ok(())
    }

    pub(super) fn into_process(self) -> Process {
        self.process
    }
}

impl Setup {
    /// Starts the process, and returns when it serves and is what is wanted.
    fn run(&self, wanted: impl Fn(Mode) -> bool) -> io::Result<Process> {
        let mut process = self.spawn()?;
        // The port for TLS is opened after the other one.
        let is_secure = || self.secure_port.is_none_or(net::is_listening);
        process.wait_ready(READY, || self.is_up() && words::mode(self.port).is_some_and(&wanted) && is_secure())?;
        Ok(process)
    }

    /// Starts the process.
    pub(super) fn spawn(&self) -> io::Result<Process> {
        let data = self.directory.join("data");
        user::make_directory(&data)?;
        let mut text = format!(
            "{CONFIGURATION}dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\n",
            data.display(),
            self.port
        );
        if let Some(port) = self.secure_port {
            text.push_str(&format!("secureClientPortAddress=127.0.0.1\nsecureClientPort={port}\n"));
        }
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        let file = self.directory.join("zoo.cfg");
        user::write_secret(&file, &text)?;
        let mut command = Command::new(&self.java);
        user::give_up_rights(&mut command, &self.directory);
        command.args([
            "-Xmx96m",
            "-Xss256k",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            // Its log is for errors only.
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
        ]);
        command.arg(super::class_path());
        let jaas = self.directory.join(JAAS);
        if jaas.exists() {
            command.arg(format!("-Djava.security.auth.login.config={}", jaas.display()));
        }
        command.args([
            "-Djava.net.preferIPv4Stack=true",
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Djava.security.egd=file:/dev/urandom",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        ]);
        command.arg(&file);
        Process::spawn("zookeeper", command, &self.directory.join("log"))
    }

    /// Whether the server on the port is this one: somebody else may have taken it.
    pub(super) fn is_up(&self) -> bool {
        let ours = format!("dataDir={}", self.directory.join("data").display());
        words::ask(self.port, "conf").is_ok_and(|answer| answer.contains(&ours))
    }
}

/// Lets in who comes by SASL, and nobody else.
fn sasl_lines(directory: &Path) -> io::Result<Vec<String>> {
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
    let text = format!("Server {{\n  {module} required user_{SASL_USER}=\"{SASL_PASSWORD}\";\n}};\n");
    user::write_secret(&directory.join(JAAS), &text)?;
    let provider = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    Ok([provider, "sessionRequireClientSASLAuth=true"].map(str::to_owned).into())
}

/// Makes certificates, and says where they are.
fn tls_lines(directory: &Path) -> io::Result<Vec<String>> {
    let files = Certificates::make(directory)?;
    // One file with the key and its certificate.
    let store = directory.join("store.pem");
    user::write_secret(&store, &(fs::read_to_string(&files.server_key)? + &fs::read_to_string(&files.server)?))?;
    Ok(vec![
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("ssl.keyStore.location={}", store.display()),
        "ssl.keyStore.type=PEM".to_owned(),
        format!("ssl.trustStore.location={}", files.ca.display()),
        "ssl.trustStore.type=PEM".to_owned(),
        "ssl.clientAuth=none".to_owned(),
    ])
}
