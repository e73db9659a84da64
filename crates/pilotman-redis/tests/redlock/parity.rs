//! The tests of RedLock.net, each by its name there, on real servers, without their sleeps of seconds where those prove
//! nothing more. Where it has a test twice, for blocking and for asynchronous calls, there are two.

use std::thread;
use std::time::{Duration, Instant};

use pilotman_core::blocking::{self, CancelToken};
use pilotman_core::{ErrorKind, HoldState, Locks, Release, Verdict};
use pilotman_redis::{RedisNode, Redlock, RedlockBackend, redis};
use pilotman_testkit::servers::redis::{LOCKER, LOCKER_PASSWORD, Node, Reply, Tls};
use tokio::runtime::Runtime;

use crate::common::{LONG, assert_says, at, get, granted, ms, waiter, within};
use crate::quorum::{Quorum, SOON, counted, of, redlock, start};

const LEASE: Duration = Duration::from_secs(1);

/// Nodes for a test that is not asynchronous itself.
fn entered(count: usize) -> Quorum {
    Runtime::new().unwrap().block_on(Quorum::entered(count))
}

fn kill(quorum: &mut Quorum, nodes: impl IntoIterator<Item = usize>) {
    for node in nodes {
        quorum.0[node].kill().unwrap();
    }
}

fn blocking(locks: Locks) -> blocking::Locks {
    blocking::Locks::from(locks)
}

/// `TestSingleLock`: three servers that live, two that don't.
#[test]
fn test_single_lock() {
    let mut quorum = entered(5);
    kill(&mut quorum, [3, 4]);
    let locks = blocking(quorum.locks());
    let guard = locks.mutex("testredislock").acquire_timeout(LONG).unwrap();
    let (granted, conflicted, failed, verdict) = counted(guard.votes());
    assert_eq!((granted, conflicted, verdict), (3, 0, Verdict::Acquired));
    assert!(failed <= 2);
    assert_eq!(guard.name(), "testredislock");
    assert_eq!(guard.release().unwrap(), Release::Released);
}

