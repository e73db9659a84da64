//! What users and servers get wrong: clear errors, nothing left.

use std::io::{Read, Write};
use std::time::Duration;

use pilotman_core::{ErrorKind, NameRule};
use pilotman_mssql::{MsSql, TlsMode};
use pilotman_testkit_mssql::{Fault, SqlError, StandIn};

use crate::common::{heartbeat, locks, locks_of, nothing_left, options, says, server, soon};

#[tokio::test]
async fn logins_that_are_wrong() {
    let server = StandIn::builder().user("guest", "pw-guest", &["master"]).start().unwrap();
    for (mssql, parts) in [
        (options(&server).login("pilotman", "hunter2"), ["refuses the login", "18456"]),
        (options(&server).login("nobody", "hunter2"), ["refuses the login", "18456"]),
        (options(&server).login("guest", "pw-guest"), ["use the database", "4060"]),
        (options(&server).database("nowhere"), ["use the database", "4060"]),
    ] {
        let error = locks_of(mssql).mutex("m").acquire().await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &parts);
        assert!(error.has_no_effect() && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let mssql = MsSql::host(server.address().to_string()).unwrap().tls(TlsMode::Disable);
    let error = locks_of(mssql).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["no login is given"]);
    nothing_left(&server).await;
}

/// A server that starts, or a database that is being recovered, is no mistake of the user's.
#[tokio::test]
async fn logins_that_fail_for_a_while() {
    let server = server();
    let (known, fresh) = (locks(&server), locks(&server));
    server.fail_logins(Some(SqlError::new(921, "Database 'locks' has not been recovered yet.")));
    let error = soon("an error", known.mutex("m").acquire()).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["takes no sessions at the moment", "921"]);
    assert!(error.has_no_effect());
    server.fail_logins(None);
    let guard = known.mutex("m").acquire().await.unwrap();
    // What is said of a database that isn't there is also said of one that can't be opened yet.
    server.fail_logins(Some(SqlError::new(4060, "Cannot open database \"locks\" requested by the login.")));
    assert_eq!(server.kill_all(), 1);
    soon("the loss is told", guard.lost()).await;
    let error = soon("an error", known.mutex("m").acquire()).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["does not open the database at the moment", "4060"]);
    let error = soon("an error", fresh.mutex("m").acquire()).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["use the database", "4060"]);
    server.fail_logins(None);
    known.mutex("m").acquire().await.unwrap().release().await.unwrap();
    drop(guard);
    nothing_left(&server).await;
}

#[tokio::test]
async fn tokens_of_entra() {
    let server = StandIn::builder().token("a-token", "app@example").start().unwrap();
    let mssql = options(&server);
    let locks = locks_of(mssql.clone().entra_token("a-token"));
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    assert!(server.sessions().iter().any(|session| session.login == "app@example"));
    let error = locks_of(mssql.clone().entra_token("hunter2")).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["refuses the login"]);
    assert!(!format!("{error:?}").contains("hunter2"));
    let none = || Box::pin(async { Err(pilotman_core::Error::unavailable("no token today")) }) as _;
    let error = locks_of(mssql.entra_token_from(none)).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["no token today"]);
}

#[tokio::test]
async fn a_name_of_256_characters() {
    let server = server();
    let long = "x".repeat(256);
    let exact = locks_of(options(&server).names(NameRule::Exact));
    let error = exact.mutex(&long).acquire().await.unwrap_err();
    says(&error, ErrorKind::InvalidName, &["255", "names=dotnet"]);
    assert!(server.statements().is_empty(), "no network traffic");
    exact.mutex(&long[1..]).acquire().await.unwrap().release().await.unwrap();
    locks(&server).mutex(&long).acquire().await.unwrap().release().await.unwrap();
    nothing_left(&server).await;
}

#[tokio::test]
async fn a_secondary_replica() {
    let server = server();
    server.read_only(true);
    let error = locks(&server).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["read-only", "primary"]);
    assert!(error.has_no_effect());
}

/// Whatever answers in the place of a server.
#[tokio::test]
async fn something_that_is_no_server() {
    let answers: [&[u8]; 5] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        &[0xFF; 300],
        // A packet of pre-login that promises more than it has.
        &[0x04, 0x01, 0x00, 0x0C, 0, 0, 0, 0, 0x00, 0x00, 0x7F, 0xFF],
    ];
    for answer in answers {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.to_vec();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(&answer);
        });
        let mssql = MsSql::host(address.to_string()).unwrap().login("u", "p").tls(TlsMode::Disable);
        let locks = locks_of(mssql.connect_timeout(Duration::from_secs(10)));
        let error = soon("an error", locks.mutex("m").acquire()).await.unwrap_err();
        says(&error, ErrorKind::Unavailable, &["did not begin a session"]);
        assert!(error.has_no_effect());
        peer.join().unwrap();
    }
    // Nobody at all: the port is taken, and nobody listens there.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mssql = MsSql::host(taken.local_addr().unwrap().to_string()).unwrap().login("u", "p");
    let error = locks_of(mssql).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Unavailable, &["can't be reached"]);
}

/// Garbage in the place of every reply that there is: an error or a new session, never a panic, and nothing left.
#[tokio::test]
async fn garbage_in_every_reply() {
    let server = server();
    let other = locks(&server);
    for on in ["SELECT CAST(@@SPID", "sp_getapplock", "APPLOCK_MODE", "sp_releaseapplock", "DECLARE @r", "NEXT VALUE"] {
        for garbage in [vec![0; 40], vec![0xFF; 40], vec![0xD1; 40], [0x79, 0, 0, 0, 0].repeat(8)] {
            for headed in [8, 9] {
                let quick = options(&server).sessions(heartbeat(Duration::from_millis(300)));
                let locks = locks_of(quick.connect_timeout(Duration::from_millis(500)));
                server.fault(on, Fault::Garbage(headed, garbage.clone()));
                let work = async {
                    if let Ok(Some(guard)) = locks.mutex("m").try_acquire().await {
                        let _ = guard.release().await;
                    }
                    if let Ok(Some(permit)) = locks.semaphore("s", 2).try_acquire().await {
                        let _ = permit.release().await;
                    }
                    if let Ok(fenced) = locks.mutex("t").fenced()
                        && let Ok(Some(guard)) = fenced.try_acquire().await
                    {
                        let _ = guard.release().await;
                    }
                };
                soon("an end", work).await;
                locks.close().await;
                server.clear_faults();
                other.mutex("m").acquire().await.unwrap().release().await.unwrap();
            }
        }
    }
    nothing_left(&server).await;
}
