//! Waits that are given up, with the server's replies held up, cut or spoilt at every byte: whatever comes of it, nothing stays
//! behind, and no connection is used on which it is not known what comes next.

use std::sync::Arc;
use std::time::Duration;

use pilotman_core::Locks;
use pilotman_testkit_mssql::{Fault, StandIn};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::common::{LONG, has, heartbeat, locks, locks_of, nothing_left, options, server, soon, until};

/// Longer than any reply to a wait, and than any acknowledgement.
const BYTES: usize = 48;
/// So many waits are given up at the same time: what is slow because of the others must not look like a server that hangs.
const AT_ONCE: usize = 8;

/// What the log of the stand-in has of a wait for this resource.
fn wait_for(name: &str) -> String {
    format!("@Resource = N'{name}', @LockMode = N'Exclusive', @LockOwner = N'Session', @LockTimeout = -1")
}

fn impatient(server: &StandIn) -> Locks {
    locks_of(options(server).sessions(heartbeat(Duration::from_secs(2))))
}

/// The locks work, and exclude each other: no answer was taken for that to another question.
async fn still_works(server: &StandIn, these: &Locks, others: &Locks, name: &str) {
    for name in [name.to_owned(), format!("{name}-after")] {
        let guard = loop {
            let acquired = tokio::time::timeout(LONG, these.mutex(&name).acquire()).await;
            let guard = acquired.unwrap_or_else(|_| panic!("{name}: {:?}", server.locks())).unwrap();
            if has(server, &name, 1, 0) {
                break guard;
            }
            // A connection that was cut after its reply: the loss is told.
            soon("the loss is told", guard.lost()).await;
        };
        assert!(others.mutex(&name).try_acquire().await.unwrap().is_none(), "{name} is held");
        guard.release().await.unwrap();
        let other = soon("it was given back", others.mutex(&name).acquire()).await.unwrap();
        other.release().await.unwrap();
    }
}

