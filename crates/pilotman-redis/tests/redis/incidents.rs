//! What happens to a server is noticed and told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use pilotman_core::Locks;
use pilotman_redis::{Incident, IncidentKind, RedisNode};
use pilotman_testkit::proxy::{Cut, Proxy};
use pilotman_testkit::servers::redis::{Node, Replicated};

use crate::common::{LONG, among, at, locks, ms};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Incident>>>);

impl Told {
    fn listen(&self, node: RedisNode) -> Locks {
        let told = self.0.clone();
        locks(node.on_incident(move |incident| told.lock().unwrap().push(incident.clone())))
    }

    fn kinds(&self) -> Vec<IncidentKind> {
        self.0.lock().unwrap().iter().map(|incident| incident.kind.clone()).collect()
    }

    /// Uses the locks, as nothing is looked at otherwise, until such an incident was told.
    async fn wait(&self, locks: &Locks, what: &str, is_it: impl Fn(&IncidentKind) -> bool) {
        let start = Instant::now();
        while !self.kinds().iter().any(&is_it) {
            assert!(start.elapsed() < LONG, "{what} was not told, only {:?}", self.kinds());
            // It may fail; that is not what this is about.
            let _ = locks.mutex("m").try_acquire().await;
            tokio::time::sleep(ms(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_told() {
    let mut node = Node::start(&[]).unwrap();
    let told = Told::default();
    let locks = told.listen(at(node.port()));
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    tokio::time::sleep(ms(1200)).await;
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    assert_eq!(told.kinds(), [], "nothing has happened");
    node.restart().unwrap();
    told.wait(&locks, "the restart", |kind| *kind == IncidentKind::Restarted).await;
    assert_eq!(told.kinds(), [IncidentKind::Disconnected, IncidentKind::Restarted]);
    let server = format!("127.0.0.1:{}", node.port());
    assert!(told.0.lock().unwrap().iter().all(|incident| incident.server == server));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_told_and_no_more() {
    let node = Node::start(&[]).unwrap();
    let proxy = Proxy::before(node.port()).unwrap();
    let told = Told::default();
    let locks = told.listen(at(proxy.port()));
    let guard = locks.mutex("held").acquire().await.unwrap();
    proxy.cut(Cut::Reset);
    told.wait(&locks, "the cut", |kind| *kind == IncidentKind::Disconnected).await;
    guard.ensure_held().unwrap();
    tokio::time::sleep(ms(1200)).await;
    locks.mutex("other").acquire().await.unwrap().release().await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(told.kinds(), [IncidentKind::Disconnected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_told() {
    let mut set = Replicated::start(1, &[]).unwrap();
    let told = Told::default();
    let locks = told.listen(among(&[set.primary.port(), set.replicas[0].port()]));
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    set.primary.kill().unwrap();
    set.promote(0).unwrap();
    told.wait(&locks, "the promotion", |kind| *kind == IncidentKind::Promoted).await;
    assert!(!told.kinds().contains(&IncidentKind::Restarted), "{:?}", told.kinds());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_told_once() {
    let node = Node::start(&[]).unwrap();
    let told = Told::default();
    let locks = told.listen(at(node.port()));
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    node.cli(&["FLUSHALL"]).unwrap();
    told.wait(&locks, "the flush", |kind| *kind == IncidentKind::Flushed).await;
    tokio::time::sleep(ms(1500)).await;
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    tokio::time::sleep(ms(200)).await;
    assert_eq!(told.kinds(), [IncidentKind::Flushed]);
}

/// Passes everything on, and shows the server's clock ahead from the moment that it is told to.
fn clock_before(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let ahead = Arc::new(AtomicBool::new(false));
    let is_ahead = ahead.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { return };
            let (requests, replies) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass(requests, server, None));
            let is_ahead = is_ahead.clone();
            thread::spawn(move || pass(replies, client, Some(is_ahead)));
        }
    });
    (own, ahead)
}

fn pass(mut from: TcpStream, mut to: TcpStream, ahead: Option<Arc<AtomicBool>>) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        if ahead.as_ref().is_some_and(|ahead| ahead.load(Ordering::Relaxed)) {
            // Seconds since the epoch have ten digits, and nothing else that a server answers here has.
            let seconds = b"$10\r\n1";
            for at in 0..bytes.len().saturating_sub(seconds.len()) {
                if bytes[at..].starts_with(seconds) {
                    bytes[at + seconds.len() - 1] = b'2';
                }
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_is_told() {
    let node = Node::start(&[]).unwrap();
    let (port, ahead) = clock_before(node.port());
    let told = Told::default();
    let locks = told.listen(at(port));
    let stepped = |forwards: bool| move |kind: &IncidentKind| matches!(kind, IncidentKind::ClockStepped { forward, by } if *forward == forwards && *by > LONG);
    for _ in 0..3 {
        locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
        tokio::time::sleep(ms(1100)).await;
    }
    assert_eq!(told.kinds(), [], "nothing has happened");
    ahead.store(true, Ordering::Relaxed);
    told.wait(&locks, "the step forward", stepped(true)).await;
    ahead.store(false, Ordering::Relaxed);
    told.wait(&locks, "the step back", stepped(false)).await;
    assert_eq!(told.kinds().len(), 2, "{:?}", told.kinds());
}
