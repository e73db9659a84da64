//! Sessions that are ended, and servers that hang.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, LossReason, Release};
use pilotman_testkit_mssql::Fault;

use crate::common::{has, heartbeat, holder, locks, locks_of, nothing_left, options, server, soon, until};

/// The median over some tries: one may be held up by whatever else the machine does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_session_is_told_within_a_second() {
    let server = server();
    let locks = locks(&server);
    let mut times = Vec::new();
    for number in 0..5 {
        let name = format!("m{number}");
        let guard = locks.mutex(&name).acquire().await.unwrap();
        let killed = Instant::now();
        assert!(server.kill(holder(&server, &name)));
        assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
        times.push(killed.elapsed());
        assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(_)));
    }
    times.sort();
    println!("told after {times:?}");
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    nothing_left(&server).await;
}

/// All that is in one session is lost with it, and only that.
#[tokio::test]
async fn all_holds_of_a_session_end_together() {
    let server = server();
    let (locks, others) = (locks(&server), locks(&server));
    let mut guards = Vec::new();
    for number in 0..5 {
        guards.push(locks.mutex(format!("m{number}")).acquire().await.unwrap());
    }
    let read = others.rw_lock("r").read().await.unwrap();
    let session = holder(&server, "m0");
    assert_eq!(server.locks().iter().filter(|row| row.session == session).count(), 5);
    server.kill(session);
    for guard in &guards {
        assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
    }
    read.ensure_held().unwrap();
    read.release().await.unwrap();
    drop(guards);
    nothing_left(&server).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_told_in_two_heartbeats() {
    let server = server();
    let beat = Duration::from_secs(1);
    let locks = locks_of(options(&server).sessions(heartbeat(beat)));
    let guard = locks.mutex("m").acquire().await.unwrap();
    let start = Instant::now();
    server.freeze();
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::SessionEnded);
    let told = start.elapsed();
    assert!(told >= beat / 2, "it had time to answer: {told:?}");
    assert!(told < 10 * beat, "{told:?}");
    // A hung server holds nobody up.
    let start = Instant::now();
    let tried = locks.mutex("m").try_acquire_for(Duration::from_millis(300)).await;
    assert!(!matches!(tried, Ok(Some(_))), "{tried:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(guard);
    server.thaw();
    nothing_left(&server).await;
}

/// Many holds of a session that are given back at the same time are not one round trip each.
#[tokio::test]
async fn many_holds_are_given_back_together() {
    let server = server();
    let locks = locks(&server);
    let mut guards = Vec::new();
    for number in 0..100 {
        guards.push(locks.mutex(format!("m{number}")).acquire().await.unwrap());
    }
    assert_eq!(server.sessions().len(), 1);
    server.clear_statements();
    drop(guards);
    nothing_left(&server).await;
    let releases = server.statements().iter().filter(|statement| statement.text.contains("sp_releaseapplock")).count();
    assert!((1..=50).contains(&releases), "{releases}");
}

/// A wait whose session is killed begins anew.
#[tokio::test]
async fn a_wait_survives_its_session() {
    let server = server();
    let (one, other) = (locks(&server), locks(&server));
    let guard = one.mutex("m").acquire().await.unwrap();
    let mutex = other.mutex("m");
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    until("it waits", || has(&server, "m", 1, 1)).await;
    let waiter = server.locks().into_iter().find(|row| !row.granted).unwrap().session;
    server.clear_statements();
    assert!(server.kill(waiter));
    // Its wait is gone by now. The next one may have got its number.
    let asks = |text: &str| text.contains("@Resource = N'm'") && text.contains("@LockTimeout = -1");
    until("it asks again", || server.statements().iter().any(|statement| asks(&statement.text))).await;
    until("it waits again", || has(&server, "m", 1, 1)).await;
    guard.release().await.unwrap();
    let guard = soon("it is had", waiting).await.unwrap().unwrap();
    guard.release().await.unwrap();
    nothing_left(&server).await;
}

/// Somebody else's deadlock, or a wait that somebody ended.
#[tokio::test]
async fn what_the_server_returns_has_its_meaning() {
    use pilotman_testkit_mssql::SqlError;
    let server = server();
    let (locks, other) = (locks(&server), locks(&server));
    for (error, kind) in [
        (SqlError::new(1205, "deadlock"), ErrorKind::Deadlock),
        (SqlError::new(229, "no"), ErrorKind::Misconfigured),
        (SqlError::new(8152, "odd"), ErrorKind::Unavailable),
    ] {
        server.fault("sp_getapplock", Fault::Error(error));
        assert_eq!(locks.mutex("m").try_acquire().await.unwrap_err().kind(), kind);
        other.mutex("m").acquire().await.unwrap().release().await.unwrap();
    }
    nothing_left(&server).await;
}
