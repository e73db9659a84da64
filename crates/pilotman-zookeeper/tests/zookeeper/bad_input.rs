//! What can't work gets a clear error, in time, and leaves nothing.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, Locks, Name};
use pilotman_testkit::servers::zookeeper::ZooKeeper as Server;
use pilotman_testkit::servers::zookeeper::{SASL_PASSWORD, SASL_USER, Security};
use pilotman_zookeeper::{AccessControl, ZooKeeper};

use crate::common::{children, client, eventually, locks_of, make, ms, options, shared, unique};

async fn refusal(locks: &Locks) -> pilotman_core::Error {
    let start = Instant::now();
    let error = locks.mutex("m").acquire().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(error.backend(), Some("zookeeper"));
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn no_member_can_be_reached() {
    // Reserved ports: nobody listens there.
    let locks = locks_of(ZooKeeper::hosts(["127.0.0.1:1", "127.0.0.1:2"]).unwrap());
    let error = refusal(&locks).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.has_no_effect());
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("127.0.0.1:2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_says_nothing_is_bounded_by_the_time_out_of_the_acquire() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let locks = locks_of(options(silent.local_addr().unwrap().port()).connect_timeout(ms(1500)));
    let start = Instant::now();
    let outcome = locks.mutex("m").try_acquire_for(ms(200)).await;
    assert!(start.elapsed() < ms(1300), "{:?}", start.elapsed());
    assert!(outcome.map_or_else(|error| error.kind() == ErrorKind::Unavailable, |guard| guard.is_none()));
    // A dropped acquire ends the attempt to connect.
    let acquire = tokio::time::timeout(ms(100), locks.mutex("m").acquire()).await;
    assert!(acquire.is_err());
    let error = refusal(&locks).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("1.5s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chroot_that_is_not_there() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("chroot"));
    let path = format!("/{name}");
    let with_chroot = || locks_of(options(port).chroot(&path).unwrap());
    let error = refusal(&with_chroot()).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("chroot"), "{error}");
    assert!(client.check_stat(&path).await.unwrap().is_none(), "it was not made");
    make(&client, &path).await;
    let locks = with_chroot();
    let guard = locks.mutex("m").acquire().await.unwrap();
    assert_eq!(children(&client, &format!("{path}/m")).await.len(), 1, "all happens below it");
    // It goes while it is used.
    guard.release().await.unwrap();
    locks.close().await;
    client.delete(&path, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_time_out_that_the_servers_don_t_allow() {
    let server = Server::start(&["maxSessionTimeout=2000"]).unwrap();
    let error = refusal(&locks_of(options(server.port()))).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("2s") && error.to_string().contains("maxSessionTimeout"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_that_no_server_knows() {
    let (_server, port) = shared();
    let error = refusal(&locks_of(options(port).auth("no-such-scheme", "hunter2"))).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("authentication") && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_fit_into_packets() {
    let (_server, port) = shared();
    let locks = locks_of(options(port));
    let base = unique("long");
    for filling in ["x", "/"] {
        let name = format!("{base}{}", filling.repeat(Name::MAX_BYTES - base.len()));
        locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    }
    locks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_where_it_is_asked_for() {
    let server = Server::start_with(Security::Tls, &[]).unwrap();
    let ca = std::fs::read(server.certificates().ca).unwrap();
    let secure = |host: &str| {
        let zookeeper = ZooKeeper::host(format!("{host}:{}", server.secure_port().unwrap())).unwrap();
        zookeeper.session_timeout(ms(5000)).connect_timeout(ms(10_000))
    };
    let locks = locks_of(secure("localhost").ca(&ca));
    let guard = locks.mutex("m").acquire().await.unwrap();
    let plain = locks_of(options(server.port()));
    assert!(plain.mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    plain.mutex("m").acquire().await.unwrap().release().await.unwrap();
    // A certificate of nobody who is trusted.
    let error = refusal(&locks_of(secure("localhost").tls().connect_timeout(ms(1500)))).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // No TLS where it is needed, and TLS where there is none.
    let error = refusal(&locks_of(options(server.secure_port().unwrap()).connect_timeout(ms(1500)))).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    locks.close().await;
    plain.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sasl_is_used_where_it_is_asked_for() {
    let server = Server::start_with(Security::Sasl, &[]).unwrap();
    let as_user = |password: &str| options(server.port()).sasl_digest_md5(SASL_USER, password);
    let own = AccessControl::parse(&format!("sasl:{SASL_USER}:cdrwa")).unwrap();
    let locks = locks_of(as_user(SASL_PASSWORD).acl([own]).unwrap());
    let guard = locks.mutex("m").acquire().await.unwrap();
    // Each connection shows it anew.
    let other = locks_of(as_user(SASL_PASSWORD));
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    let findings = locks.diagnose().await.unwrap();
    assert!(findings.iter().any(|finding| finding.about == "secrets" && finding.what.contains("DIGEST-MD5")));
    // A wrong password, and none.
    for zookeeper in [as_user("hunter2"), options(server.port())] {
        let error = refusal(&locks_of(zookeeper.connect_timeout(ms(5000)))).await;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("authentication") && !error.to_string().contains("hunter2"), "{error}");
    }
    locks.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_allows_shorter_sessions_than_the_others() {
    let (_server, port) = shared();
    let short = Server::start(&["maxSessionTimeout=6000"]).unwrap();
    let both = || {
        let zookeeper = ZooKeeper::hosts([format!("127.0.0.1:{port}"), short.address()]).unwrap();
        zookeeper.session_timeout(ms(9000)).connect_timeout(ms(20_000))
    };
    // With a session at the other one, which agrees to what was asked for.
    let mut sessions = (0..50).map(|_| locks_of(both()));
    let locks = loop {
        let locks = sessions.next().expect("one of them is at the other server");
        match locks.check().await {
            Ok(()) => break locks,
            Err(error) => assert!(error.to_string().contains("6s at most"), "{error}"),
        }
    };
    let name = unique("short");
    eventually("it is found out", || async {
        match locks.mutex(&name).acquire().await {
            Ok(guard) => {
                guard.release().await.unwrap();
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
                let text = error.to_string();
                if !text.contains(&short.address()) {
                    // It was asked for anew meanwhile, at the other server.
                    return false;
                }
                assert!(text.contains("maxSessionTimeout"), "{text}");
                true
            }
        }
    })
    .await;
    // What the shorter session can keep is to be had.
    locks.mutex(&name).lease(ms(1500)).acquire().await.unwrap().release().await.unwrap();
    let findings = locks.diagnose().await.unwrap();
    let at_short = |finding: &&pilotman_core::backend::Finding| finding.to_string().contains(&short.address());
    let bounds = findings.iter().filter(at_short).find(|finding| finding.about == "bounds").expect("it is asked");
    assert_eq!(bounds.severity, pilotman_core::backend::Severity::Problem, "{bounds}");
    locks.close().await;
}
