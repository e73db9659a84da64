//! A server that speaks TLS only and knows two users.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Node, Setup};
use crate::certificates::Certificates;
use crate::servers::{Scratch, Started};

/// The password of the user `default`, who may do everything.
pub const ADMIN_PASSWORD: &str = "admin-secret";
/// The user who may do what a lock takes, on keys `lock:*` and channels `lock:*`.
pub const LOCKER: &str = "locker";
/// The password of [`LOCKER`].
pub const LOCKER_PASSWORD: &str = "locker-secret";
/// The name of the socket, in the server's directory, that takes administration in plain text: for
/// [`Client::connect_unix`](super::Client::connect_unix), then `AUTH` with [`ADMIN_PASSWORD`].
pub const ADMIN_SOCKET: &str = "admin.sock";

/// One Redis node that speaks TLS and demands a password. Client certificates are checked if one is shown.
#[derive(Debug)]
pub struct Tls {
    /// The server. Its methods go past TLS.
    pub node: Node,
    /// What the client needs to trust it.
    pub certificates: Certificates,
}

impl Tls {
    /// Starts one with a certificate authority of its own and these arguments after the usual ones.
    ///
    /// # Errors
    ///
    /// When it is not installed or doesn't come up.
    pub fn start(extra: &[&str]) -> io::Result<Self> {
        let home = super::home()?;
        let setup = Setup::new(super::program(&super::REDIS)?);
        launch(setup, extra, &home.path().join("node"), Some(home.clone()))
    }

    /// `rediss://USER:PASSWORD@127.0.0.1:PORT` for the user who may only lock.
    pub fn url(&self) -> String {
        format!("rediss://{LOCKER}:{LOCKER_PASSWORD}@127.0.0.1:{}", self.node.port())
    }
}

pub(super) fn start(scratch: &Scratch) -> io::Result<Started> {
    let setup = Setup::new(scratch.program(&super::REDIS)?);
    let server = launch(setup, &[], scratch.path(), None)?;
    Ok(Started { urls: vec![server.url()], processes: vec![server.node.into_process()] })
}

fn launch(setup: Setup, extra: &[&str], directory: &Path, home: Option<Arc<TempDir>>) -> io::Result<Tls> {
    fs::create_dir_all(directory)?;
    let certificates = Certificates::make(directory)?;
    let users = directory.join("users.acl");
    fs::write(&users, rules())?;
    let mut setup = Setup { tls: true, password: Some(ADMIN_PASSWORD), ..setup };
    let files = [
        ("--tls-cert-file", &certificates.server),
        ("--tls-key-file", &certificates.server_key),
        ("--tls-ca-cert-file", &certificates.ca),
        ("--aclfile", &users),
    ];
    for (option, file) in files {
        setup = setup.args([option.into(), file.clone().into_os_string()]);
    }
    setup = setup.args(["--tls-auth-clients", "optional"]).args(extra.iter().copied());
    Ok(Tls { node: Node::launch(setup, directory, home)?, certificates })
}

/// `+info` and `+role` come last: both count as dangerous.
fn rules() -> String {
    format!(
        "user default on >{ADMIN_PASSWORD} ~* &* +@all\n\
         user {LOCKER} on >{LOCKER_PASSWORD} ~lock:* resetchannels &lock:* -@all +@read +@write +@scripting \
         +@connection +@pubsub +@transaction +time +wait -@dangerous +info +role\n"
    )
}
