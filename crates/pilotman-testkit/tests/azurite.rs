//! Azurite comes up, and can be broken and mended as the fault tests do.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pilotman_testkit::servers::azurite::{Azurite, Mode, endpoint_of};
use pilotman_testkit::servers::{is_skipped, shared};

/// The first line of the answer to a request without any right.
fn answer(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"GET /locker/locks/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut bytes = [0; 64];
    let count = stream.read(&mut bytes).ok()?;
    String::from_utf8_lossy(&bytes[..count]).lines().next().map(str::to_owned)
}

#[test]
fn a_shared_one_answers_at_its_url() {
    if is_skipped("azurite") {
        return;
    }
    let server = shared("azurite").unwrap();
    let endpoint = endpoint_of(server.url()).unwrap();
    let port = endpoint.rsplit(':').next().unwrap().trim_end_matches("/locker").parse().unwrap();
    // Without a right to look, nothing is there.
    assert!(answer(port).unwrap().starts_with("HTTP/1.1 40"), "{:?}", answer(port));
}

#[test]
fn one_is_frozen_killed_and_started_again() {
    if is_skipped("azurite") {
        return;
    }
    let mut server = Azurite::start(Mode::Plain).unwrap();
    let port = server.port();
    assert!(server.url().contains(&server.endpoint()) && server.certificates().is_none());
    assert!(answer(port).is_some());
    server.freeze().unwrap();
    assert_eq!(answer(port), None, "a frozen server is silent");
    server.thaw().unwrap();
    assert!(answer(port).is_some());
    server.kill().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert!(answer(port).is_some());
}

#[test]
fn with_tls_there_is_an_authority_to_trust() {
    if is_skipped("azurite") {
        return;
    }
    let server = Azurite::start(Mode::Tokens).unwrap();
    assert!(server.endpoint().starts_with("https://"));
    assert!(server.certificates().unwrap().ca.exists());
}
