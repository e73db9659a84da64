//! Clear errors, and nothing left locked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use pilotman_core::ErrorKind;
use pilotman_postgres::{Postgres, PostgresBackend, Scope, TlsMode};
use pilotman_testkit::servers::postgres::{Encryption, PgBouncer, Pooling, Postgres as Cluster};

use crate::common::{LONG, Server, at, client, count, locked, locks, ms, says, sessions, unique, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password() {
    let server = Server::get();
    let locks = locks(server.options("wrong").password("not-this-one"));
    let error = locks.mutex("m").try_acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["m", "role", "locker", "pg_hba.conf"]);
    assert!(!error.to_string().contains("not-this-one") && error.has_no_effect());
    says(&locks.check().await.unwrap_err(), ErrorKind::Misconfigured, &["role"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database() {
    let server = Server::get();
    let error = locks(server.options("missing").database("nowhere")).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["no such database", "nowhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = locks(at(port)).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["can't connect", &port.to_string()]);
    assert!(error.is_retryable() && error.has_no_effect());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_demanded_or_refused() {
    let off = Server::get();
    let error = locks(off.options("tls").tls(TlsMode::Require)).check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["no TLS", "sslmode"]);
    locks(off.options("tls").tls(TlsMode::Prefer)).check().await.unwrap();

    let demanded = Cluster::start_with(Encryption::Demanded, &[]).unwrap();
    let error = locks(at(demanded.port()).tls(TlsMode::Disable)).check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["refuses"]);
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        locks(at(demanded.port()).tls(mode)).check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_as_far_as_asked_for() {
    let server = Cluster::start_with(Encryption::Demanded, &[]).unwrap();
    let ca = server.certificates().unwrap().ca.clone();
    let by_name = || {
        let postgres = Postgres::host(format!("localhost:{}", server.port())).unwrap();
        postgres.user("locker").password("pw-locker").database("postgres")
    };
    let known = std::fs::read(&ca).unwrap();
    let other = Cluster::start_with(Encryption::Demanded, &[]).unwrap();
    let unknown = std::fs::read(&other.certificates().unwrap().ca).unwrap();
    locks(by_name().tls(TlsMode::VerifyFull).ca(&known)).check().await.unwrap();
    locks(by_name().tls(TlsMode::VerifyCa).ca(&known)).check().await.unwrap();
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let error = locks(by_name().tls(mode).ca(&unknown)).check().await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &["TLS", "certificate"]);
    }
    let error = locks(by_name().tls(TlsMode::VerifyFull).ca("no PEM")).check().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["PEM"]);
    // A lock over TLS, with a wait that is cancelled over TLS.
    let (one, two) = (locks(by_name().tls(TlsMode::VerifyFull).ca(&known)), locks(by_name().ca(&known)));
    let guard = one.mutex("m").acquire().await.unwrap();
    assert!(two.mutex("m").try_acquire_for(ms(200)).await.unwrap().is_none());
    guard.release().await.unwrap();
    two.mutex("m").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_and_passed_over() {
    let primary = Cluster::start(&[]).unwrap();
    let standby = primary.standby(&[]).unwrap();
    let error = locks(at(standby.port())).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["standby", "primary"]);
    let hosts = [standby.port(), primary.port()].map(|port| format!("127.0.0.1:{port}"));
    let both = Postgres::hosts(hosts).unwrap().user("locker").password("pw-locker").database("postgres");
    let both = locks(both);
    let guard = both.mutex("m").acquire().await.unwrap();
    assert!(locks(at(primary.port())).mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_behind_a_pooler_are_refused() {
    let server = Cluster::start(&[]).unwrap();
    let pool = PgBouncer::start(Pooling::Transaction, &server).unwrap();
    let error = locks(at(pool.port())).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["pooler", "scope=transaction", "pooler=session"]);
    // Transactions are safe there, and exclude sessions at the server itself.
    let pooled = locks(at(pool.port()).scope(Scope::Transaction));
    let guard = pooled.mutex("m").acquire().await.unwrap();
    assert!(locks(at(server.port())).mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();

    let pool = PgBouncer::start(Pooling::Session, &server).unwrap();
    says(&locks(at(pool.port())).check().await.unwrap_err(), ErrorKind::Misconfigured, &["pooler=session"]);
    let trusted = locks(at(pool.port()).trust_pooler(true));
    let guard = trusted.mutex("m").acquire().await.unwrap();
    assert!(locks(at(server.port())).mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
}

/// Whatever a server answers, there is an error in time and no panic.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_no_server_gives() {
    let nonsense: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        &[0xFF; 64],
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
        b"E\0\0\0\x04",
    ];
    for bytes in nonsense {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(4) {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 512]);
                // The test is about what the other side makes of it.
                let _ = stream.write_all(bytes);
            }
        });
        for mode in [TlsMode::Disable, TlsMode::Prefer] {
            let locks = locks(at(port).tls(mode).connect_timeout(ms(1000)));
            let start = Instant::now();
            let error = within("an answer", LONG, locks.mutex("m").try_acquire()).await.unwrap_err();
            assert!(start.elapsed() < ms(8000), "{:?}: {error}", start.elapsed());
            assert!(!error.to_string().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_holds_than_sessions() {
    let (server, name) = (Server::get(), unique("few"));
    let few = sessions(|options| (options.max_sessions, options.max_waiting) = (2, 1));
    let locks = locks(server.options(&name).scope(Scope::Transaction).sessions(few));
    let held = [
        locks.mutex(format!("{name}-a")).acquire().await.unwrap(),
        locks.mutex(format!("{name}-b")).acquire().await.unwrap(),
    ];
    let error = locks.mutex(format!("{name}-c")).try_acquire().await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["all 2 sessions", "max-sessions"]);
    assert!(error.has_no_effect());
    let error = within("an error", LONG, locks.mutex(format!("{name}-c")).acquire()).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["all 2 sessions"]);
    let waiting = locks.mutex(format!("{name}-c"));
    let waiting = tokio::spawn(async move { waiting.acquire().await });
    tokio::time::sleep(ms(100)).await;
    for guard in held {
        guard.release().await.unwrap();
    }
    within("a session came free", LONG, waiting).await.unwrap().unwrap().release().await.unwrap();
    let admin = server.admin().await;
    assert!(count(&admin, &name).await <= 2);
    assert_eq!(locked(&admin, &name).await, 0);
}

