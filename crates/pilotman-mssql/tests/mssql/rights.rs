//! What a login may not do is said, with what to grant; what it may is found out by doctor.

use pilotman_core::backend::Severity;
use pilotman_core::{ErrorKind, Primitive};
use pilotman_testkit_mssql::{Fault, Permissions, SqlError, StandIn};

use crate::common::{connection, locks, nothing_left, says, server, soon};

#[tokio::test]
async fn holders_are_shown_and_their_sessions_ended() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let guard = one.mutex("m").acquire().await.unwrap();
    let beside = one.mutex("n").acquire().await.unwrap();
    let found = other.inspect("m", Primitive::Mutex).await.unwrap();
    assert_eq!((found.physical.as_str(), found.holders.len(), found.waiters), ("m", 1, Some(0)));
    let owner = &found.holders[0].owner;
    assert!(owner.starts_with("session ") && owner.contains("pilotman"), "{owner}");
    assert!(other.list().await.unwrap().iter().any(|lock| lock.name.as_deref() == Some("m")));
    let broken = other.force_release("m", Primitive::Mutex).await.unwrap();
    assert!(broken[0].owner.contains("1 other locks"), "{broken:?}");
    guard.lost().await;
    beside.lost().await;
    drop((guard, beside));
    nothing_left(&server).await;
}

/// The server's views show 32 characters of a resource.
#[tokio::test]
async fn long_names_that_begin_alike() {
    let server = server();
    let locks = locks(&server);
    let names = ["a", "b", "c"].map(|end| format!("{}{end}", "x".repeat(40)));
    let first = locks.mutex(&names[0]).acquire().await.unwrap();
    let inspect = async |name: &str| locks.inspect(name, Primitive::Mutex).await.unwrap().holders;
    assert_eq!(inspect(&names[0]).await.len(), 1);
    assert!(inspect(&names[1]).await.is_empty(), "it is free");
    assert!(locks.force_release(&names[1], Primitive::Mutex).await.unwrap().is_empty());
    first.ensure_held().unwrap();
    let second = locks.mutex(&names[1]).acquire().await.unwrap();
    assert!(inspect(&names[1]).await.iter().all(|holder| holder.owner.contains("same 32 characters")));
    assert!(inspect(&names[2]).await.is_empty(), "it is free");
    let error = locks.force_release(&names[0], Primitive::Mutex).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["same 32 characters", "names=strict"]);
    second.release().await.unwrap();
    assert_eq!(locks.force_release(&names[0], Primitive::Mutex).await.unwrap().len(), 1);
    first.lost().await;
    drop(first);
    nothing_left(&server).await;
}

/// The views cut resources after 32 UTF-16 units: here in the middle of a sign.
#[tokio::test]
async fn a_name_that_is_cut_in_the_middle_of_a_sign() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let name = format!("{}\u{1F512}", "x".repeat(31));
    let guard = one.mutex(&name).acquire().await.unwrap();
    let beside = other.mutex("beside").acquire().await.unwrap();
    let found = other.inspect(&name, Primitive::Mutex).await.unwrap();
    assert_eq!(found.holders.len(), 1, "{found:?}");
    let cut = format!("{}\u{FFFD}", &name[..31]);
    assert!(other.list().await.unwrap().iter().any(|lock| lock.physical == cut && lock.name.is_none()));
    beside.ensure_held().unwrap();
    assert_eq!(other.force_release(&name, Primitive::Mutex).await.unwrap().len(), 1);
    guard.lost().await;
    beside.release().await.unwrap();
    nothing_left(&server).await;
}

/// Of two sessions one can't be ended, the first or the second: that the other one was is told all the same.
#[tokio::test]
async fn sessions_that_are_ended_in_part() {
    for keeps_first in [true, false] {
        let server = server();
        let (one, other, admin) = (locks(&server), locks(&server), locks(&server));
        let first = one.rw_lock("r").read().await.unwrap();
        let of_first = server.locks()[0].session;
        let second = other.rw_lock("r").read().await.unwrap();
        let of_second = server.locks().iter().find(|row| row.session != of_first).unwrap().session;
        let (kept, gone) = if keeps_first { (of_first, of_second) } else { (of_second, of_first) };
        server.fault(&format!("KILL {kept}"), Fault::Error(SqlError::new(6102, "not today").class(14)));
        let error = admin.force_release("r", Primitive::Read).await.unwrap_err();
        let parts = [format!("session {kept} could not be ended"), format!("after session {gone} had been")];
        says(&error, ErrorKind::Unavailable, &[&parts[0], &parts[1], "not today", "ALTER ANY CONNECTION"]);
        assert!(!error.has_no_effect());
        let (keeps, loses) = if keeps_first { (first, second) } else { (second, first) };
        soon("the loss is told", loses.lost()).await;
        keeps.ensure_held().unwrap();
        keeps.release().await.unwrap();
        drop(loses);
        nothing_left(&server).await;
    }
}

