//! What tests on servers of their own share.

use std::future::Future;
use std::time::{Duration, Instant};

use pilotman_core::{Error, ErrorKind, Guard, Held, HoldState, Lock, Locks, Result};
use pilotman_redis::{RedisBackend, RedisNode};
use pilotman_testkit::servers::redis::{Node, Reply};
use tokio::task::JoinHandle;

pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One server on this port, or a proxy before it.
pub(crate) fn at(port: u16) -> RedisNode {
    RedisNode::endpoint(format!("127.0.0.1:{port}")).unwrap()
}

/// Several servers of which one is the primary.
pub(crate) fn among(ports: &[u16]) -> RedisNode {
    RedisNode::endpoints(ports.iter().map(|port| format!("127.0.0.1:{port}"))).unwrap()
}

/// Locks of a backend of their own, as those of another process would be.
pub(crate) fn locks(node: RedisNode) -> Locks {
    Locks::new(RedisBackend::new(node).unwrap())
}

pub(crate) fn locks_at(port: u16) -> Locks {
    locks(at(port))
}

/// Begins to wait for a lock.
pub(crate) fn waiter(lock: &Lock) -> JoinHandle<Result<Guard>> {
    let lock = lock.clone();
    tokio::spawn(async move { lock.acquire().await })
}

/// The outcome of a wait, which must come within this time.
#[track_caller]
pub(crate) fn granted(
    what: &'static str,
    limit: Duration,
    waiter: JoinHandle<Result<Guard>>,
) -> impl Future<Output = Guard> {
    let ended = within(what, limit, waiter);
    async move {
        match ended.await.unwrap() {
            Ok(guard) => guard,
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[track_caller]
pub(crate) fn within<T>(what: &'static str, limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => panic!("not within {limit:?}: {what} ({caller})"),
        }
    }
}

#[track_caller]
pub(crate) fn eventually(
    what: &'static str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < limit, "not within {limit:?}: {what} ({caller})");
            tokio::time::sleep(ms(5)).await;
        }
    }
}

pub(crate) fn get(node: &Node, key: &str) -> Option<String> {
    node.cli(&["GET", key]).unwrap().text().map(str::to_owned)
}

/// Waits until so many stand in the queue of a mutex.
pub(crate) async fn queued(node: &Node, name: &str, count: i64) {
    let key = format!("pilotman:queue:mutex:{{{name}}}");
    eventually("so many stand in the queue", LONG, || node.cli(&["ZCARD", &key]).unwrap() == Reply::Integer(count))
        .await;
}

/// Waits until so many processes listen for word.
pub(crate) async fn listening(node: &Node, count: usize) {
    let channels = ["PUBSUB", "CHANNELS", "pilotman:push:*"];
    eventually("so many listen", LONG, || node.cli(&channels).unwrap().items().len() == count).await;
}

/// The keys that are there, but for those that stay: the token counter and the mark.
pub(crate) fn keys(node: &Node) -> Vec<String> {
    let all = node.cli(&["KEYS", "*"]).unwrap();
    let stays = |key: &str| ["pilotman:token", "pilotman:mark"].contains(&key);
    all.items().iter().filter_map(Reply::text).filter(|key| !stays(key)).map(str::to_owned).collect()
}

#[track_caller]
pub(crate) fn nothing_left(node: &Node, limit: Duration) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !keys(node).is_empty() {
            assert!(start.elapsed() < limit, "left behind: {:?} ({caller})", keys(node));
            tokio::time::sleep(ms(10)).await;
        }
    }
}

/// Whether a holder takes the lock for its own.
pub(crate) fn believes(held: &Held) -> bool {
    matches!(held.state(), HoldState::Held | HoldState::AtRisk)
}

/// An error of this kind, with these words, with something that the reader can do, and without a secret.
#[track_caller]
pub(crate) fn assert_says(error: &Error, kind: ErrorKind, words: &[&str]) {
    let shown = format!("{error} {error:?}");
    assert_eq!(error.kind(), kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "no '{word}' in: {shown}");
    }
    assert!(error.advice().is_some(), "no advice in: {shown}");
    assert!(!shown.contains("secret"), "a secret in: {shown}");
}
