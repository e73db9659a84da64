//! What the conformance runs on the different topologies share.

use std::any::Any;
use std::time::{Duration, Instant};

use pilotman_conformance::UnderTest;
use pilotman_core::Primitive;
use pilotman_redis::{RedisBackend, RedisNode};
use pilotman_testkit::servers::redis::Client;
use pilotman_testkit::servers::{is_skipped, shared_or_skip};

#[allow(dead_code, reason = "for targets of more than one node")]
/// How a place of these servers is connected to, without the key format.
pub(crate) type Connect = fn(&Place) -> pilotman_core::Result<RedisNode>;

/// Where a run keeps its locks: `<ports, separated by dots>-<random>@<directory of the server>`.
pub(crate) struct Place {
    pub(crate) ports: Vec<u16>,
    random: String,
    #[allow(dead_code, reason = "not every topology needs it")]
    pub(crate) directory: String,
}

impl Place {
    fn parse(place: &str) -> Self {
        let (before, directory) = place.split_once('@').unwrap_or((place, ""));
        let (ports, random) = before.split_once('-').unwrap_or((before, ""));
        // Before a server is there, the suite only asks what the backend claims.
        let mut ports: Vec<u16> = ports.split('.').filter_map(|port| port.parse().ok()).collect();
        if ports.is_empty() {
            ports.push(1);
        }
        Self { ports, random: random.to_owned(), directory: directory.to_owned() }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    fn prefix(&self) -> String {
        format!("lock:{}:", self.random)
    }
}

/// A server of the test kit. If its tests may be left out here, they are.
#[allow(dead_code, reason = "for targets of more than one node")]
pub(crate) fn server(server: &'static str, connect: Connect) -> UnderTest {
    let under_test = UnderTest::new(server, move |place| {
        let place = Place::parse(place);
        let node = connect(&place).and_then(|node| node.key_format(format!("{}{{}}", place.prefix())));
        node.and_then(RedisBackend::new).expect("these options are right")
    });
    skip_if_allowed(server);
    under_test.set_up(move || {
        let shared = shared_or_skip(server);
        let ports: Vec<String> = shared.ports().iter().map(ToString::to_string).collect();
        let random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let place =
            format!("{}-{:x}{:x}@{}", ports.join("."), random, std::process::id(), shared.directory().display());
        (place, Box::new(shared) as Box<dyn Any>)
    })
}

fn skip_if_allowed(server: &str) {
    if is_skipped(server) {
        eprintln!("skipped: {server} is not installed here, and that is allowed");
        std::process::exit(0);
    }
}

/// The same on one node, of which more can be asked: holds are lost as an administrator would lose them, and nothing is
/// left behind.
#[allow(dead_code, reason = "for targets of one node")]
pub(crate) fn one(server: &'static str) -> UnderTest {
    let connect = |place: &str| {
        let place = Place::parse(place);
        let node = RedisNode::endpoint(&place.addresses()[0]);
        let node = node.and_then(|node| node.key_format(format!("{}{{}}", place.prefix())));
        node.and_then(RedisBackend::new).expect("these options are right")
    };
    skip_if_allowed(server);
    UnderTest::new(server, connect)
        .set_up(move || {
            let shared = shared_or_skip(server);
            let random =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let place = format!("{}-{:x}{:x}@", shared.ports()[0], random, std::process::id());
            (place, Box::new(shared) as Box<dyn Any>)
        })
        .lose(|hold| {
            let place = Place::parse(hold.place);
            let mut client = Client::connect(place.ports[0]).expect("the server answers");
            hold.primitive == Primitive::Mutex
                && client.call(&["DEL", hold.physical]).expect("a key can be removed").integer() == Some(1)
        })
        .clean_up(|place| nothing_left(&Place::parse(place)))
}

/// At the end of a run, what processes left that were killed has ended with its lease; then only the counter and the
/// mark are there.
#[allow(dead_code, reason = "for targets of one node")]
fn nothing_left(place: &Place) {
    let Ok(mut client) = Client::connect(place.ports[0]) else { return };
    let start = Instant::now();
    loop {
        let reply = client.call(&["KEYS", &format!("{}*", place.prefix())]).expect("keys can be listed");
        let left: Vec<_> = reply.items().iter().filter_map(|key| key.text()).collect();
        let others: Vec<_> =
            left.iter().filter(|key| !key.ends_with("pilotman:token") && !key.ends_with("pilotman:mark")).collect();
        if others.is_empty() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "left behind: {others:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
