//! What the conformance runs share.

use std::any::Any;
use std::time::{Duration, Instant};

use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_core::Primitive;
use pilotman_testkit::servers::{is_skipped, shared_or_skip};
use pilotman_zookeeper::zookeeper_client::{Client, Error};
use pilotman_zookeeper::{Layout, ZooKeeper, ZooKeeperBackend};
use tokio::runtime::Runtime;

/// How long the servers keep the session of a process that is gone. One request may take a sixth of it: on a busy machine
/// it must not be too short, above all where three servers have to agree.
const SESSION: Duration = Duration::from_secs(12);

/// Where a run keeps its locks: `<ports, separated by dots>-<random>`.
struct Place {
    addresses: Vec<String>,
    directory: String,
}

impl Place {
    fn parse(place: &str) -> Self {
        // Before a server is there, the suite only asks what the backend claims.
        let (ports, random) = place.split_once('-').unwrap_or(("1", ""));
        let addresses = ports.split('.').map(|port| format!("127.0.0.1:{port}")).collect();
        Self { addresses, directory: format!("/run-{random}") }
    }

    fn connect(&self, layout: Layout) -> ZooKeeperBackend {
        let zookeeper = ZooKeeper::hosts(&self.addresses).and_then(|zk| zk.directory(&self.directory));
        let zookeeper = zookeeper.expect("these options are right").session_timeout(SESSION).layout(layout);
        ZooKeeperBackend::new(zookeeper.connect_timeout(Duration::from_secs(20))).expect("these options are right")
    }
}

/// Another client of the server.
struct Other {
    runtime: Runtime,
    client: Client,
}

impl Other {
    fn new(place: &Place) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connector = Client::connector().with_session_timeout(Duration::from_secs(30));
        let client = runtime.block_on(connector.connect(&place.addresses.join(","))).expect("the server answers");
        Self { runtime, client }
    }

    /// As the leader knows them: another member may be behind.
    fn children(&self, path: &str) -> Vec<String> {
        self.runtime.block_on(self.client.sync("/")).expect("the leader answers");
        match self.runtime.block_on(self.client.list_children(path)) {
            Ok(children) => children,
            Err(Error::NoNode) => Vec::new(),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

/// A server of the test kit. If its tests may be left out here, they are.
pub(crate) fn of(name: &'static str, server: &'static str, layout: Layout) -> UnderTest {
    if is_skipped(server) {
        eprintln!("skipped: {server} is not installed here, and that is allowed");
        std::process::exit(0);
    }
    UnderTest::new(name, move |place| Place::parse(place).connect(layout))
        .set_up(move || {
            let shared = shared_or_skip(server);
            let random =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let ports: Vec<String> = shared.ports().iter().map(ToString::to_string).collect();
            let place = format!("{}-{random:x}{:x}", ports.join("."), std::process::id());
            (place, Box::new(shared) as Box<dyn Any>)
        })
        .names(2000)
        .settle(Duration::from_millis(250))
        .short_lease(Duration::from_secs(3))
        .lose(lose)
        .clean_up(nothing_left)
}

/// As an administrator does who removes a node.
fn lose(hold: &LoseHold<'_>) -> bool {
    if hold.primitive != Primitive::Mutex {
        return false;
    }
    let other = Other::new(&Place::parse(hold.place));
    let mut nodes = other.children(hold.physical);
    nodes.sort_by_key(|name| name.rsplit_once("lock-").map(|(_, number)| number.to_owned()));
    let Some(first) = nodes.first() else { return false };
    other.runtime.block_on(other.client.delete(&format!("{}/{first}", hold.physical), None)).is_ok()
}

/// At the end of a run, what processes left that were killed has ended with their sessions.
fn nothing_left(place: &str) {
    let place = Place::parse(place);
    let other = Other::new(&place);
    let start = Instant::now();
    loop {
        let left: Vec<String> = other
            .children(&place.directory)
            .into_iter()
            .filter(|lock| !other.children(&format!("{}/{lock}", place.directory)).is_empty())
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
