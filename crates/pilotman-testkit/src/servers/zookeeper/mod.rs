//! ZooKeeper 3.8 of Debian: one server, ready to use for the tests that only use it and as a type for those that break
//! it, and ensembles of three.

mod ensemble;
mod server;
mod words;

use std::io;
use std::path::{Path, PathBuf};

pub use ensemble::Ensemble;
pub use server::{SASL_PASSWORD, SASL_USER, Security, ZooKeeper};
pub use words::{Mode, ask};

use super::{ServerKind, Started};
use crate::needs::{Package, Program};

const JAVA: Program =
    Program { command: "java", package: Package::Debian("default-jre-headless"), also_in: &["/usr/bin"] };
/// The package has the classes; this program of it shows that it is there.
const SERVER: Program =
    Program { command: "zkServer.sh", package: Package::Debian("zookeeper"), also_in: &["/usr/share/zookeeper/bin"] };
/// Where Debian keeps what Java runs. Its manifest names the rest, but for what writes the log and a part of what TLS needs.
const CLASSES: &str = "/usr/share/java/zookeeper.jar";
const MORE_CLASSES: [&str; 2] = ["/usr/share/java/slf4j-simple.jar", "/usr/share/java/netty-codec.jar"];

pub(super) const ONE: ServerKind = ServerKind {
    name: "zookeeper",
    about: "ZooKeeper 3.8, one server",
    programs: &[JAVA, SERVER],
    start: |scratch| {
        let server = ZooKeeper::launch(java(|program| scratch.program(program))?, &[], Security::Open, scratch.path())?;
        Ok(Started { urls: vec![server.url()], processes: vec![server.into_process()] })
    },
};

pub(super) const THREE: ServerKind = ServerKind {
    name: "zookeeper-ensemble",
    about: "ZooKeeper 3.8, an ensemble of three",
    programs: &[JAVA, SERVER],
    start: |scratch| {
        let members =
            ensemble::launch(&java(|program| scratch.program(program))?, scratch.path(), &mut |_, _, port| port)?;
        let addresses: Vec<String> = members.iter().map(ZooKeeper::address).collect();
        let processes = members.into_iter().map(ZooKeeper::into_process).collect();
        Ok(Started { urls: vec![format!("zookeeper://{}", addresses.join(","))], processes })
    },
};

/// Where Java looks for classes.
fn class_path() -> String {
    let mut path = CLASSES.to_owned();
    for jar in MORE_CLASSES {
        path.push(':');
        path.push_str(jar);
    }
    path
}

/// The program that runs it, if all is there.
fn java(find: impl Fn(&Program) -> io::Result<PathBuf>) -> io::Result<PathBuf> {
    find(&SERVER)?;
    if !Path::new(CLASSES).exists() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{CLASSES} is not there; the package zookeeper has it"),
        ));
    }
    find(&JAVA)
}
