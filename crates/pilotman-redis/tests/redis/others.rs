//! Programs that lock with a plain `SET key id NX PX`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use pilotman_testkit::servers::redis::{Node, Reply};

use crate::common::{LONG, get, granted, locks_at, ms, nothing_left, queued, waiter};

const PLAIN: [&str; 6] = ["SET", "m", "plain", "NX", "PX", "60000"];

fn ok() -> Reply {
    Reply::Text("OK".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_holder_excludes_us_and_is_followed_without_a_push() {
    let node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    assert_eq!(node.cli(&PLAIN).unwrap(), ok());
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_none());
    let waits = waiter(&locks.mutex("m"));
    queued(&node, "m", 1).await;
    tokio::time::sleep(ms(700)).await;
    assert!(!waits.is_finished());
    assert_eq!(get(&node, "m").as_deref(), Some("plain"));
    node.cli(&["DEL", "m"]).unwrap();
    let guard = granted("the plain holder is followed", ms(1000), waits).await;
    assert_eq!(node.cli(&PLAIN).unwrap(), Reply::Nil, "we exclude plain holders");
    guard.release().await.unwrap();
    assert_eq!(node.cli(&PLAIN).unwrap(), ok());
    // One that never expires, as some write it.
    node.cli(&["SET", "m", "plain for ever"]).unwrap();
    let waits = waiter(&locks.mutex("m"));
    queued(&node, "m", 1).await;
    node.cli(&["DEL", "m"]).unwrap();
    drop(granted("the endless plain holder is followed", ms(1000), waits).await);
    nothing_left(&node, ms(2000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_holder_that_dies_is_followed_after_its_expiry() {
    let node = Node::start(&[]).unwrap();
    let locks = locks_at(node.port());
    node.cli(&["SET", "m", "plain", "NX", "PX", "1500"]).unwrap();
    drop(granted("the dead plain holder is followed", ms(2500), waiter(&locks.mutex("m"))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_poller_gets_its_turn_among_hand_offs() {
    let node = Node::start(&[]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (grants, holders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let locks = locks_at(node.port());
        for _ in 0..2 {
            let (locks, stop, grants, holders) = (locks.clone(), stop.clone(), grants.clone(), holders.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let guard = locks.mutex("m").acquire().await.unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    grants.fetch_add(1, Ordering::Relaxed);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    guard.release().await.unwrap();
                }
            }));
        }
    }
    let (mut client, counted, held_by) = (node.connect().unwrap(), grants.clone(), holders.clone());
    let polling = tokio::task::spawn_blocking(move || {
        for turn in 0..5 {
            let (start, before) = (Instant::now(), counted.load(Ordering::Relaxed));
            while client.call(&PLAIN).unwrap() != ok() {
                assert!(start.elapsed() < LONG, "turn {turn} never came");
                std::thread::sleep(ms(3));
            }
            assert_eq!(held_by.fetch_add(1, Ordering::SeqCst), 0, "two holders");
            let grants = counted.load(Ordering::Relaxed) - before;
            println!("turn {turn} came after {:?}, while {grants} others had theirs", start.elapsed());
            std::thread::sleep(ms(30));
            held_by.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(client.call(&["DEL", "m"]).unwrap(), Reply::Integer(1));
            let (start, before) = (Instant::now(), counted.load(Ordering::Relaxed));
            while counted.load(Ordering::Relaxed) < before + 50 {
                assert!(start.elapsed() < LONG, "ours don't go on");
                std::thread::sleep(ms(1));
            }
        }
    });
    polling.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    nothing_left(&node, ms(5000)).await;
}