#[tokio::test]
async fn without_rights() {
    let server = server();
    let locks = locks(&server);
    let guard = locks.mutex("m").acquire().await.unwrap();
    let all = Permissions::default();
    server.permissions(Permissions { view_server_state: false, ..all });
    let found = locks.inspect("m", Primitive::Mutex).await.unwrap();
    assert!(found.holders[0].owner.contains("VIEW SERVER STATE"), "{found:?}");
    says(&locks.list().await.unwrap_err(), ErrorKind::Misconfigured, &["VIEW SERVER STATE"]);
    server.permissions(Permissions { kill: false, ..all });
    let error = locks.force_release("m", Primitive::Mutex).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["ALTER ANY CONNECTION"]);
    server.permissions(Permissions { execute: false, ..all });
    says(&locks.mutex("n").try_acquire().await.unwrap_err(), ErrorKind::Misconfigured, &["may not do this"]);
    server.permissions(all);
    guard.ensure_held().unwrap();
    guard.release().await.unwrap();
    nothing_left(&server).await;
}

#[tokio::test]
async fn the_sequence_of_the_tokens() {
    let server = StandIn::builder().permissions(Permissions { create_sequence: false, ..Permissions::default() });
    let server = server.start().unwrap();
    let locks = locks(&server);
    let fenced = locks.mutex("m").fenced().unwrap();
    let error = fenced.acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["CREATE SEQUENCE [dbo].[pilotman_fencing_token]", "grant UPDATE"]);
    assert!(server.locks().is_empty(), "without a token there is no hold");
    server.permissions(Permissions::default());
    let mut last = 0;
    for _ in 0..3 {
        let guard = fenced.acquire().await.unwrap();
        assert!(guard.token() > last);
        last = guard.token();
        guard.release().await.unwrap();
    }
    // Another client, and another name: one sequence for all.
    let other = crate::common::locks(&server);
    let guard = other.mutex("n").fenced().unwrap().acquire().await.unwrap();
    assert!(guard.token() > last);
    guard.release().await.unwrap();
    nothing_left(&server).await;
}

/// The numbers of one that was dropped and made anew don't begin again.
#[tokio::test]
async fn a_sequence_that_is_dropped() {
    let server = server();
    let (old, mut admin) = (locks(&server), connection(&server).await);
    let fenced = old.mutex("m").fenced().unwrap();
    let guard = fenced.acquire().await.unwrap();
    let last = guard.token();
    guard.release().await.unwrap();
    let mut run = async |sql: &str| drop(admin.simple_query(sql).await.unwrap().into_results().await.unwrap());
    run("DROP SEQUENCE [dbo].[pilotman_fencing_token]").await;
    for _ in 0..2 {
        let error = fenced.acquire().await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &["[dbo].[pilotman_fencing_token]", "is gone", "START"]);
        assert!(server.locks().is_empty(), "without a token there is no hold");
    }
    // A program that never saw the old one makes it, and both go on above all that was given.
    let fresh = locks(&server);
    let guard = fresh.mutex("n").fenced().unwrap().acquire().await.unwrap();
    assert!(guard.token() > last, "{} after {last}", guard.token());
    let last = guard.token();
    guard.release().await.unwrap();
    let guard = fenced.acquire().await.unwrap();
    assert!(guard.token() > last, "{} after {last}", guard.token());
    guard.release().await.unwrap();
    nothing_left(&server).await;
}

#[tokio::test]
async fn doctor_tells_what_is_not_safe() {
    let worst = |findings: &[pilotman_core::backend::Finding], about: &str| {
        findings.iter().find(|finding| finding.about == about).map(|finding| finding.severity)
    };
    let server = server();
    let locks = locks(&server);
    let findings = locks.diagnose().await.unwrap();
    for about in ["locks", "primary", "reconnecting", "rights"] {
        assert_eq!(worst(&findings, about), Some(Severity::Fine), "{about}: {findings:?}");
    }
    server.permissions(Permissions {
        execute: false,
        kill: false,
        view_server_state: false,
        create_sequence: false,
        use_sequence: false,
    });
    server.read_only(true);
    let findings = locks.diagnose().await.unwrap();
    for (about, severity) in [
        ("locks", Severity::Problem),
        ("primary", Severity::Problem),
        ("rights", Severity::Note),
        ("tokens", Severity::Note),
    ] {
        assert_eq!(worst(&findings, about), Some(severity), "{about}: {findings:?}");
    }
    let azure = StandIn::builder().engine_edition(5).always_on(true).start().unwrap();
    let findings = crate::common::locks(&azure).diagnose().await.unwrap();
    assert_eq!(worst(&findings, "idle sessions"), Some(Severity::Note));
    nothing_left(&server).await;
}
