//! What the doctor sees.

use pilotman_core::backend::{Finding, Severity};
use pilotman_testkit::servers::zookeeper::ZooKeeper as Server;
use pilotman_zookeeper::AccessControl;
use pilotman_zookeeper::zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};

use crate::common::{client, locks_of, make, ms, options, shared, unique};

#[track_caller]
fn find<'a>(findings: &'a [Finding], about: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.about == about).unwrap_or_else(|| panic!("{about}: {findings:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_open_server_is_fine_with_notes() {
    let (_server, port) = shared();
    let findings = locks_of(options(port)).diagnose().await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity <= Severity::Note), "{findings:#?}");
    assert!(find(&findings, "members").what.contains("standalone, version 3."), "{findings:#?}");
    assert_eq!(find(&findings, "ensemble").severity, Severity::Note);
    assert!(find(&findings, "bounds").what.contains("400ms to 60s"), "{findings:#?}");
    assert_eq!(find(&findings, "session time-out").severity, Severity::Fine);
    assert_eq!(find(&findings, "rights").severity, Severity::Fine);
    assert_eq!(find(&findings, "access").severity, Severity::Note);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_below_the_servers_bounds_is_a_warning() {
    let server = Server::start(&["minSessionTimeout=9000", "tickTime=4000"]).unwrap();
    let findings = locks_of(options(server.port())).diagnose().await.unwrap();
    let finding = find(&findings, "session time-out");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.what.contains("9s at least"), "{finding}");
    assert_eq!(find(&findings, "tick").severity, Severity::Problem, "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_a_problem() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("rights"));
    make(&client, &format!("/{name}")).await;
    let closed = [Acl::new(Permission::READ, AuthId::anyone())];
    let options_of_node = CreateMode::Persistent.with_acls(Acls::new(&closed));
    client.create(&format!("/{name}/closed"), b"", &options_of_node).await.unwrap();
    let zookeeper = options(port).directory(format!("/{name}/closed")).unwrap();
    let findings = locks_of(zookeeper).diagnose().await.unwrap();
    let finding = find(&findings, "rights");
    assert_eq!(finding.severity, Severity::Problem);
    assert!(finding.what.contains("create, delete"), "{finding}");
    // A directory that is not there yet has to be made.
    let findings = locks_of(options(port).directory(format!("/{name}/new/deep")).unwrap()).diagnose().await.unwrap();
    assert_eq!(find(&findings, "rights").severity, Severity::Fine, "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_authenticates_is_known_and_told_of_open_wires() {
    let (_server, port) = shared();
    let name = unique("auth");
    let ours = || options(port).digest("me", "hunter2").directory(format!("/{name}")).unwrap();
    let locks = locks_of(ours().acl([AccessControl::creator()]).unwrap());
    let guard = locks.mutex("m").acquire().await.unwrap();
    let findings = locks.diagnose().await.unwrap();
    assert_eq!(find(&findings, "secrets").severity, Severity::Warning);
    assert_eq!(find(&findings, "rights").severity, Severity::Fine, "{findings:#?}");
    assert_eq!(find(&findings, "access").severity, Severity::Fine);
    assert!(!format!("{findings:?}").contains("hunter2"));
    let stranger = locks_of(options(port).directory(format!("/{name}")).unwrap()).diagnose().await.unwrap();
    assert_eq!(find(&stranger, "rights").severity, Severity::Problem, "{stranger:#?}");
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_are_no_ensemble_are_a_problem() {
    let (_server, port) = shared();
    let other = Server::start(&[]).unwrap();
    let hosts = [format!("127.0.0.1:{port}"), other.address()];
    let zookeeper = pilotman_zookeeper::ZooKeeper::hosts(hosts).unwrap().session_timeout(ms(3000));
    let findings = locks_of(zookeeper).diagnose().await.unwrap();
    assert_eq!(find(&findings, "ensemble").severity, Severity::Problem, "{findings:#?}");
}
