//! Nodes of a test's own, and what is seen of a quorum from outside.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use pilotman_core::{Locks, Verdict, Votes};
use pilotman_redis::{RedisNode, Redlock, RedlockBackend};
use pilotman_testkit::proxy::{Cut, Proxy};
use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{LONG, at, eventually, ms};

/// So long may it take on a busy machine what takes no time.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// Nodes that a test may break.
pub(crate) struct Quorum(pub(crate) Vec<Node>);

/// The nodes as one process of several reaches them: over connections of its own that can be broken.
pub(crate) struct Ways(pub(crate) Vec<Proxy>);

pub(crate) fn start(count: usize, how: impl Fn(usize) -> Node + Send + Sync) -> Vec<Node> {
    let how = &how;
    thread::scope(|scope| {
        let starts: Vec<_> = (0..count).map(|at| scope.spawn(move || how(at))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    })
}

/// The set has a name of its own, so that it is the same over whatever connections.
pub(crate) fn redlock(nodes: impl IntoIterator<Item = RedisNode>) -> Redlock {
    Redlock::new(nodes).name("test")
}

pub(crate) fn of(redlock: Redlock) -> Locks {
    Locks::new(RedlockBackend::new(redlock).unwrap())
}

impl Quorum {
    /// Starts nodes that belong to no set yet.
    pub(crate) fn start(count: usize) -> Self {
        Self(start(count, |_| Node::start(&[]).unwrap()))
    }

    /// Starts nodes and has them entered into a set while all are up: then none can have forgotten a lock.
    pub(crate) async fn entered(count: usize) -> Self {
        Self::start(count).enter().await
    }

    /// As [`Self::entered`], with clocks that can be set.
    pub(crate) async fn with_clocks(count: usize) -> Self {
        Self(start(count, |_| Node::start_with_clock(&[]).unwrap())).enter().await
    }

    pub(crate) async fn enter(self) -> Self {
        self.enter_as(self.redlock()).await;
        self
    }

    /// Has the nodes entered with these options.
    pub(crate) async fn enter_as(&self, redlock: Redlock) {
        let locks = of(redlock);
        locks.check().await.unwrap();
        locks.close().await;
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.0.iter().map(Node::port).collect()
    }

    pub(crate) fn redlock(&self) -> Redlock {
        redlock(self.ports().into_iter().map(at))
    }

    /// Locks as those of another process would be.
    pub(crate) fn locks(&self) -> Locks {
        of(self.redlock())
    }

    /// As [`Self::locks`], with all nodes connected.
    pub(crate) async fn ready(&self) -> Locks {
        let locks = self.locks();
        locks.check().await.unwrap();
        locks
    }

    pub(crate) fn ways(&self) -> Ways {
        Ways(self.ports().into_iter().map(|port| Proxy::before(port).unwrap()).collect())
    }

    /// On how many nodes a mutex is held, by whomever.
    pub(crate) fn holding(&self, name: &str) -> usize {
        // One that is just starting answers with an error.
        let held = |node: &&Node| node.cli(&["EXISTS", name]).is_ok_and(|reply| reply == Reply::Integer(1));
        self.0.iter().filter(held).count()
    }

    /// Who has a mutex and who waits for it, on each node that answers.
    pub(crate) fn queue_of(&self, name: &str) -> String {
        let show = |node: &Node| {
            let ask =
                |command: &[&str]| node.cli(command).map_or_else(|error| error.to_string(), |told| told.to_string());
            let queue = format!("pilotman:quorum:queue:mutex:{{{name}}}");
            let waiters = format!("pilotman:quorum:waiters:mutex:{{{name}}}");
            let (lock, left) = (ask(&["GET", name]), ask(&["PTTL", name]));
            let (time, queue) = (ask(&["TIME"]), ask(&["ZRANGE", &queue, "0", "-1", "WITHSCORES"]));
            format!("{lock} for {left} ms at {time}; {queue}; {}\n", ask(&["HGETALL", &waiters]))
        };
        self.0.iter().map(show).collect()
    }

    /// Waits until a mutex is held on this many nodes.
    #[track_caller]
    pub(crate) fn held_on<'a>(&'a self, name: &'a str, count: usize) -> impl Future<Output = ()> + 'a {
        eventually("so many nodes have the lock", LONG, move || self.holding(name) == count)
    }

    /// Waits until nothing of any lock is left on these nodes.
    #[track_caller]
    pub(crate) fn nothing_left(&self, limit: Duration) -> impl Future<Output = ()> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            for node in &self.0 {
                while !left(node).is_empty() {
                    assert!(start.elapsed() < limit, "left behind on {}: {:?} ({caller})", node.port(), left(node));
                    tokio::time::sleep(ms(10)).await;
                }
            }
        }
    }
}

impl Ways {
    pub(crate) fn redlock(&self) -> Redlock {
        redlock(self.0.iter().map(|way| at(way.port())))
    }

    pub(crate) fn locks(&self) -> Locks {
        of(self.redlock())
    }

    pub(crate) async fn ready(&self) -> Locks {
        let locks = self.locks();
        locks.check().await.unwrap();
        locks
    }

    /// As if this node could not be reached from this process any more.
    pub(crate) fn cut(&self, node: usize) {
        self.0[node].refuse();
        self.0[node].cut(Cut::Reset);
    }

    /// As if this process had died.
    pub(crate) fn die(&self) {
        (0..self.0.len()).for_each(|node| self.cut(node));
    }
}

/// The keys that are there, but for those that stay.
pub(crate) fn left(node: &Node) -> Vec<String> {
    let all = node.cli(&["KEYS", "*"]).unwrap();
    let stays = |key: &str| {
        key.ends_with("pilotman:mark") || key.ends_with("pilotman:quorum") || key.contains("pilotman:quorum:token:")
    };
    all.items().iter().filter_map(Reply::text).filter(|key| !stays(key)).map(str::to_owned).collect()
}

/// Waits until so many stand in the queue of a mutex.
pub(crate) async fn queued(node: &Node, name: &str, count: i64) {
    let key = format!("pilotman:quorum:queue:mutex:{{{name}}}");
    eventually("so many stand in the queue", LONG, || node.cli(&["ZCARD", &key]).unwrap() == Reply::Integer(count))
        .await;
}

/// What the votes are: granted, conflicted, failed, and what they come to.
pub(crate) fn counted(votes: Option<Votes>) -> (usize, usize, usize, Verdict) {
    let votes = votes.expect("a quorum has votes");
    (votes.granted(), votes.conflicted(), votes.failed(), votes.verdict())
}

/// How often a server has run scripts so far.
pub(crate) fn scripts_run(node: &Node) -> u64 {
    let stats = node.cli(&["INFO", "commandstats"]).unwrap().to_string();
    let calls = |command: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")))?;
        line.split(',').next()?.parse::<u64>().ok()
    };
    calls("evalsha").unwrap_or(0) + calls("eval").unwrap_or(0)
}
