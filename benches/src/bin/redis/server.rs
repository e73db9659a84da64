//! A server of our own, and what it counts.

use std::collections::BTreeMap;
use std::io;

use pilotman_bench::Failure;
use pilotman_testkit::servers::redis::{Node, Reply};

/// What our scripts call: the server counts it like requests. `INFO` is how we ask.
const NO_REQUESTS: [&str; 25] = [
    "del",
    "exists",
    "get",
    "getset",
    "hdel",
    "hget",
    "hset",
    "hvals",
    "info",
    "pexpire",
    "pttl",
    "publish",
    "pubsub",
    "pubsub|numsub",
    "pubsub|shardnumsub",
    "set",
    "spublish",
    "time",
    "zadd",
    "zcard",
    "zrange",
    "zrangebyscore",
    "zrank",
    "zrem",
    "zscore",
];

/// So many servers.
pub(crate) fn start(count: usize) -> io::Result<Vec<Server>> {
    (0..count).map(|_| Server::start()).collect()
}

/// Where they listen.
pub(crate) fn ports(servers: &[Server]) -> Vec<u16> {
    servers.iter().map(Server::port).collect()
}

/// How many requests clients have made to all of them.
pub(crate) fn requests(servers: &[Server]) -> Result<u64, Failure> {
    servers.iter().map(Server::requests).sum()
}

/// Ends when it is dropped.
pub(crate) struct Server {
    node: Node,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self { node: Node::start(&[])? })
    }

    pub(crate) fn port(&self) -> u16 {
        self.node.port()
    }

    pub(crate) fn command(&self, command: &[&str]) -> io::Result<Reply> {
        self.node.cli(command)
    }

    /// Lets it answer nobody, or go on.
    pub(crate) fn freeze(&mut self, frozen: bool) -> io::Result<()> {
        if frozen { self.node.freeze() } else { self.node.thaw() }
    }

    /// How many clients are connected, without the one that asks.
    pub(crate) fn connections(&self) -> Result<u64, Failure> {
        Ok(self.node.info("connected_clients")?.parse::<u64>()? - 1)
    }

    /// How many requests clients have made, as far as they are other than what scripts call.
    pub(crate) fn requests(&self) -> Result<u64, Failure> {
        let calls = self.calls()?;
        Ok(calls.iter().filter(|(command, _)| !NO_REQUESTS.contains(&command.as_str())).map(|(_, calls)| calls).sum())
    }

    fn calls(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let text = self.command(&["INFO", "commandstats"])?.to_string();
        let mut calls = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
            let number =
                line.split_once(":calls=").and_then(|(command, rest)| Some((command, rest.split_once(',')?.0)));
            let (command, number) = number.ok_or("INFO commandstats is not as expected")?;
            calls.insert(command.to_owned(), number.parse()?);
        }
        Ok(calls)
    }
}
