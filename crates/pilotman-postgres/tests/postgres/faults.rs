//! Sessions that are ended, servers that hang, waits that are given up at the worst moment.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, HoldState, LossReason, Primitive, Release};
use pilotman_testkit::proxy::{Cut, Proxy};
use pilotman_testkit::servers::postgres::Postgres as Cluster;

use crate::common::{LONG, Server, at, count, eventually, kill, locked, locks, ms, sessions, unique, value, within};

const HEARTBEAT: Duration = Duration::from_millis(1000);

fn quick(postgres: pilotman_postgres::Postgres) -> pilotman_postgres::Postgres {
    postgres.sessions(sessions(|options| options.heartbeat = HEARTBEAT))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_holds_of_a_killed_session_are_told_at_once() {
    let (server, name) = (Server::get(), unique("killed"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let mut guards = Vec::new();
    for nth in 0..20 {
        guards.push(locks.mutex(format!("{name}-{nth}")).acquire().await.unwrap());
    }
    assert_eq!(count(&admin, &name).await, 1, "they live in one session");
    kill(&admin, &name).await;
    for guard in &guards {
        // The heartbeat is 5 s; it is the socket that tells.
        assert_eq!(within("it is told", ms(3000), guard.lost()).await, LossReason::SessionEnded);
    }
    assert_eq!(guards.pop().unwrap().release().await.unwrap(), Release::AlreadyLost(LossReason::SessionEnded));
    // Who comes next is not punished for it.
    locks.mutex(format!("{name}-0")).acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_told_within_twice_the_heartbeat() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(quick(at(server.port())));
    let guard = locks.mutex("m").acquire().await.unwrap();
    server.freeze().unwrap();
    let start = Instant::now();
    let reason = within("it is told", HEARTBEAT * 2 + ms(1500), guard.lost()).await;
    assert_eq!(reason, LossReason::SessionEnded);
    assert!(start.elapsed() >= HEARTBEAT, "it had time to answer: {:?}", start.elapsed());
    // Nothing hangs with it.
    let start = Instant::now();
    assert!(locks.mutex("n").try_acquire_for(ms(300)).await.is_err() || start.elapsed() < ms(1500));
    let start = Instant::now();
    locks.close().await;
    assert!(start.elapsed() < ms(8000), "closing took {:?}", start.elapsed());
    server.thaw().unwrap();
}

/// A stall that is shorter than a heartbeat costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_stall_loses_nothing() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(quick(at(server.port())));
    let guard = locks.mutex("m").acquire().await.unwrap();
    for _ in 0..3 {
        server.freeze().unwrap();
        tokio::time::sleep(HEARTBEAT / 2).await;
        server.thaw().unwrap();
        tokio::time::sleep(HEARTBEAT).await;
    }
    assert_eq!(guard.state(), HoldState::Held);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_is_told_and_the_server_side_ended() {
    let server = Cluster::start(&[]).unwrap();
    let proxy = Proxy::before(server.port()).unwrap();
    let (cut, other) = (locks(quick(at(proxy.port()))), locks(at(server.port())));
    let guard = cut.mutex("m").acquire().await.unwrap();
    proxy.cut(Cut::Reset);
    assert_eq!(within("it is told", ms(3000), guard.lost()).await, LossReason::SessionEnded);
    let next = within("it is free", LONG, other.mutex("m").acquire()).await.unwrap();
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_started_anew_is_used_again() {
    let mut server = Cluster::start(&[]).unwrap();
    let locks = locks(at(server.port()));
    let guard = locks.mutex("m").fenced().unwrap().acquire().await.unwrap();
    let (before, other) = (guard.token(), locks.mutex("other").acquire().await.unwrap());
    server.kill().unwrap();
    assert_eq!(within("it is told", ms(3000), other.lost()).await, LossReason::SessionEnded);
    let error = locks.mutex("n").try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.restart().unwrap();
    let guard = within("it is back", LONG, locks.mutex("m").fenced().unwrap().acquire()).await.unwrap();
    assert!(guard.token() > before, "{} after {before}, over a crash", guard.token());
    guard.release().await.unwrap();
}

/// Whenever a wait is given up, nothing of it is left: not in `pg_locks`, and no session that is not used again.
#[tokio::test(flavor = "multi_thread")]
async fn waits_given_up_around_the_grant_leave_nothing() {
    let (server, name) = (Server::get(), unique("given-up"));
    let (holder, waiter) = (locks(server.options("holder")), locks(server.options(&name)));
    let admin = server.admin().await;
    for round in 0..60u64 {
        let guard = holder.mutex(&name).acquire().await.unwrap();
        let lock = waiter.mutex(&name);
        let wait = tokio::spawn(async move { lock.acquire().await.map(drop) });
        tokio::time::sleep(ms(5 + round % 10)).await;
        let release = tokio::spawn(guard.release());
        tokio::time::sleep(Duration::from_micros(round * 37 % 3000)).await;
        wait.abort();
        release.await.unwrap().unwrap();
        let next = within("it is free", ms(5000), holder.mutex(&name).acquire()).await.unwrap();
        next.release().await.unwrap();
    }
    eventually("nothing is locked", || async { locked(&admin, &name).await == 0 }).await;
    assert!(count(&admin, &name).await <= 3, "sessions are used again");
}

/// The same of permits, whose wait has more steps.
#[tokio::test(flavor = "multi_thread")]
async fn waits_for_permits_given_up_leave_nothing() {
    let (server, name) = (Server::get(), unique("permits"));
    let (holder, waiter) = (locks(server.options("holder")), locks(server.options(&name)));
    let admin = server.admin().await;
    for round in 0..40u64 {
        let permits = [(); 2].map(|()| holder.semaphore(&name, 2));
        let mut guards = Vec::new();
        for permit in &permits {
            guards.push(permit.acquire().await.unwrap());
        }
        let lock = waiter.semaphore(&name, 2);
        let wait = tokio::spawn(async move { lock.acquire().await.map(drop) });
        tokio::time::sleep(ms(5 + round % 10)).await;
        let release = tokio::spawn(guards.pop().unwrap().release());
        tokio::time::sleep(Duration::from_micros(round * 53 % 4000)).await;
        wait.abort();
        release.await.unwrap().unwrap();
        guards.pop().unwrap().release().await.unwrap();
    }
    eventually("nothing is locked", || async { locked(&admin, &name).await == 0 }).await;
}

/// A permit that came free with a killed session is found by whoever is first in line, without word.
#[tokio::test(flavor = "multi_thread")]
async fn a_permit_of_a_killed_session_is_found() {
    let (server, name) = (Server::get(), unique("found"));
    let admin = server.admin().await;
    let (holder, waiter) = (locks(server.options(&name)), locks(server.options("waiter")));
    let _permit = holder.semaphore(&name, 1).acquire().await.unwrap();
    let lock = waiter.semaphore(&name, 1);
    let wait = tokio::spawn(async move { lock.acquire().await });
    tokio::time::sleep(ms(300)).await;
    kill(&admin, &name).await;
    within("it is found", ms(5000), wait).await.unwrap().unwrap().release().await.unwrap();
}

/// Programs that ask for different numbers share what both count.
#[tokio::test(flavor = "multi_thread")]
async fn different_numbers_of_permits_under_one_name() {
    let (server, name) = (Server::get(), unique("numbers"));
    let locks = locks(server.options("numbers"));
    let mut five = Vec::new();
    for _ in 0..5 {
        five.push(locks.semaphore(&name, 5).try_acquire().await.unwrap().expect("five are free"));
    }
    assert!(locks.semaphore(&name, 5).try_acquire().await.unwrap().is_none());
    assert!(locks.semaphore(&name, 2).try_acquire().await.unwrap().is_none(), "its two are among the five");
    for permit in five {
        permit.release().await.unwrap();
    }
    let two = [
        locks.semaphore(&name, 2).try_acquire().await.unwrap(),
        locks.semaphore(&name, 2).try_acquire().await.unwrap(),
    ];
    assert!(two.iter().all(Option::is_some));
    assert!(locks.semaphore(&name, 2).try_acquire().await.unwrap().is_none());
    let mut more = 0;
    while let Some(permit) = locks.semaphore(&name, 5).try_acquire().await.unwrap() {
        more += 1;
        // Kept, so that the next one is another.
        std::mem::forget(permit);
    }
    assert_eq!(more, 3);
}

/// Breaking a lock says what else ends with its session.
#[tokio::test(flavor = "multi_thread")]
async fn breaking_a_lock_lists_what_else_ends() {
    let (server, name) = (Server::get(), unique("broken"));
    let (holder, other) = (locks(server.options(&name)), locks(server.options("breaker")));
    let one = holder.mutex(format!("{name}-1")).acquire().await.unwrap();
    let two = holder.mutex(format!("{name}-2")).acquire().await.unwrap();
    let broken = other.force_release(&format!("{name}-1"), Primitive::Mutex).await.unwrap();
    assert_eq!(broken.len(), 1);
    assert!(broken[0].owner.contains("1 other locks") && broken[0].owner.contains(&name), "{}", broken[0].owner);
    for guard in [one, two] {
        assert_eq!(within("it is told", ms(3000), guard.lost()).await, LossReason::SessionEnded);
    }
    let admin = server.admin().await;
    assert_eq!(value(&admin, "select 1").await.as_deref(), Some("1"));
}