/// A waiter gives up while the reply to its wait, which grants the lock, is on its way: `fault` happens to that reply.
async fn in_the_middle_of_a_grant(fault: impl Fn(usize) -> Fault) {
    let server = Arc::new(server());
    let holder = locks(&server);
    let (mut tries, room) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for byte in 0..BYTES {
        let (server, holder, fault, room) = (server.clone(), holder.clone(), fault(byte), room.clone());
        tries.spawn(async move {
            let _room = room.acquire().await.unwrap();
            let (waiter, name) = (impatient(&server), format!("m{byte:02}"));
            let guard = holder.mutex(&name).acquire().await.unwrap();
            server.fault(&wait_for(&name), fault);
            let mutex = waiter.mutex(&name);
            let waiting = tokio::spawn(async move { mutex.acquire().await });
            until("it waits", || has(&server, &name, 1, 1)).await;
            guard.release().await.unwrap();
            // Granted at the server; what the waiter has heard of that is up to the fault.
            until("it is granted, or lost", || has(&server, &name, 1, 0) || has(&server, &name, 0, 0)).await;
            waiting.abort();
            let _ = waiting.await;
            // Whoever came now would take the wait over.
            until("it is given back", || has(&server, &name, 0, 0)).await;
            still_works(&server, &waiter, &holder, &name).await;
            waiter.close().await;
        });
    }
    while let Some(done) = soon("all are through", tries.join_next()).await {
        done.unwrap();
    }
    nothing_left(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_held_up_at_every_byte() {
    in_the_middle_of_a_grant(Fault::PauseAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_never_comes_whole() {
    in_the_middle_of_a_grant(Fault::StallAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_cut_at_every_byte() {
    in_the_middle_of_a_grant(Fault::CutAfter).await;
}

/// Zeros, which may be the rest of a length, and what looks like the beginning of another token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_spoilt_at_every_byte() {
    in_the_middle_of_a_grant(|byte| Fault::Garbage(byte, [0, 0x79, 0, 0xFF].repeat(8))).await;
}

/// A waiter gives up, and `fault` happens to the acknowledgement of that.
async fn in_the_middle_of_an_acknowledgement(fault: impl Fn(usize) -> Fault) {
    let server = Arc::new(server());
    let holder = locks(&server);
    let (mut tries, room) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for byte in 0..BYTES {
        server.fault_attention(fault(byte));
        let (server, holder, room) = (server.clone(), holder.clone(), room.clone());
        tries.spawn(async move {
            let _room = room.acquire().await.unwrap();
            let (waiter, name) = (impatient(&server), format!("m{byte:02}"));
            let guard = holder.mutex(&name).acquire().await.unwrap();
            let mutex = waiter.mutex(&name);
            let waiting = tokio::spawn(async move { mutex.acquire().await });
            until("it waits", || has(&server, &name, 1, 1)).await;
            waiting.abort();
            let _ = waiting.await;
            until("its wait is ended", || has(&server, &name, 1, 0)).await;
            guard.release().await.unwrap();
            still_works(&server, &waiter, &holder, &name).await;
            waiter.close().await;
        });
    }
    while let Some(done) = soon("all are through", tries.join_next()).await {
        done.unwrap();
    }
    nothing_left(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_never_comes_whole() {
    in_the_middle_of_an_acknowledgement(Fault::StallAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_is_cut_at_every_byte() {
    in_the_middle_of_an_acknowledgement(Fault::CutAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_is_spoilt_at_every_byte() {
    in_the_middle_of_an_acknowledgement(|byte| Fault::Garbage(byte, [0, 0x79, 0, 0xFF].repeat(8))).await;
}

/// Nobody gives up, but a grant never comes whole: the session is given up, and the wait begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_goes_on_after_a_reply_that_never_ends() {
    let server = server();
    let (holder, waiter) = (locks(&server), impatient(&server));
    for byte in [1, 8, 9, 20] {
        let guard = holder.mutex("m").acquire().await.unwrap();
        server.fault(&wait_for("m"), Fault::StallAfter(byte));
        let mutex = waiter.mutex("m");
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        until("it waits", || has(&server, "m", 1, 1)).await;
        guard.release().await.unwrap();
        let guard = soon("it is had all the same", waiting).await.unwrap().unwrap();
        guard.release().await.unwrap();
    }
    nothing_left(&server).await;
}

/// What does not wait is cut in the middle, too: the attempt, the release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_and_releases_that_are_cut_at_every_byte() {
    let server = server();
    let (these, others) = (locks(&server), locks(&server));
    for byte in 0..BYTES {
        for on in ["@LockTimeout = 0", "sp_releaseapplock"] {
            server.fault(on, Fault::CutAfter(byte));
            // It may fail: the session ended. It must not leave anything.
            if let Ok(Some(guard)) = these.mutex("m").try_acquire().await {
                let _ = guard.release().await;
            }
            server.clear_faults();
            until("it is free", || server.locks().is_empty()).await;
            still_works(&server, &these, &others, "m").await;
        }
    }
    nothing_left(&server).await;
}

/// The usual case: the session goes on, and is used again.
#[tokio::test]
async fn a_cancelled_wait_leaves_nothing_and_its_session_goes_on() {
    let server = server();
    let (holder, waiter) = (locks(&server), locks(&server));
    let guard = holder.mutex("m").acquire().await.unwrap();
    for _ in 0..10 {
        let mutex = waiter.mutex("m");
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        until("it waits", || has(&server, "m", 1, 1)).await;
        waiting.abort();
        let _ = waiting.await;
        until("its wait is ended", || has(&server, "m", 1, 0)).await;
    }
    let sessions = server.sessions().len();
    // Who waits anew while the last wait is still being ended gets another one; they are used again.
    assert!(sessions <= 5, "not one for each wait: {sessions}");
    guard.release().await.unwrap();
    let guard = waiter.mutex("m").acquire().await.unwrap();
    guard.release().await.unwrap();
    nothing_left(&server).await;
}
