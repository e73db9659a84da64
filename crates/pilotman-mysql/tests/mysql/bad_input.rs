//! Servers that can't be used: a clear error, in time.

use std::time::{Duration, Instant};

use pilotman_core::backend::Severity;
use pilotman_core::{Error, ErrorKind};
use pilotman_mysql::{MySql, SessionOptions, TlsMode};
use pilotman_testkit::servers::mysql::{Encryption, Flavour, LOCKER, MySql as Server, PASSWORD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, soon, unique};

async fn refused(mysql: MySql) -> Error {
    let locks = locks_of(mysql);
    let error = soon("an answer", locks.mutex("m").try_acquire()).await.expect_err("it can't be used");
    assert!(error.has_no_effect(), "{error:?}");
    assert!(!error.to_string().contains("pw-") && !format!("{error:?}").contains("pw-"), "a secret in {error:?}");
    error
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, text: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn a_wrong_password() {
    for (_server, port) in [mariadb(), mysql()] {
        let error = refused(options(port).password("pw-wrong")).await;
        says(&error, ErrorKind::Misconfigured, "refuses the user");
    }
}

#[tokio::test]
async fn no_such_database() {
    let (_server, port) = mariadb();
    let error = refused(options(port).database("nowhere")).await;
    // A user who may not see all databases is told that he may not use it.
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = pilotman_testkit::net::free_ports(1).unwrap()[0];
    says(&refused(options(port)).await, ErrorKind::Unavailable, "did not begin a session");
}

#[tokio::test]
async fn mysql_9_lets_us_log_in_without_tls() {
    let (_server, port) = mysql();
    // The password is not known to the server's memory at first, so that all of the exchange takes place.
    Person::admin(port).await.value("FLUSH PRIVILEGES").await;
    let locks = locks_of(options(port).tls(TlsMode::Disable));
    locks.mutex(unique("m")).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
    let locks = locks_of(options(port).tls(TlsMode::Require));
    locks.mutex(unique("m")).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
}

#[tokio::test]
async fn tls_is_demanded_and_refused() {
    let server = Server::start_with(Flavour::MariaDb, Encryption::Off, &[]).unwrap();
    let error = refused(options(server.port()).tls(TlsMode::Require)).await;
    says(&error, ErrorKind::Misconfigured, "doesn't speak TLS");
    locks_of(options(server.port()).tls(TlsMode::Prefer)).check().await.expect("without TLS");
    drop(server);

    let server = Server::start_with(Flavour::MariaDb, Encryption::Demanded, &[]).unwrap();
    let error = refused(options(server.port()).tls(TlsMode::Disable)).await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    locks_of(options(server.port()).tls(TlsMode::Prefer)).check().await.expect("with TLS");
    let path = server.socket();
    let by_socket = MySql::host(path.to_str().unwrap()).unwrap().user(LOCKER).password(PASSWORD);
    locks_of(by_socket.tls(TlsMode::Require)).check().await.expect("a Unix socket needs no TLS");

    let ca = std::fs::read(server.certificates().unwrap().ca).unwrap();
    let full = options(server.port()).tls(TlsMode::VerifyFull);
    says(&refused(full.clone()).await, ErrorKind::Misconfigured, "not to be trusted");
    locks_of(full.clone().ca(&ca)).check().await.expect("its authority is known");
    let other = full.ca(&ca).tls_name("elsewhere.example");
    says(&refused(other).await, ErrorKind::Misconfigured, "not to be trusted");
    let bad = options(server.port()).tls(TlsMode::VerifyFull).ca("no certificate");
    assert_eq!(refused(bad).await.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_read_only_replica() {
    let server = Server::start(Flavour::MariaDb, &["--read-only=1"]).unwrap();
    says(&refused(options(server.port())).await, ErrorKind::Misconfigured, "is read-only");
    let (_shared, port) = mariadb();
    let hosts = [format!("127.0.0.1:{}", server.port()), format!("127.0.0.1:{port}")];
    let both = MySql::hosts(hosts).unwrap().user(LOCKER).password(PASSWORD);
    locks_of(both).check().await.expect("the replica is passed over");
    server.sql("SET GLOBAL read_only=0").unwrap();
    let locks = locks(server.port());
    locks.check().await.expect("it takes writes now");
    server.sql("SET GLOBAL read_only=1").unwrap();
    let findings = locks.diagnose().await.unwrap();
    assert!(findings.iter().any(|finding| finding.about == "primary" && finding.severity == Severity::Problem));
}

#[tokio::test]
async fn a_doctor_finds_nothing_wrong() {
    for (_server, port) in [mariadb(), mysql()] {
        let findings = locks(port).diagnose().await.unwrap();
        assert!(findings.len() >= 7, "{findings:?}");
        let bad: Vec<_> = findings.iter().filter(|found| found.severity == Severity::Problem).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

/// Answers each connection with these bytes, reads what comes, and closes if told so.
async fn listener(bytes: &'static [u8], closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.write_all(bytes).await;
                let mut rest = [0; 1024];
                while !closes && stream.read(&mut rest).await.is_ok_and(|read| read > 0) {
                    // Each question is answered with the same nonsense.
                    let _ = stream.write_all(bytes).await;
                }
            });
        }
    });
    port
}

