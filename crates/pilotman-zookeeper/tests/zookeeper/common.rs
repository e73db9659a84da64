//! Servers, other clients, and waiting for conditions.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::{Guard, Lock, Locks, Result};
use pilotman_testkit::servers::{Shared, shared_or_skip};
use pilotman_zookeeper::zookeeper_client::{Acls, Client, CreateMode, Error};
use pilotman_zookeeper::{ZooKeeper, ZooKeeperBackend};

/// Longer than anything here takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The server that all tests share.
pub(crate) fn shared() -> (Shared, u16) {
    let shared = shared_or_skip("zookeeper");
    let port = shared.ports()[0];
    (shared, port)
}

/// A name that nobody else uses at the server.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{name}-{now:x}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server at this port; sessions of 3 s.
pub(crate) fn options(port: u16) -> ZooKeeper {
    let zookeeper = ZooKeeper::host(format!("127.0.0.1:{port}")).unwrap();
    zookeeper.session_timeout(ms(3000)).connect_timeout(ms(20_000))
}

/// Locks at the server of this port.
pub(crate) fn locks(port: u16) -> Locks {
    locks_of(options(port))
}

/// Locks with these options.
pub(crate) fn locks_of(zookeeper: ZooKeeper) -> Locks {
    Locks::new(ZooKeeperBackend::new(zookeeper).unwrap())
}

/// Another client of the server at this port, with a long session.
pub(crate) async fn client(port: u16) -> Client {
    let connector = Client::connector().with_session_timeout(ms(30_000));
    connector.connect(&format!("127.0.0.1:{port}")).await.expect("the server answers")
}

/// The children of a node; none if it is not there.
pub(crate) async fn children(client: &Client, path: &str) -> Vec<String> {
    match client.list_children(path).await {
        Ok(mut children) => {
            children.sort();
            children
        }
        Err(Error::NoNode) => Vec::new(),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Makes a node that stays.
pub(crate) async fn make(client: &Client, path: &str) {
    client.create(path, b"", &CreateMode::Persistent.with_acls(Acls::anyone_all())).await.unwrap();
}

/// Waits for the condition.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::time::sleep(ms(10)).await;
    }
}

/// Waits until so many nodes stand below a lock's node.
pub(crate) async fn queued(client: &Client, path: &str, count: usize) {
    eventually("the queue is as long as it should be", || async { children(client, path).await.len() == count }).await;
}

/// Begins to wait for a lock; the result comes with the time of the grant.
pub(crate) fn waiter(lock: &Lock) -> tokio::task::JoinHandle<Result<(Guard, Instant)>> {
    let lock = lock.clone();
    tokio::spawn(async move { lock.acquire().await.map(|guard| (guard, Instant::now())) })
}

/// What the waiter gets.
pub(crate) async fn granted(waiter: tokio::task::JoinHandle<Result<(Guard, Instant)>>) -> (Guard, Instant) {
    tokio::time::timeout(LONG, waiter).await.expect("it gets the lock in time").expect("no panic").expect("no error")
}