#[test]
fn options_that_allow_nothing() {
    for options in [
        sessions(|options| options.max_sessions = 0),
        sessions(|options| options.max_waiting = 0),
        sessions(|options| options.heartbeat = ms(0)),
    ] {
        let error = PostgresBackend::new(at(1).sessions(options)).unwrap_err();
        says(&error, ErrorKind::Misconfigured, &[]);
    }
}

/// Under the .NET rule a name that looks like a key is that key, and all others differ by case too.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_differ_only_in_case_and_names_that_are_keys() {
    let server = Server::get();
    let (one, two) = (locks(server.options("one")), locks(server.options("two")));
    let base = unique("Case");
    let guard = one.mutex(&base).acquire().await.unwrap();
    let lower = two.mutex(base.to_lowercase()).try_acquire().await.unwrap().expect("it is another lock");
    lower.release().await.unwrap();
    guard.release().await.unwrap();
    let user = client(server.port()).await;
    let guard = one.mutex("00000000075bcd15").acquire().await.unwrap();
    let taken = crate::common::value(&user, "select pg_try_advisory_lock(123456789)").await;
    assert_eq!(taken.as_deref(), Some("f"));
    guard.release().await.unwrap();
    let exact = locks(server.options("exact").names(pilotman_core::NameRule::Exact));
    says(&exact.mutex("not a key").try_acquire().await.unwrap_err(), ErrorKind::InvalidName, &["key"]);
    exact.mutex("00000000075bcd15").acquire().await.unwrap().release().await.unwrap();
}
