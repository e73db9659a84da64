//! What the conformance runs on quorums share.

use std::any::Any;
use std::time::Instant;
use std::time::{Duration, SystemTime};

use pilotman_conformance::UnderTest;
use pilotman_core::Primitive;
use pilotman_redis::{RedisNode, Redlock, RedlockBackend};
use pilotman_testkit::servers::redis::{Client, SERVICE};
use pilotman_testkit::servers::{is_skipped, shared_or_skip};

/// What is run on.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) nodes: usize,
    /// So many of them are not there.
    pub(crate) down: usize,
    /// The last one is a primary that Sentinels name.
    pub(crate) sentinel: bool,
}

/// Where a run keeps its locks: `<ports, separated by dots>-<random>`, and `@<ports of Sentinels>` after it.
struct Place {
    ports: Vec<u16>,
    sentinels: Vec<u16>,
    random: String,
}

fn ports(text: &str) -> Vec<u16> {
    text.split('.').filter_map(|port| port.parse().ok()).collect()
}

fn shown(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

impl Place {
    fn parse(place: &str) -> Self {
        let (before, sentinels) = place.split_once('@').unwrap_or((place, ""));
        let (before, random) = before.split_once('-').unwrap_or((before, ""));
        // Before there are servers, the suite only asks what the backend claims.
        let mut nodes = ports(before);
        if nodes.is_empty() {
            nodes.push(1);
        }
        Self { ports: nodes, sentinels: ports(sentinels), random: random.to_owned() }
    }

    fn prefix(&self) -> String {
        format!("lock:{}:", self.random)
    }

    fn redlock(&self, down: usize) -> Redlock {
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let mut nodes: Vec<_> = self.ports.iter().map(|port| RedisNode::endpoint(address(port)).unwrap()).collect();
        if !self.sentinels.is_empty() {
            nodes.push(RedisNode::sentinel(self.sentinels.iter().map(address), SERVICE).unwrap());
        }
        let format = format!("{}{{}}", self.prefix());
        let nodes = nodes.into_iter().map(|node| node.key_format(&format).unwrap());
        // Each run has notes of its own on the nodes, so that each is the first use of all: with a node missing that is not
        // known, and the others would have no say for a while.
        let redlock = Redlock::new(nodes).quarantine(down == 0).semaphores(down == 0);
        redlock.longest_lease(Duration::from_secs(3600))
    }
}

/// A port where nothing listens.
const NOBODY: u16 = 1;

/// A quorum, ready to be tested.
pub(crate) fn of(setting: Setting) -> UnderTest {
    let Setting { name, nodes, down, sentinel } = setting;
    for server in ["redlock", "redis-sentinel"].iter().take(1 + usize::from(sentinel)) {
        if is_skipped(server) {
            eprintln!("skipped: {server} is not installed here, and that is allowed");
            std::process::exit(0);
        }
    }
    UnderTest::new(name, move |place| {
        RedlockBackend::new(Place::parse(place).redlock(down)).expect("these options are right")
    })
    .set_up(move || {
        let servers = shared_or_skip("redlock");
        let sentinels = sentinel.then(|| shared_or_skip("redis-sentinel"));
        let random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut ports: Vec<u16> = servers.ports()[..nodes - usize::from(sentinel) - down].to_vec();
        ports.extend((0..down).map(|nth| NOBODY + nth as u16));
        let mut place = format!("{}-{random:x}{:x}", shown(&ports), std::process::id());
        if let Some(sentinels) = &sentinels {
            place.push_str(&format!("@{}", shown(&sentinels.ports())));
        }
        (place, Box::new((servers, sentinels)) as Box<dyn Any>)
    })
    .lose(move |hold| {
        let place = Place::parse(hold.place);
        if hold.primitive != Primitive::Mutex {
            return false;
        }
        // A majority of all nodes, those that are down not counted.
        let up = place.ports.len() - down;
        let removed = place.ports[..up].iter().filter(|port| {
            let mut client = Client::connect(**port).expect("the server answers");
            client.call(&["DEL", hold.physical]).expect("a key can be removed").integer() == Some(1)
        });
        removed.count() > 0
    })
    .clean_up(move |place| nothing_left(&Place::parse(place), down))
}

/// At the end of a run, what processes left that were killed has ended with its lease.
fn nothing_left(place: &Place, down: usize) {
    let stays = [":token", ":mark", ":quorum"];
    for port in &place.ports[..place.ports.len() - down] {
        let Ok(mut client) = Client::connect(*port) else { continue };
        let start = Instant::now();
        loop {
            let reply = client.call(&["KEYS", &format!("{}*", place.prefix())]).expect("keys can be listed");
            let left: Vec<_> = reply.items().iter().filter_map(|key| key.text()).collect();
            let others: Vec<_> = left
                .iter()
                .filter(|key| !stays.iter().any(|end| key.ends_with(end)) && !key.contains("pilotman:quorum:token:"))
                .collect();
            if others.is_empty() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(40), "left behind on {port}: {others:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