/// What MariaDB begins with, cut off in various places, and with an answer that is none.
const HANDSHAKE: &[u8] =
    b"\x59\0\0\0\x0a5.5.5-10.11.19-MariaDB\0\x07\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\
    \x1d\0\0\0abcdefghijkl\0caching_sha2_password\0";

#[tokio::test]
async fn a_server_that_talks_nonsense() {
    let texts: [&'static [u8]; 7] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\0",
        b"\x01\0\0\0\x0a",
        b"\xff\xff\xff\0garbage",
        b"\x05\0\0\0\xff\x10\x04no",
        HANDSHAKE,
        b"",
    ];
    for text in texts {
        for closes in [true, false] {
            let port = listener(text, closes).await;
            let start = Instant::now();
            let mysql = options(port).tls(TlsMode::Disable).connect_timeout(Duration::from_secs(1));
            let error = refused(mysql).await;
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Misconfigured),
                "{error} after {:?}",
                String::from_utf8_lossy(text)
            );
            assert!(start.elapsed() < Duration::from_secs(15));
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_in_the_middle_of_a_reply() {
    for length in [3, 5, 30, HANDSHAKE.len() - 1] {
        let port = listener(&HANDSHAKE[..length], true).await;
        assert_eq!(refused(options(port).tls(TlsMode::Disable)).await.kind(), ErrorKind::Unavailable, "{length}");
    }
}

#[tokio::test]
async fn no_connection_is_left() {
    let server = Server::start(Flavour::MariaDb, &["--max-user-connections=1"]).unwrap();
    let (one, other) = (locks(server.port()), locks(server.port()));
    let guard = one.mutex("m").try_acquire().await.unwrap().expect("it is free");
    let error = other.mutex("n").try_acquire().await.unwrap_err();
    says(&error, ErrorKind::Unavailable, "has no connection left");
    guard.release().await.unwrap();
}

#[tokio::test]
async fn more_holds_than_sessions() {
    let (_server, port) = mariadb();
    let mut sessions = SessionOptions::default();
    (sessions.max_sessions, sessions.max_waiting) = (1, 1);
    let locks = locks_of(options(port).sessions(sessions));
    let name = unique("many");
    let mut guards = Vec::new();
    for number in 0..50 {
        let guard = locks.mutex(format!("{name}-{number}")).try_acquire().await.unwrap();
        guards.push(guard.expect("one session carries many holds"));
    }
    // To wait, a session must have no holds, and there is but one.
    let other = locks_of(options(port));
    let taken = other.mutex(unique("taken")).acquire().await.unwrap();
    let error = locks.mutex(taken.name()).acquire_timeout(Duration::from_millis(500)).await.unwrap_err();
    says(&error, ErrorKind::TimedOut, "held");
    assert!(guards.iter().all(|guard| guard.ensure_held().is_ok()));
    // It is tried now and then until it is free.
    let mutex = locks.mutex(taken.name());
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    taken.release().await.unwrap();
    soon("it is had", waiting).await.unwrap().unwrap().release().await.unwrap();
}

/// Passes bytes on in both directions, and gives the session another number in the server's first message, as a proxy does that has
/// numbers of its own.
async fn renumbering(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let mut first = [0; 1024];
                let read = server.read(&mut first).await.unwrap();
                // Length, sequence, protocol, the version up to its NUL: then comes the number.
                let version = first[5..read].iter().position(|byte| *byte == 0).unwrap();
                first[5 + version + 1] ^= 1;
                client.write_all(&first[..read]).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_proxy_is_refused_unless_it_is_trusted() {
    for (_server, port) in [mariadb(), mysql()] {
        let proxy = renumbering(port).await;
        let options = options(proxy);
        says(&refused(options.clone()).await, ErrorKind::Misconfigured, "a proxy stands before");
        let (locks, other) = (locks_of(options.trust_proxy(true)), locks(port));
        let guard = locks.mutex(unique("proxy")).try_acquire().await.unwrap().expect("it is free");
        // What ends a wait goes by the number that the server itself has for the session.
        let waits = other.mutex(guard.name()).acquire_timeout(Duration::from_millis(100)).await;
        assert_eq!(waits.unwrap_err().kind(), ErrorKind::TimedOut);
        let name = unique("proxy");
        let taken = other.mutex(&name).acquire().await.unwrap();
        let waits = locks.mutex(&name).acquire_timeout(Duration::from_millis(100)).await;
        assert_eq!(waits.unwrap_err().kind(), ErrorKind::TimedOut);
        drop((guard, taken));
    }
}
