//! Three servers that agree.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::java;
use super::server::{Setup, ZooKeeper};
use super::words::Mode;
use crate::net;
use crate::servers;

/// How long an ensemble may take to agree.
const READY: Duration = Duration::from_secs(90);
/// How often it is started with other ports when somebody took one.
const TRIES: usize = 4;

/// An ensemble of three on loopback ports.
#[derive(Debug)]
pub struct Ensemble {
    /// The members, in the order of their ids.
    pub members: Vec<ZooKeeper>,
    _home: Arc<TempDir>,
}

impl Ensemble {
    /// Starts one, and waits until it has a leader and all serve.
    ///
    /// # Errors
    ///
    /// When ZooKeeper is not installed, or they don't come to agree.
    pub fn start() -> io::Result<Self> {
        Self::start_with(|_, _, port| port)
    }

    /// As [`Self::start`]; `quorum_port` says by which port the first member finds the second one when that leads, and
    /// so on: it gets who looks, whom it looks for, and the real port. A proxy between two of them goes there.
    ///
    /// # Errors
    ///
    /// When ZooKeeper is not installed, or they don't come to agree.
    pub fn start_with(mut quorum_port: impl FnMut(usize, usize, u16) -> u16) -> io::Result<Self> {
        let java = java(servers::program)?;
        let mut last = None;
        for _ in 0..TRIES {
            let home = servers::home("zookeeper")?;
            match launch(&java, home.path(), &mut quorum_port) {
                Ok(members) => return Ok(Self { members, _home: home }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no ensemble was started")))
    }

    /// `zookeeper://h:p,h:p,h:p`.
    pub fn url(&self) -> String {
        format!("zookeeper://{}", self.addresses().join(","))
    }

    /// The addresses of all members.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(ZooKeeper::address).collect()
    }

    /// The place in `members` of the leader.
    ///
    /// # Errors
    ///
    /// When there is none for a long time.
    pub fn leader(&self) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            if let Some(place) = self.members.iter().position(|member| member.mode() == Some(Mode::Leader)) {
                return Ok(place);
            }
            if start.elapsed() > READY {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the ensemble has no leader"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts three with their files in `home`. A port that somebody took in between is an error.
pub(super) fn launch(
    java: &Path,
    home: &Path,
    quorum_port: &mut impl FnMut(usize, usize, u16) -> u16,
) -> io::Result<Vec<ZooKeeper>> {
    // For clients, for followers, for elections.
    let ports = net::free_ports(9)?;
    let mut members = Vec::new();
    for own in 0..3 {
        let directory = home.join(format!("member-{own}"));
        crate::user::make_directory(&directory)?;
        crate::user::make_directory(&directory.join("data"))?;
        crate::user::write_secret(&directory.join("data/myid"), &(own + 1).to_string())?;
        let mut lines =
            vec!["initLimit=50".to_owned(), "syncLimit=100".to_owned(), "quorumListenOnAllIPs=false".to_owned()];
        for other in 0..3 {
            let quorum = if other == own { ports[3 + other] } else { quorum_port(own, other, ports[3 + other]) };
            lines.push(format!("server.{}=127.0.0.1:{quorum}:{}", other + 1, ports[6 + other]));
        }
        let setup = Setup { java: java.to_owned(), directory, port: ports[own], secure_port: None, lines };
        members.push((setup.spawn()?, setup));
    }
    let ready = |setup: &Setup| setup.is_up() && super::words::mode(setup.port).is_some();
    for (process, setup) in &mut members {
        process.wait_ready(READY, || ready(setup))?;
    }
    Ok(members.into_iter().map(|(process, setup)| ZooKeeper::member(process, setup)).collect())
}
