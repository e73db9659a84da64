//! What `diagnose` finds.

use pilotman_core::backend::{Backend, Finding, Severity};
use pilotman_core::{Locks, Primitive};

use crate::common::{backend_of, locks, locks_of, options};
use crate::fake::{Database, Rights};

async fn findings(change: impl FnOnce(&mut Rights)) -> Vec<Finding> {
    let database = Database::start();
    database.rights(change);
    locks(&database).diagnose().await.unwrap()
}

fn of<'a>(findings: &'a [Finding], about: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.about == about).unwrap_or_else(|| panic!("{about}: {findings:?}"))
}

#[tokio::test]
async fn all_is_well() {
    let findings = findings(|_| {}).await;
    assert!(findings.iter().all(|finding| finding.severity < Severity::Warning), "{findings:?}");
    assert!(of(&findings, "verified").what.contains("never run on a real"), "{findings:?}");
}

#[tokio::test]
async fn what_is_wrong_is_found() {
    let grant = findings(|rights| rights.dbms_lock = false).await;
    let grant = of(&grant, "grant");
    assert_eq!(grant.severity, Severity::Problem);
    assert!(grant.advice.as_deref().unwrap_or_default().contains("GRANT EXECUTE ON SYS.DBMS_LOCK TO APP"), "{grant:?}");

    let failover = findings(|rights| rights.failover = "SELECT").await;
    assert_eq!(of(&failover, "failover").severity, Severity::Problem);

    let limits = findings(|rights| rights.limits = ["60", "1", "10"]).await;
    for about in ["connect time", "idle time", "sessions"] {
        assert_eq!(of(&limits, about).severity, Severity::Warning, "{about}");
    }

    let names = findings(|rights| rights.character_set = "WE8MSWIN1252").await;
    assert_eq!(of(&names, "names").severity, Severity::Warning);

    let views = findings(|rights| rights.views = false).await;
    assert_eq!(of(&views, "rights").severity, Severity::Note);
}

#[tokio::test]
async fn without_the_views_status_says_what_to_grant() {
    let database = Database::start();
    database.rights(|rights| rights.views = false);
    let locks = locks(&database);
    for error in [
        locks.inspect("m", Primitive::Mutex).await.unwrap_err(),
        locks.list().await.unwrap_err(),
        locks.force_release("m", Primitive::Mutex).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("GRANT SELECT ON SYS.DBMS_LOCK_ALLOCATED TO APP"), "{error}");
    }
}

#[tokio::test]
async fn without_the_right_nothing_is_broken_and_the_grant_is_told() {
    let database = Database::start();
    database.rights(|rights| rights.alter_system = false);
    let locks: Locks = locks_of(&database, options());
    let guard = locks.mutex("m").acquire().await.unwrap();
    let error = locks.force_release("m", Primitive::Mutex).await.unwrap_err();
    assert!(error.to_string().contains("GRANT ALTER SYSTEM TO APP"), "{error}");
    guard.ensure_held().unwrap();
    guard.release().await.unwrap();
}

#[test]
fn it_says_that_it_is_unverified() {
    let database = Database::start();
    let capabilities = backend_of(&database, options()).capabilities();
    assert!(capabilities.unverified.unwrap().contains("unverified against a real server"));
}
