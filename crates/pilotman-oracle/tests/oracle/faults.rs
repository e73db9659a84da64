//! The database ends, freezes and forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::clock::ManualClock;
use pilotman_core::{ErrorKind, Locks, LossReason, Release};
use pilotman_oracle::SessionOptions;
use tokio::task::JoinSet;

use crate::common::{backend_of, holder, locks, locks_of, options, quick, soon, until};
use crate::fake::Database;

#[tokio::test]
async fn all_holds_of_a_session_end_together() {
    let database = Database::start();
    let locks = locks(&database);
    let mut guards = Vec::new();
    for nth in 0..5 {
        guards.push(locks.mutex(format!("m-{nth}")).acquire().await.unwrap());
    }
    database.kill(holder(&database, "m-0"));
    for guard in guards {
        assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    }
    // The next one is had in a session that is opened for it.
    soon("it is free", locks.mutex("m-0").acquire()).await.unwrap().release().await.unwrap();
}

/// Who is granted a lock has it in the database, or is told that it is lost. And who still has it at the end had it all the while: no two
/// such times overlap.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_killed_under_load_break_no_exclusion() {
    const KILLS: usize = 15;
    const NAMES: usize = 2;
    let database = Database::start();
    let module = |nth: usize| format!("client-{nth}");
    let client = |nth| locks_of(&database, options().application_name(module(nth)));
    let clients = [client(0), client(1), client(2)];
    let is_done = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for (nth, client) in clients.iter().enumerate() {
        let (locks, is_done) = (client.clone(), is_done.clone());
        let (database, module) = (Arc::clone(&database), module(nth));
        workers.spawn(async move {
            let mut had = Vec::new();
            for round in nth.. {
                // Some are to be had before, some after the kills.
                if is_done.load(Ordering::SeqCst) && had.len() >= 3 {
                    break;
                }
                let name = round % NAMES;
                // A session may be killed in the middle: then it says so, or the guard does.
                let Ok(guard) = locks.mutex(format!("m-{name}")).acquire().await else { continue };
                let from = Instant::now();
                let holders = database.holders(&format!("m-{name}"));
                let own = database.sessions_of(&module);
                if !holders.iter().any(|holder| own.contains(holder)) {
                    // Killed since.
                    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
                let to = Instant::now();
                if matches!(guard.release().await, Ok(Release::Released)) {
                    had.push((name, from, to));
                }
            }
            had
        });
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(20)).await;
        until("somebody has a lock", || !database.locks.seen().is_empty()).await;
        if let Some(seen) = database.locks.seen().first() {
            database.kill(seen.session);
        }
    }
    is_done.store(true, Ordering::SeqCst);
    let had: Vec<_> = soon("all come to their end", workers.join_all()).await.into_iter().flatten().collect();
    for name in 0..NAMES {
        let mut times: Vec<_> = had.iter().filter(|(of, ..)| *of == name).map(|(_, from, to)| (*from, *to)).collect();
        times.sort();
        println!("m-{name} was had {} times to the end", times.len());
        assert!(!times.is_empty(), "m-{name} was never had");
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two had m-{name} at the same time: {times:?}");
    }
    until("nothing is held", || database.locks.seen().is_empty()).await;
    for client in clients {
        soon("it closes", client.close()).await;
    }
}

#[tokio::test]
async fn a_frozen_database_hangs_neither_release_nor_close() {
    let database = Database::start();
    let locks = locks_of(&database, quick(options()));
    let (held, dropped) = (locks.mutex("a").acquire().await.unwrap(), locks.mutex("b").acquire().await.unwrap());
    database.freeze();
    let start = Instant::now();
    // What became of it is not known here.
    let _ = soon("it returns", held.release()).await;
    drop(dropped);
    soon("it closes", locks.close()).await;
    println!("released and closed in {:?}", start.elapsed());
    database.thaw();
    until("nothing is held", || database.locks.seen().is_empty()).await;
}

/// Why names are refreshed: without it, the lock of a name that is held for long would become another one.
#[tokio::test]
async fn a_forgotten_name_has_another_lock() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let guard = one.mutex("m").acquire().await.unwrap();
    assert!(other.mutex("m").try_acquire().await.unwrap().is_none());
    database.locks.forget("m");
    let fresh = locks(&database);
    assert!(fresh.mutex("m").try_acquire().await.unwrap().is_some());
    guard.release().await.unwrap();
}

/// The database may forget a name after ten days; twice a day it is told that a held one is in use.
#[tokio::test]
async fn a_held_name_is_refreshed_and_one_that_was_forgotten_is_a_loss() {
    let database = Database::start();
    let clock = ManualClock::new();
    // Whatever is under way when the clock is set forward has not taken too long by that.
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_secs(1_000_000);
    let backend = backend_of(&database, options().sessions(sessions));
    let locks = Locks::builder(backend).clock(clock.clone()).build();
    let guard = locks.mutex("m").acquire().await.unwrap();
    let refreshed = || {
        let log = database.log();
        log.iter().filter(|run| run.text.contains("ALLOCATE_UNIQUE") && !run.text.contains("REQUEST")).count()
    };
    clock.advance(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(refreshed(), 0, "it was allocated an hour ago");
    clock.advance(Duration::from_secs(12 * 3600));
    until("it is refreshed", || refreshed() == 1).await;
    guard.ensure_held().unwrap();
    database.locks.forget("m");
    clock.advance(Duration::from_secs(13 * 3600));
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
}

/// There are days for it, so a refusal is no reason to give up what is held.
#[tokio::test]
async fn a_refresh_that_is_refused_is_tried_again() {
    let database = Database::start();
    let clock = ManualClock::new();
    let mut sessions = SessionOptions::default();
    sessions.heartbeat = Duration::from_secs(1_000_000);
    let backend = backend_of(&database, options().sessions(sessions));
    let locks = Locks::builder(backend).clock(clock.clone()).build();
    let guard = locks.mutex("m").acquire().await.unwrap();
    let tried = || {
        let log = database.log();
        log.iter().filter(|run| run.text.contains("ALLOCATE_UNIQUE") && !run.text.contains("REQUEST")).count()
    };
    database.fail_next(1653, "ORA-01653: unable to extend table");
    clock.advance(Duration::from_secs(13 * 3600));
    until("it is refused", || tried() == 1).await;
    clock.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(tried(), 1, "it was refused a minute ago");
    clock.advance(Duration::from_secs(600));
    until("it is tried again", || tried() == 2).await;
    clock.advance(Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(tried(), 2, "it was refreshed an hour ago");
    guard.ensure_held().unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(database.sessions(), 1, "the session has not ended");
}

/// All turns to open sessions are taken by log-ins that hang: a session that has to be ended is ended nevertheless.
#[tokio::test]
async fn log_ins_that_hang_keep_nobody_from_ending_a_session() {
    let database = Database::start();
    let locks = locks_of(&database, quick(options()).connect_timeout(Duration::from_millis(500)));
    let guard = locks.mutex("m").acquire().await.unwrap();
    let session = holder(&database, "m");
    database.hang_log_ins(8);
    for nth in 1..=8 {
        // It has a session of its own.
        let error = soon("it fails", locks.rw_lock("r").upgradeable_read()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        until("it hangs", || database.hanging_log_ins() == nth).await;
    }
    database.mute(session);
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::SessionEnded);
    until("the session is ended over another one", || database.holders("m").is_empty()).await;
    let error = soon("it fails", locks.mutex("m").acquire()).await.unwrap_err();
    assert!(error.to_string().contains("earlier attempts"), "there are turns for that again: {error}");
}
