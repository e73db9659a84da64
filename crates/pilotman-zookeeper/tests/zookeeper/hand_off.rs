//! Who is woken, and what that costs.

use std::time::Duration;

use pilotman_testkit::servers::zookeeper::ZooKeeper as Server;

use crate::common::{client, granted, locks_of, options, queued, waiter};

/// As many packets as this has a hand-off at most: a deletion, two looks, and what is in between.
const PACKETS: u64 = 6;
/// Packets that have nothing to do with hand-offs: heartbeats of as many sessions, while the test runs.
const NOISE: u64 = 150;

/// Hands a lock from each of these sessions to the next, and counts what the server gets meanwhile.
async fn packets(server: &Server, sessions: usize) -> u64 {
    let client = client(server.port()).await;
    let name = format!("of-{sessions}");
    let path = format!("/{name}");
    let everybody: Vec<_> =
        (0..sessions).map(|_| locks_of(options(server.port()).session_timeout(Duration::from_secs(60)))).collect();
    let mut guard = everybody[0].mutex(&name).acquire().await.unwrap();
    let mut waits = Vec::new();
    for (at, locks) in everybody.iter().enumerate().skip(1) {
        waits.push(waiter(&locks.mutex(&name)));
        queued(&client, &path, at + 1).await;
    }
    let before = server.received().unwrap();
    for next in waits {
        let token = guard.token().unwrap();
        guard.release().await.unwrap();
        guard = granted(next).await.0;
        assert!(guard.token().unwrap() > token);
    }
    let after = server.received().unwrap();
    guard.release().await.unwrap();
    after - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_off_costs_the_same_however_many_wait() {
    let server = Server::start(&[]).unwrap();
    for sessions in [3, 40] {
        let packets = packets(&server, sessions).await;
        let hand_offs = sessions as u64 - 1;
        println!("{hand_offs} hand-offs: {packets} packets");
        // Had each woken everybody, these would be some 40 * 40 / 2 more.
        assert!(packets <= hand_offs * PACKETS + NOISE, "{hand_offs} hand-offs took {packets} packets");
    }
}