/// `TestSingleLockAsync`.
#[tokio::test(flavor = "multi_thread")]
async fn test_single_lock_async() {
    let mut quorum = Quorum::entered(5).await;
    kill(&mut quorum, [3, 4]);
    let locks = quorum.locks();
    let guard = locks.mutex("testredislock").try_acquire().await.unwrap().expect("three of five are enough");
    assert_eq!(counted(guard.votes()).3, Verdict::Acquired);
    assert_eq!(guard.state(), HoldState::Held);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

/// `TestOverlappingLocks`.
#[test]
fn test_overlapping_locks() {
    let quorum = entered(3);
    let (first, second) = (blocking(quorum.locks()), blocking(quorum.locks()));
    let guard = first.mutex("m").acquire().unwrap();
    assert!(second.mutex("m").try_acquire().unwrap().is_none());
    let error = second.mutex("m").acquire_timeout(ms(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(counted(error.votes().cloned()).3, Verdict::Conflicted, "{error}");
    guard.ensure_held().unwrap();
}

/// `TestOverlappingLocksAsync`.
#[tokio::test(flavor = "multi_thread")]
async fn test_overlapping_locks_async() {
    let quorum = Quorum::entered(3).await;
    let (first, second) = (quorum.ready().await, quorum.ready().await);
    let guard = first.mutex("m").acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    assert!(second.mutex("m").try_acquire().await.unwrap().is_none());
    let error = second.mutex("m").acquire_timeout(ms(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let (granted, conflicted, failed, verdict) = counted(error.votes().cloned());
    assert_eq!((granted, failed, verdict), (0, 0, Verdict::Conflicted), "{error}");
    assert!(conflicted >= 2, "{error}");
    guard.ensure_held().unwrap();
}

/// `TestBlockingConcurrentLocks`: two threads, each holds it for two leases; also shows that leases are renewed.
#[test]
fn test_blocking_concurrent_locks() {
    let quorum = entered(3);
    let held = thread::scope(|scope| {
        let threads = [0, 1].map(|_| {
            let locks = blocking(quorum.locks());
            scope.spawn(move || {
                let guard = locks.mutex("m").lease(LEASE).acquire_timeout(LONG).unwrap();
                let from = Instant::now();
                thread::sleep(LEASE * 2);
                let until = Instant::now();
                guard.ensure_held().unwrap();
                assert_eq!(guard.release().unwrap(), Release::Released);
                (from, until)
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    let [one, other] = held;
    assert!(one.1 <= other.0 || other.1 <= one.0, "both held it: {held:?}");
}

/// `TestSequentialLocks`: acquired, given back, acquired again at once.
#[test]
fn test_sequential_locks() {
    let quorum = entered(3);
    let locks = [blocking(quorum.locks()), blocking(quorum.locks())];
    let mut last = 0;
    for locks in [&locks[0], &locks[1], &locks[0], &locks[0]] {
        let guard = locks.mutex("m").try_acquire().unwrap().expect("it was given back");
        assert!(guard.token().unwrap() > last);
        last = guard.token().unwrap();
        assert_eq!(guard.release().unwrap(), Release::Released);
    }
}

/// `TestRenewing`.
#[tokio::test(flavor = "multi_thread")]
async fn test_renewing() {
    let quorum = Quorum::entered(3).await;
    let guard = quorum.locks().mutex("m").lease(LEASE).acquire().await.unwrap();
    assert_eq!(guard.renewals(), 0);
    tokio::time::sleep(LEASE * 2).await;
    assert!(guard.renewals() > 2, "{}", guard.renewals());
    guard.ensure_held().unwrap();
}

/// `TestContendedExtendCancellation`: who got the lock only after others had it is renewed as well.
#[tokio::test(flavor = "multi_thread")]
async fn test_contended_extend_cancellation() {
    let quorum = Quorum::entered(3).await;
    let (first, second) = (quorum.locks(), quorum.locks());
    let one = first.mutex("m").lease(LEASE).acquire().await.unwrap();
    let next = waiter(&second.mutex("m").lease(LEASE));
    tokio::time::sleep(LEASE * 2 - ms(10)).await;
    assert!(one.renewals() >= 1);
    assert_eq!(one.release().await.unwrap(), Release::Released);
    let next = granted("the second one gets it", ms(2000), next).await;
    tokio::time::sleep(LEASE * 2).await;
    assert!(next.renewals() >= 1);
    next.ensure_held().unwrap();
}

/// `TestLockReleasedAfterTimeout`: the process of the holder dies.
#[tokio::test(flavor = "multi_thread")]
async fn test_lock_released_after_timeout() {
    let quorum = Quorum::entered(3).await;
    let ways = quorum.ways();
    let guard = ways.locks().mutex("m").lease(LEASE).acquire().await.unwrap();
    ways.die();
    let other = quorum.locks();
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    let next = within("the lease ends", LEASE + SOON * 3, other.mutex("m").acquire()).await.unwrap();
    assert_eq!(guard.state(), HoldState::Lost);
    assert!(next.token() > guard.token());
}

async fn quorum_of(nodes: usize, killed: usize) -> pilotman_core::Result<Option<pilotman_core::Guard>> {
    let mut quorum = Quorum::entered(nodes).await;
    kill(&mut quorum, 0..killed);
    let guard = within("an answer", ms(3000), quorum.locks().mutex("m").try_acquire()).await;
    if let Ok(Some(guard)) = &guard {
        guard.ensure_held().unwrap();
    }
    guard
}

/// `TestQuorum`, the first of four.
#[tokio::test(flavor = "multi_thread")]
async fn test_quorum_all_live() {
    assert!(quorum_of(3, 0).await.unwrap().is_some());
}

/// `TestQuorum`: none lives.
#[tokio::test(flavor = "multi_thread")]
async fn test_quorum_none_live() {
    let error = quorum_of(3, 3).await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["0 of 3 nodes", "2 needed"]);
    let (granted, conflicted, failed, verdict) = counted(error.votes().cloned());
    assert_eq!((granted, conflicted, verdict), (0, 0, Verdict::NoQuorum));
    assert!(failed >= 2, "{error}");
    assert!(error.is_retryable());
}

/// `TestQuorum`.
#[tokio::test(flavor = "multi_thread")]
async fn test_quorum_3_of_5() {
    assert!(quorum_of(5, 2).await.unwrap().is_some());
}

/// `TestQuorum`: with six nodes, three are no majority.
#[tokio::test(flavor = "multi_thread")]
async fn test_quorum_3_of_6_no_quorum() {
    let error = quorum_of(6, 3).await.unwrap_err();
    assert_says(&error, ErrorKind::NoQuorum, &["of 6 nodes", "4 needed"]);
    assert_eq!(counted(error.votes().cloned()).3, Verdict::NoQuorum);
}

/// As many factories as that race for one key; how many of them get it.
async fn race(quorum: &Quorum, name: &str) -> usize {
    let factories = [quorum.ready().await, quorum.ready().await, quorum.ready().await];
    let tries = factories.map(|locks| {
        let mutex = locks.mutex(name);
        tokio::spawn(async move { mutex.try_acquire().await.unwrap() })
    });
    let mut guards = Vec::new();
    for one in tries {
        guards.push(within("an answer", LONG, one).await.unwrap());
    }
    guards.iter().flatten().filter(|guard| guard.ensure_held().is_ok()).count()
}

/// `TestRaceForQuorum`.
#[tokio::test(flavor = "multi_thread")]
async fn test_race_for_quorum() {
    assert_eq!(race(&Quorum::entered(3).await, "m").await, 1);
}

/// `TestRaceForQuorumMultiple`.
#[tokio::test(flavor = "multi_thread")]
async fn test_race_for_quorum_multiple() {
    let quorum = Quorum::entered(3).await;
    for nth in 0..20 {
        assert_eq!(race(&quorum, &format!("m{nth}")).await, 1, "{nth}");
    }
}

/// `TestRaceForQuorumMultiple`, the other one, on an even number of nodes: halves are no majorities.
#[tokio::test(flavor = "multi_thread")]
async fn test_race_for_quorum_multiple_even() {
    let quorum = Quorum::entered(4).await;
    for nth in 0..20 {
        assert_eq!(race(&quorum, &format!("m{nth}")).await, 1, "{nth}");
    }
}

/// `TestPasswordConnection`.
#[tokio::test(flavor = "multi_thread")]
async fn test_password_connection() {
    let quorum = Quorum::start(3);
    for (nth, node) in quorum.0.iter().enumerate() {
        node.cli(&["CONFIG", "SET", "requirepass", &format!("secret-{nth}")]).unwrap();
    }
    let nodes = quorum.0.iter().enumerate().map(|(nth, node)| at(node.port()).password(format!("secret-{nth}")));
    let locks = of(redlock(nodes));
    locks.check().await.unwrap();
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_some());
}

/// `TestNonDefaultRedisDatabases`.
#[tokio::test(flavor = "multi_thread")]
async fn test_non_default_redis_databases() {
    let quorum = Quorum::start(3);
    let locks = of(redlock(quorum.ports().into_iter().map(|port| at(port).database(1))));
    let guard = locks.mutex("m").acquire().await.unwrap();
    assert_eq!(quorum.holding("m"), 0);
    for node in &quorum.0 {
        let mut client = node.connect().unwrap();
        client.call(&["SELECT", "1"]).unwrap();
        let limit = Instant::now() + LONG;
        while client.call(&["EXISTS", "m"]).unwrap() != Reply::Integer(1) {
            assert!(Instant::now() < limit, "the lock is in the database that was asked for");
            tokio::time::sleep(ms(5)).await;
        }
    }
    drop(guard);
}

/// `TestNonDefaultRedisKeyFormat`.
#[tokio::test(flavor = "multi_thread")]
async fn test_non_default_redis_key_format() {
    let quorum = Quorum::start(3);
    let format = |port| at(port).key_format("{0}-redislock").unwrap();
    let locks = of(redlock(quorum.ports().into_iter().map(format)));
    let guard = locks.mutex("m").acquire().await.unwrap();
    quorum.held_on("m-redislock", 3).await;
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    quorum.held_on("m-redislock", 0).await;
}

async fn over_tls(arguments: &[&str]) {
    let servers: Vec<Tls> = {
        let servers = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| servers.lock().unwrap().push(Tls::start(arguments).unwrap()));
            }
        });
        servers.into_inner().unwrap()
    };
    let node = |server: &Tls| {
        let ca = std::fs::read(&server.certificates.ca).unwrap();
        let node = at(server.node.port()).ca(ca).username(LOCKER).password(LOCKER_PASSWORD);
        node.key_format("lock:{}").unwrap()
    };
    let (first, second) = (of(redlock(servers.iter().map(node))), of(redlock(servers.iter().map(node))));
    first.check().await.unwrap();
    let guard = first.mutex("m").lease(LEASE).acquire().await.unwrap();
    let next = waiter(&second.mutex("m"));
    tokio::time::sleep(LEASE).await;
    assert!(guard.renewals() >= 1 && !next.is_finished());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("it is handed on over TLS", ms(3000), next).await);
}

/// `TestSslConnection`.
#[tokio::test(flavor = "multi_thread")]
async fn test_ssl_connection() {
    over_tls(&[]).await;
}

/// `TestSslWithProtocolConnection`.
#[tokio::test(flavor = "multi_thread")]
async fn test_ssl_with_protocol_connection() {
    over_tls(&["--tls-protocols", "TLSv1.2"]).await;
}

/// `TestCancelBlockingLock`.
#[test]
fn test_cancel_blocking_lock() {
    let quorum = entered(3);
    let (holder, other) = (blocking(quorum.locks()), blocking(quorum.locks()));
    let guard = holder.mutex("m").acquire().unwrap();
    let cancel = CancelToken::new();
    let canceller = cancel.clone();
    let start = Instant::now();
    let cancelling = thread::spawn(move || {
        thread::sleep(ms(300));
        canceller.cancel();
    });
    let error = other.mutex("m").with_cancel(&cancel).acquire_timeout(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(start.elapsed() < ms(300) + SOON * 2, "{:?}", start.elapsed());
    cancelling.join().unwrap();
    assert_eq!(guard.release().unwrap(), Release::Released);
    assert!(other.mutex("m").try_acquire().unwrap().is_some(), "nothing of the cancelled wait is in the way");
}

/// The same, asynchronously: the wait is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn test_cancel_blocking_lock_async() {
    let quorum = Quorum::entered(3).await;
    let (holder, other) = (quorum.locks(), quorum.locks());
    let guard = holder.mutex("m").acquire().await.unwrap();
    let waited = tokio::time::timeout(ms(300), other.mutex("m").acquire()).await;
    assert!(waited.is_err(), "others have it");
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(within("it is free", ms(2000), holder.mutex("m").acquire()).await.unwrap());
    quorum.nothing_left(ms(2000)).await;
}

/// `TestFactoryHasAtLeastOneEndPoint`.
#[test]
fn test_factory_has_at_least_one_end_point() {
    let error = RedlockBackend::new(Redlock::new([])).unwrap_err();
    assert_says(&error, ErrorKind::Misconfigured, &["without nodes", "redlock://"]);
    assert_eq!(error.backend(), Some("redlock"));
}

/// `TestExistingMultiplexers`: clients that the caller has already.
#[tokio::test(flavor = "multi_thread")]
async fn test_existing_multiplexers() {
    let quorum = Quorum::start(3);
    let client = |port| RedisNode::client(redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap());
    let locks = of(redlock(quorum.ports().into_iter().map(client)));
    let guard = locks.mutex("m").lease(LEASE).acquire().await.unwrap();
    quorum.held_on("m", 3).await;
    let next = waiter(&quorum.locks().mutex("m"));
    tokio::time::sleep(LEASE).await;
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(granted("a lock by other means is the same", ms(3000), next).await);
}

/// `TimeLock`, which only prints there. The figures are those of a build without optimisation.
#[tokio::test(flavor = "multi_thread")]
async fn time_lock() {
    const ROUNDS: u32 = 200;
    let quorum = Quorum::entered(3).await;
    let locks = quorum.ready().await;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let guard = locks.mutex("m").try_acquire().await.unwrap().expect("it was given back");
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
    println!("{:?} for acquiring and giving back", start.elapsed() / ROUNDS);
    assert!(start.elapsed() < ms(25) * ROUNDS, "{:?}", start.elapsed());
    quorum.nothing_left(ms(2000)).await;
}

/// Locks of RedLock.net and ours exclude each other where the key format is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_redlock_net_excludes_and_is_excluded() {
    let quorum = Quorum(start(3, |_| Node::start(&[]).unwrap()));
    let format = |port| at(port).key_format("redlock:{0}").unwrap();
    let locks = of(redlock(quorum.ports().into_iter().map(format)));
    let id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    for node in &quorum.0[..2] {
        node.cli(&["SET", "redlock:m", id, "NX", "PX", "2000"]).unwrap();
    }
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_none());
    let guard = within("its time ends", ms(10_000), locks.mutex("m").acquire()).await.unwrap();
    quorum.held_on("redlock:m", 3).await;
    for node in &quorum.0 {
        let taken = node.cli(&["SET", "redlock:m", id, "NX", "PX", "2000"]).unwrap();
        assert_eq!(taken, Reply::Nil, "{:?}", get(node, "redlock:m"));
    }
    drop(guard);
}
