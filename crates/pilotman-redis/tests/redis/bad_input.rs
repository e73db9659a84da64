//! Wrong configuration, wrong servers, wrong keys: clear errors without secrets, and nothing left behind.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, Lock, Locks};
use pilotman_redis::{RedisBackend, RedisNode};
use pilotman_testkit::servers::redis::{LOCKER, LOCKER_PASSWORD, Node, Replicated, Reply, Tls};

use crate::common::{assert_says, at, get, keys, locks, locks_at, ms, nothing_left};

async fn refused(locks: &Locks) -> pilotman_core::Error {
    let start = Instant::now();
    let error = locks.mutex("m").try_acquire().await.unwrap_err();
    assert!(start.elapsed() < ms(3000), "{:?}: {error}", start.elapsed());
    // Who waits hears the same, after it was tried for a while where that can help.
    let waited = locks.mutex("m").acquire_timeout(ms(9000)).await.unwrap_err();
    assert_eq!(waited.kind(), error.kind(), "{waited}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_wrong_configuration() {
    let node = Node::start(&[]).unwrap();
    let mut admin = node.connect().unwrap();
    admin.call(&["CONFIG", "SET", "requirepass", "right-secret"]).unwrap();
    let words = ["user name or password", "set the right"];
    let wrong = [
        at(node.port()),
        at(node.port()).password("wrong-secret"),
        at(node.port()).username("nobody").password("right-secret"),
    ];
    for node in wrong {
        let error = refused(&locks(node)).await;
        assert_says(&error, ErrorKind::Misconfigured, &words);
        assert!(!error.is_retryable() && error.has_no_effect());
    }
    assert_eq!(admin.call(&["KEYS", "*"]).unwrap().items(), []);
    let right = locks(at(node.port()).password("right-secret"));
    assert!(right.mutex("m").try_acquire().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plain_text_are_told_apart() {
    let (plain, tls) = (Node::start(&[]).unwrap(), Tls::start(&[]).unwrap());
    let ca = std::fs::read(&tls.certificates.ca).unwrap();
    let user = |node: RedisNode| node.username(LOCKER).password(LOCKER_PASSWORD);
    // Depending on the random bytes of the greeting, a plain server refuses it or waits for the rest of a line.
    let error = refused(&locks(at(plain.port()).ca(ca.clone()).connect_timeout(ms(1500)))).await;
    assert!([ErrorKind::Misconfigured, ErrorKind::Unavailable].contains(&error.kind()));
    assert_says(&error, error.kind(), &["port speaks TLS"]);
    assert!(error.has_no_effect());
    let error = refused(&locks(user(at(tls.node.port())).connect_timeout(ms(1500)))).await;
    assert_says(&error, ErrorKind::Unavailable, &["rediss://"]);
    assert!(error.has_no_effect());
    // A server whose authority is not trusted, and one with another name.
    let strangers = std::fs::read(&Tls::start(&[]).unwrap().certificates.ca).unwrap();
    for node in [at(tls.node.port()).ca(strangers), at(tls.node.port()).ca(ca.clone()).server_name("example.com")] {
        let error = refused(&locks(user(node))).await;
        assert_says(&error, ErrorKind::Misconfigured, &["TLS", "authority", "server's name"]);
    }
    let error = refused(&locks(user(at(tls.node.port())).ca(&b"no certificate"[..]))).await;
    assert_says(&error, ErrorKind::Misconfigured, &[]);
    let named = user(at(tls.node.port())).ca(ca).server_name("localhost").key_format("lock:{}").unwrap();
    tls.node.cli(&["ACL", "SETUSER", LOCKER, "&lock:*"]).unwrap();
    assert!(locks(named).mutex("m").try_acquire().await.unwrap().is_some());
    assert_eq!(keys(&plain), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_lock_is_told_what_is_missing() {
    let node = Node::start(&[]).unwrap();
    let rules = ["on", ">user-secret", "~mine:*", "&mine:*", "+@all"];
    node.cli(&[&["ACL", "SETUSER", "narrow"], &rules[..]].concat()).unwrap();
    let user =
        |format: &str| locks(at(node.port()).username("narrow").password("user-secret").key_format(format).unwrap());
    let error = refused(&user("{}")).await;
    assert_says(&error, ErrorKind::Misconfigured, &["may not", "keys and channels", "prefix"]);
    assert_eq!(keys(&node), [""; 0]);
    let locks = user("mine:{}");
    let (rw, semaphore, mutex) = (locks.rw_lock("rw"), locks.semaphore("s", 1), locks.mutex("m"));
    for lock in [&*mutex, rw.reader(), rw.writer(), &*semaphore] {
        lock.acquire().await.unwrap().release().await.unwrap();
    }
}

/// A server that answers whatever comes with the same bytes.
fn answering(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    // Once for each command.
                    let lines = buffer[..length].split(|byte| *byte == b'\n');
                    let commands = lines.filter(|line| line.starts_with(b"*")).count();
                    if stream.write_all(&bytes.repeat(commands.max(1))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_redis_is_an_error_and_no_panic() {
    let answers: [&'static [u8]; 12] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        b"\0\0\0\0\0\0",
        b"+OK\r\n",
        b"$-1\r\n",
        b":1\r\n",
        b"*-5\r\n",
        b"*2147483647\r\n",
        b"%2147483647\r\n",
        b"$999999999999999999999\r\n",
        b">2\r\n$7\r\nmessage\r\n",
        b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' \r\n",
    ];
    let attempts = answers.map(|answer| {
        tokio::spawn(async move {
            let locks = locks(at(answering(answer)).password("a-secret").connect_timeout(ms(1500)));
            let start = Instant::now();
            let error = locks.mutex("m").try_acquire().await.unwrap_err();
            assert!(start.elapsed() < ms(5000), "{:?} after {answer:?}", start.elapsed());
            let waited = locks.mutex("m").acquire_timeout(ms(3000)).await.unwrap_err();
            for error in [error, waited] {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains("secret"), "{shown}");
                println!("{:?}: {error}", String::from_utf8_lossy(answer));
                use ErrorKind::{Internal, Misconfigured, TimedOut, Unavailable};
                assert!([Internal, Misconfigured, TimedOut, Unavailable].contains(&error.kind()), "{shown}");
                assert!(error.advice().is_some() || error.kind() == TimedOut, "{shown}");
                assert!(!shown.contains("panicked"), "{shown}");
            }
        })
    });
    for attempt in attempts {
        attempt.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable_at_once() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let start = Instant::now();
    let error = locks_at(port).mutex("m").try_acquire().await.unwrap_err();
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    assert_says(&error, ErrorKind::Unavailable, &[&port.to_string(), "runs"]);
    assert!(error.is_retryable() && error.has_no_effect());
    let error = locks(RedisNode::endpoint("no-such-host.invalid").unwrap()).check().await.unwrap_err();
    assert_says(&error, ErrorKind::Unavailable, &["no-such-host.invalid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_kind_is_left_alone() {
    let node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    // As Redisson has it.
    node.cli(&["HSET", "m", "uuid:1", "1"]).unwrap();
    node.cli(&["SET", "pilotman:rw:{rw}", "text"]).unwrap();
    node.cli(&["HSET", "pilotman:semaphore:{s}", "field", "1"]).unwrap();
    let before = keys(&node);
    let (rw, semaphore, mutex) = (locks.rw_lock("rw"), locks.semaphore("s", 1), locks.mutex("m"));
    let all: [&Lock; 4] = [&mutex, rw.reader(), rw.writer(), &semaphore];
    for lock in all {
        let tried = lock.try_acquire().await.unwrap_err();
        let waited = lock.acquire_timeout(ms(2000)).await.unwrap_err();
        for error in [tried, waited] {
            assert_says(&error, ErrorKind::Misconfigured, &["no lock of this kind", "another name"]);
            assert!(error.has_no_effect(), "{error:?}");
        }
    }
    assert_eq!(keys(&node).len(), before.len(), "{:?}", keys(&node));
    assert_eq!(node.cli(&["HGET", "m", "uuid:1"]).unwrap(), Reply::Text("1".to_owned()));
    assert_eq!(get(&node, "pilotman:rw:{rw}").as_deref(), Some("text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_alone_is_refused_at_once() {
    let set = Replicated::start(1, &[]).unwrap();
    let start = Instant::now();
    let error = locks_at(set.replicas[0].port()).mutex("m").try_acquire().await.unwrap_err();
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    assert_says(&error, ErrorKind::Unavailable, &["read-only replica", "connect to the primary"]);
    assert!(error.has_no_effect());
    assert_eq!(keys(&set.primary), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_out_of_bounds_reaches_no_server() {
    let node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    let bad =
        [Duration::ZERO, RedisBackend::SHORTEST_LEASE - ms(1), RedisBackend::LONGEST_LEASE + ms(1), Duration::MAX];
    for lease in bad {
        let error = locks.mutex("m").lease(lease).try_acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("lease") && error.to_string().contains("100ms"), "{error}");
        assert!(error.has_no_effect());
    }
    let connected = node.info("total_connections_received").unwrap();
    let counted: u32 = connected.parse().unwrap();
    // Those of the kit's own questions.
    assert!(counted <= 10, "{counted}");
    for lease in [RedisBackend::SHORTEST_LEASE, RedisBackend::LONGEST_LEASE] {
        let guard = locks.mutex("m").lease(lease).acquire().await.unwrap();
        guard.release().await.unwrap();
    }
    nothing_left(&node, ms(2000)).await;
}

#[test]
fn a_key_format_without_one_placeholder_is_refused() {
    for format in ["", "locks:", "{}{}", "{0}:{0}"] {
        let error = at(6379).key_format(format).unwrap_err();
        assert_says(&error, ErrorKind::Misconfigured, &["placeholder", "{}"]);
    }
}

#[tokio::test]
async fn a_server_that_repeats_what_it_does_not_know_leaks_no_password() {
    let server = Node::start(&["--rename-command", "HELLO", ""]).unwrap();
    let locks = locks(at(server.port()).password("hunter2"));
    let error = refused(&locks).await;
    let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
    assert!(!shown.contains("hunter2"), "{shown}");
}
