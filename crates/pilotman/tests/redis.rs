//! Locks on a real Redis, chosen by its address.

#![cfg(all(unix, feature = "redis"))]

use std::time::Duration;

use pilotman::{ErrorKind, Locks};
use pilotman_testkit::servers::redis::Node;
use pilotman_testkit::servers::shared_or_skip;

#[tokio::test]
async fn a_redis_is_an_address_away() {
    let server = shared_or_skip("redis");
    let port = server.ports()[0];
    let prefix = format!("prefix=facade-{}:", std::process::id());
    let url = format!("redis://127.0.0.1:{port}/0?lease=5s&client-name=facade&{prefix}");
    let locks = Locks::connect(&url).await.unwrap();
    locks.check().await.unwrap();
    let other = Locks::connect(&format!("{}?{prefix}", server.url())).await.unwrap();

    let guard = locks.mutex("invoice:42").acquire().await.unwrap();
    let remaining = guard.remaining().unwrap();
    assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(5), "{remaining:?}");
    assert!(other.mutex("invoice:42").try_acquire().await.unwrap().is_none());
    let token = guard.token().unwrap();
    guard.release().await.unwrap();
    let guard = other.mutex("invoice:42").acquire().await.unwrap();
    assert!(guard.token().unwrap() > token);
    assert!(guard.remaining().unwrap() > Duration::from_secs(5), "the default lease is longer");
    guard.release().await.unwrap();
}

/// What the .NET documents write, and what a portal of a cloud gives.
#[tokio::test]
async fn a_bare_address_and_a_connection_string_name_the_same_server() {
    let server = shared_or_skip("redis");
    let port = server.ports()[0];
    let name = format!("facade-bare-{}", std::process::id());
    let bare = Locks::connect(&format!("127.0.0.1:{port}")).await.unwrap();
    let string = format!("127.0.0.1:{port},ssl=False,abortConnect=False,connectTimeout=2000,name=facade");
    let string = Locks::connect(&string).await.unwrap();
    let guard = bare.mutex(&name).acquire().await.unwrap();
    assert!(string.mutex(&name).try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    string.mutex(&name).acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn secrets_come_from_files_and_sockets_are_addresses() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock").display().to_string();
    // The kit looks whether the server is up as the default user, so that one keeps its rights.
    let server = Node::start(&["--unixsocket", &socket]).unwrap();
    server.cli(&["ACL", "SETUSER", "job", "on", ">p+w/d @%", "~*", "&*", "+@all"]).unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "p+w/d @%\n").unwrap();
    let file = secret.display();

    let urls = [
        format!("redis+unix://{socket}?username=job&password-file={file}"),
        format!("redis://job@127.0.0.1:{}?password-file={file}", server.port()),
        format!("redis://job:p+w%2Fd%20%40%25@127.0.0.1:{}", server.port()),
        format!("redis://127.0.0.1:{}?username=job&password=p+w/d%20@%25", server.port()),
        format!("127.0.0.1:{},user=job,password=p+w/d @%", server.port()),
    ];
    for url in urls {
        let locks = Locks::connect(&url).await.unwrap();
        let guard = locks.mutex("a").acquire().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let who = server.cli(&["CLIENT", "LIST"]).unwrap().to_string();
        assert!(who.contains("user=job"), "{who}");
        guard.release().await.unwrap();
        locks.close().await;
    }

    let wrong = Locks::connect(&format!("redis://job:hunter2@127.0.0.1:{}", server.port())).await.unwrap();
    let error = wrong.mutex("a").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.has_no_effect() && !format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let port = pilotman_testkit::net::free_ports(1).unwrap()[0];
    let locks = Locks::connect(&format!("127.0.0.1:{port}")).await.unwrap();
    let error = locks.mutex("a").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.has_no_effect(), "{error:?}");
}

/// Percent-encoded, every byte that is no letter or digit.
fn encoded(url: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    url.bytes().map(one).collect()
}

/// Three nodes of a quorum, one of which has a password and a key format of its own.
#[tokio::test]
async fn a_quorum_is_an_address_away() {
    if pilotman_testkit::servers::is_skipped("redis") {
        return;
    }
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&[]).unwrap()).collect();
    nodes[2].cli(&["ACL", "SETUSER", "job", "on", ">p+w/d @%", "~*", "&*", "+@all"]).unwrap();
    let ports: Vec<u16> = nodes.iter().map(Node::port).collect();
    let hosts = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let alike = format!("redlock://{hosts}?lease=5s&key-format=jobs:{{}}&longest-lease=20s&quorum-name=facade");
    let by_node = [
        format!("redis://127.0.0.1:{}?key-format=jobs:{{}}", ports[0]),
        format!("redis://127.0.0.1:{}?prefix=jobs:", ports[1]),
        format!("redis://job:p+w%2Fd%20%40%25@127.0.0.1:{}?prefix=jobs:", ports[2]),
    ];
    let by_node = by_node.map(|url| format!("node={}", encoded(&url))).join("&");
    let by_node = format!("redlock://?{by_node}&longest-lease=20s&quorum-name=facade");
    let locks = Locks::connect(&alike).await.unwrap();
    locks.check().await.unwrap();
    let other = Locks::connect(&by_node).await.unwrap();
    other.check().await.unwrap();
    let who = nodes[2].cli(&["CLIENT", "LIST"]).unwrap().to_string();
    assert!(who.contains("user=job"), "{who}");

    let guard = locks.mutex("invoice:42").acquire().await.unwrap();
    assert!(guard.remaining().unwrap() <= Duration::from_secs(5));
    for node in &nodes {
        assert_eq!(node.cli(&["EXISTS", "jobs:invoice:42"]).unwrap().integer(), Some(1));
    }
    assert!(other.mutex("invoice:42").try_acquire().await.unwrap().is_none());
    let token = guard.token().unwrap();
    guard.release().await.unwrap();

    // One may be away, two not.
    nodes[0].kill().unwrap();
    let guard = other.mutex("invoice:42").acquire().await.unwrap();
    assert!(guard.token().unwrap() > token);
    guard.release().await.unwrap();
    nodes[1].kill().unwrap();
    let error = other.mutex("invoice:42").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoQuorum, "{error}");
    assert!(error.is_retryable() && error.votes().is_some(), "{error:?}");
    assert!(!format!("{error:?}").contains("p+w/d"), "{error:?}");
    locks.close().await;
    other.close().await;
}
