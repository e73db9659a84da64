//! What everybody believed to hold, while the network misbehaves: never two at a time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pilotman_core::Locks;
use pilotman_testkit::proxy::{Cut, Flow, Proxy};

use crate::common::{client, locks_of, ms, options, queued, shared, unique};

const CLIENTS: usize = 4;
const TIME: Duration = Duration::from_secs(15);
const SESSION: Duration = Duration::from_millis(1500);

/// From when until when somebody believed to hold, and its token.
#[derive(Debug, Clone, Copy)]
struct Held {
    from: Instant,
    until: Instant,
    token: u64,
}

/// Takes the lock again and again, and keeps it for a while, or until it is lost.
async fn contend(client: usize, locks: Locks, name: String, end: Instant, history: Arc<Mutex<Vec<Held>>>) {
    let mutex = locks.mutex(&name);
    let mut pause = client as u64;
    while Instant::now() < end {
        let Ok(Some(guard)) = mutex.try_acquire_for(ms(1000)).await else { continue };
        let (from, token) = (Instant::now(), guard.token().unwrap());
        pause = (pause * 31 + 17) % 97;
        let keep = ms(if pause.is_multiple_of(7) { 2500 } else { pause });
        let mut until = from;
        loop {
            // Before it is asked: between the answer and now, anything may happen.
            let now = Instant::now();
            if guard.ensure_held().is_err() {
                break;
            }
            until = now;
            if from.elapsed() >= keep {
                break;
            }
            tokio::time::sleep(ms(1)).await;
        }
        history.lock().unwrap().push(Held { from, until, token });
        drop(guard);
    }
    locks.close().await;
}

/// Does something to one of the connections, by turns.
async fn misbehave(proxies: &[Proxy], end: Instant) {
    let mut turn: u64 = 7;
    while Instant::now() < end {
        turn = (turn * 1103 + 12_345) % 65_537;
        let proxy = &proxies[(turn % proxies.len() as u64) as usize];
        match turn % 5 {
            0 => proxy.cut(Cut::Reset),
            1 => proxy.replies(Flow::Drop),
            2 => proxy.requests(Flow::Hold),
            3 => {
                proxy.requests(Flow::Hold);
                proxy.replies(Flow::Hold);
            }
            _ => proxy.delay(ms(20), ms(50)),
        }
        tokio::time::sleep(ms(100 + turn % 1900)).await;
        proxy.delay(Duration::ZERO, Duration::ZERO);
        proxy.pass().unwrap();
        tokio::time::sleep(ms(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn never_two_believe_to_hold_under_a_network_that_misbehaves() {
    let (_server, port) = shared();
    let (witness, name) = (client(port).await, unique("history"));
    let proxies: Vec<Proxy> = (0..CLIENTS).map(|_| Proxy::before(port).unwrap()).collect();
    let (end, history) = (Instant::now() + TIME, Arc::new(Mutex::new(Vec::new())));
    let clients: Vec<_> = proxies
        .iter()
        .enumerate()
        .map(|(at, proxy)| {
            let locks = locks_of(options(proxy.port()).session_timeout(SESSION).connect_timeout(ms(2000)));
            tokio::spawn(contend(at, locks, name.clone(), end, history.clone()))
        })
        .collect();
    misbehave(&proxies, end).await;
    for client in clients {
        client.await.unwrap();
    }
    let mut history = history.lock().unwrap().clone();
    history.sort_by_key(|held| held.from);
    println!("{} holds", history.len());
    assert!(history.len() > 20, "{} holds", history.len());
    for pair in history.windows(2) {
        assert!(pair[0].until <= pair[1].from, "two holders: {pair:?}");
        assert!(pair[0].token < pair[1].token, "tokens: {pair:?}");
    }
    queued(&witness, &format!("/{name}"), 0).await;
}
