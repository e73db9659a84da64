//! ZooKeeper comes up, and can be broken and mended as the fault tests do.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use pilotman_testkit::servers::zookeeper::{Ensemble, Mode, Security, ZooKeeper, ask};
use pilotman_testkit::servers::{is_skipped, shared};

const SOON: Duration = Duration::from_secs(60);

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_shared_server_answers_at_its_url() {
    if is_skipped("zookeeper") {
        return;
    }
    let server = shared("zookeeper").unwrap();
    assert_eq!(server.url(), format!("zookeeper://127.0.0.1:{}", server.ports()[0]));
    assert_eq!(ask(server.ports()[0], "ruok").unwrap(), "imok");
}

#[test]
fn a_server_is_frozen_killed_and_restarted() {
    if is_skipped("zookeeper") {
        return;
    }
    let mut server = ZooKeeper::start(&["maxSessionTimeout=12345"]).unwrap();
    assert_eq!(server.mode(), Some(Mode::Standalone));
    assert!(ask(server.port(), "conf").unwrap().contains("maxSessionTimeout=12345"));
    assert!(server.received().unwrap() > 0);
    server.freeze().unwrap();
    assert!(ask(server.port(), "ruok").is_err(), "nobody answers");
    server.thaw().unwrap();
    eventually("it answers again", || server.mode() == Some(Mode::Standalone));
    server.kill().unwrap();
    assert_eq!(server.mode(), None);
    server.restart().unwrap();
    assert_eq!(server.mode(), Some(Mode::Standalone));
}

#[test]
fn a_server_with_tls_has_a_second_port() {
    if is_skipped("zookeeper") {
        return;
    }
    let server = ZooKeeper::start_with(Security::Tls, &[]).unwrap();
    assert!(pilotman_testkit::net::is_listening(server.secure_port().unwrap()));
    assert!(server.certificates().ca.exists());
}

#[test]
fn an_ensemble_survives_its_leader() {
    if is_skipped("zookeeper") {
        return;
    }
    let mut ensemble = Ensemble::start().unwrap();
    let leader = ensemble.leader().unwrap();
    ensemble.members[leader].kill().unwrap();
    let next = ensemble.leader().unwrap();
    assert_ne!(leader, next);
    ensemble.members[leader].restart().unwrap();
    assert_eq!(ensemble.members[leader].mode(), Some(Mode::Follower));
    assert_eq!(ensemble.url().matches("127.0.0.1:").count(), 3);
}
