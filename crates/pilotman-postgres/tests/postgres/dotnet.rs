//! The data fixtures of the .NET library, each under a name that says which it is.

use std::time::{Duration, Instant};

use pilotman_core::{ErrorKind, Release};
use pilotman_postgres::tokio_postgres::NoTls;
use pilotman_postgres::{PostgresKey, Wait, lock_in, lock_on, unlock_on};
use pilotman_testkit::servers::postgres::Postgres as Cluster;

use crate::common::{
    LONG, Server, at, client, count, eventually, kill, locked, locks, ms, sessions, unique, value, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn test_connection_does_not_leak() {
    let (server, name) = (Server::get(), unique("leak"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    for _ in 0..30 {
        let guard = locks.mutex(&name).acquire().await.unwrap();
        assert_eq!(count(&admin, &name).await, 1);
        guard.release().await.unwrap();
        assert_eq!(count(&admin, &name).await, 1);
    }
    locks.close().await;
    eventually("none is left", || async { count(&admin, &name).await == 0 }).await;
}

/// The server's own killer of idle sessions doesn't touch ours.
#[tokio::test(flavor = "multi_thread")]
async fn test_keepalive_protects_from_idle_session_killer() {
    let server = Cluster::start(&["idle_session_timeout=500ms", "idle_in_transaction_session_timeout=500ms"]).unwrap();
    let options = at(server.port());
    let (in_session, in_transaction) =
        (locks(options.clone()), locks(options.scope(pilotman_postgres::Scope::Transaction)));
    let guards = [in_session.mutex("s").acquire().await.unwrap(), in_transaction.mutex("t").acquire().await.unwrap()];
    tokio::time::sleep(ms(2000)).await;
    for guard in guards {
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_keepalive_does_not_create_race_condition() {
    let (server, name) = (Server::get(), unique("keepalive"));
    let locks = locks(server.options(&name).sessions(sessions(|options| options.heartbeat = ms(50))));
    for _ in 0..25 {
        let guard = locks.mutex(&name).acquire().await.unwrap();
        tokio::time::sleep(ms(3)).await;
        assert_eq!(guard.release().await.unwrap(), Release::Released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_idle_session_killer() {
    let (server, name) = (Server::get(), unique("killer"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let guard = locks.mutex(&name).acquire().await.unwrap();
    kill(&admin, &name).await;
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(_)));
}

/// A dropped guard gives back at once, without any clean-up run.
#[tokio::test(flavor = "multi_thread")]
async fn test_lock_abandonment_with_time_based_cleanup_run() {
    let (server, name) = (Server::get(), unique("abandoned"));
    let (one, two) = (locks(server.options(&name)), locks(server.options("other")));
    drop(one.mutex(&name).acquire().await.unwrap());
    within("it is free", ms(5000), two.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_high_concurrency_with_small_pool() {
    let (server, name) = (Server::get(), unique("small"));
    let locks = locks(server.options(&name).sessions(sessions(|options| options.max_sessions = 1)));
    let tasks: Vec<_> = (0..20u64)
        .map(|task| {
            let (locks, name) = (locks.clone(), name.clone());
            tokio::spawn(async move {
                for step in 0..50u64 {
                    let lock = locks.mutex(format!("{name}-{}", (task * 31 + step * 17) % 20));
                    if let Some(guard) = lock.try_acquire().await.unwrap() {
                        guard.release().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within("a thousand operations on one session", LONG, task).await.unwrap();
    }
    assert_eq!(count(&server.admin().await, &name).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_broken_connection_does_not_corrupt_pool() {
    let (server, name) = (Server::get(), unique("corrupt"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let broken = locks.mutex(&name).acquire().await.unwrap();
    kill(&admin, &name).await;
    let other = locks.mutex(format!("{name}-2")).acquire().await.unwrap();
    assert!(matches!(broken.release().await.unwrap(), Release::AlreadyLost(_)));
    locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    assert_eq!(other.release().await.unwrap(), Release::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn test_deadlock_detection() {
    let server = Server::get();
    let keys = [unique("a"), unique("b")].map(|name| PostgresKey::of_name(&name));
    let clients = [client(server.port()).await, client(server.port()).await];
    for (client, key) in clients.iter().zip(keys) {
        assert!(lock_on(client, key, Wait::No).await.unwrap());
    }
    let crossing = |at: usize| {
        let (client, own, other) = (&clients[at], keys[at], keys[1 - at]);
        async move {
            let locked = lock_on(client, other, Wait::For(Duration::from_secs(15))).await;
            // Whoever is the victim makes room for the other.
            unlock_on(client, own).await.unwrap();
            locked
        }
    };
    let (a, b) = within("the server finds it", LONG, async { tokio::join!(crossing(0), crossing(1)) }).await;
    let deadlocks = [&a, &b].into_iter().filter(|end| matches!(end, Err(error) if error.kind() == ErrorKind::Deadlock));
    assert!(deadlocks.count() >= 1, "{a:?}, {b:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn test_re_acquire_lock_on_same_connection() {
    let server = Server::get();
    let (client, key) = (client(server.port()).await, PostgresKey::of_name(&unique("again")));
    assert!(lock_on(&client, key, Wait::No).await.unwrap());
    assert!(!lock_on(&client, key, Wait::No).await.unwrap());
    assert_eq!(lock_on(&client, key, Wait::Forever).await.unwrap_err().kind(), ErrorKind::Deadlock);
    assert!(unlock_on(&client, key).await.unwrap());
    assert!(!unlock_on(&client, key).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn test_close_lock_on_closed_connection() {
    let server = Server::get();
    let (mine, name) = (client(server.port()).await, unique("closed"));
    let key = PostgresKey::of_name(&name);
    assert!(lock_on(&mine, key, Wait::No).await.unwrap());
    let pid = value(&mine, "select pg_backend_pid()").await.unwrap();
    value(&server.admin().await, &format!("select pg_terminate_backend({pid})")).await;
    let error = unlock_on(&mine, key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(lock_on(&mine, key, Wait::No).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let locks = locks(server.options("next"));
    within("it is free", ms(5000), locks.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_is_not_scoped_to_transaction() {
    let server = Server::get();
    let (client, name) = (client(server.port()).await, unique("outlives"));
    let key = PostgresKey::of_name(&name);
    client.batch_execute("begin").await.unwrap();
    assert!(lock_on(&client, key, Wait::For(ms(500))).await.unwrap());
    client.batch_execute("rollback").await.unwrap();
    let locks = locks(server.options("outlives"));
    assert!(locks.mutex(&name).try_acquire().await.unwrap().is_none());
    assert!(unlock_on(&client, key).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn test_scoped_to_transaction_only() {
    let server = Server::get();
    let (mut client, name) = (client(server.port()).await, unique("scoped"));
    let key = PostgresKey::of_name(&name);
    let transaction = client.transaction().await.unwrap();
    assert!(lock_in(&transaction, key, Wait::No).await.unwrap());
    assert!(!lock_on(transaction.client(), key, Wait::No).await.unwrap(), "it would be the same lock");
    transaction.commit().await.unwrap();
    assert!(lock_on(&client, key, Wait::No).await.unwrap());
    unlock_on(&client, key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_lock_on_rolled_back_and_committed_transaction() {
    let server = Server::get();
    let (mut client, name) = (client(server.port()).await, unique("ended"));
    let (key, locks) = (PostgresKey::of_name(&name), locks(server.options("ended")));
    for commit in [true, false] {
        let transaction = client.transaction().await.unwrap();
        assert!(lock_in(&transaction, key, Wait::Forever).await.unwrap());
        assert!(locks.mutex(&name).try_acquire().await.unwrap().is_none());
        match commit {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
        locks.mutex(&name).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
    }
}

/// A transaction that is dropped is rolled back, and the lock with it.
#[tokio::test(flavor = "multi_thread")]
async fn test_lock_on_disposed_transaction() {
    let server = Server::get();
    let (mut client, name) = (client(server.port()).await, unique("disposed"));
    let (key, locks) = (PostgresKey::of_name(&name), locks(server.options("disposed")));
    for _ in 0..2 {
        let transaction = client.transaction().await.unwrap();
        assert!(lock_in(&transaction, key, Wait::Forever).await.unwrap());
        assert!(locks.mutex(&name).try_acquire().await.unwrap().is_none());
        drop(transaction);
        within("it is free", LONG, locks.mutex(&name).acquire()).await.unwrap().release().await.unwrap();
    }
}

/// Also `PostgresBehaviorTest`: a savepoint lets a transaction go on after a wait that was cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn test_statement_timeout_after_a_cancellation() {
    let server = Server::get();
    let (mut mine, name) = (client(server.port()).await, unique("cancelled"));
    let (key, locks, admin) = (PostgresKey::of_name(&name), locks(server.options("cancelled")), server.admin().await);
    let guard = locks.mutex(&name).acquire().await.unwrap();
    let cancel = mine.cancel_token();
    let pid = value(&mine, "select pg_backend_pid()").await.unwrap();
    let transaction = mine.transaction().await.unwrap();
    transaction.batch_execute("set local lock_timeout='1010ms';set local statement_timeout='30s'").await.unwrap();
    let wait = lock_in(&transaction, key, Wait::For(LONG));
    let cancelled = async {
        let sql = format!("select 1 from pg_locks where pid={pid} and not granted");
        eventually("it waits", || async { value(&admin, &sql).await.is_some() }).await;
        cancel.cancel_query(NoTls).await.unwrap();
    };
    let (waited, ()) = tokio::join!(wait, cancelled);
    let error = waited.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for (setting, expected) in [("lock_timeout", "1010ms"), ("statement_timeout", "30s")] {
        let sql = format!("select current_setting('{setting}')");
        assert_eq!(value(transaction.client(), &sql).await.as_deref(), Some(expected));
    }
    guard.release().await.unwrap();
    assert!(lock_in(&transaction, key, Wait::No).await.unwrap(), "the transaction goes on");
    transaction.commit().await.unwrap();
}

/// Who has all permits and wants one more waits for itself: until the time-out, or until it is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn test_self_deadlock_waits_on_specified_time_and_respects_cancellation() {
    let (server, name) = (Server::get(), unique("self"));
    let (admin, locks) = (server.admin().await, locks(server.options(&name)));
    let semaphore = locks.semaphore(&name, 2);
    let permits = [semaphore.acquire().await.unwrap(), semaphore.acquire().await.unwrap()];
    let start = Instant::now();
    assert!(semaphore.try_acquire_for(ms(200)).await.unwrap().is_none());
    assert!(start.elapsed() >= ms(200) && start.elapsed() < ms(5000), "{:?}", start.elapsed());
    let waiting = tokio::spawn(async move { semaphore.acquire().await });
    tokio::time::sleep(ms(200)).await;
    assert!(!waiting.is_finished());
    waiting.abort();
    for permit in permits {
        assert_eq!(permit.release().await.unwrap(), Release::Released);
    }
    eventually("nothing is left", || async { locked(&admin, &name).await == 0 }).await;
}

/// Connections that have all permits don't keep others from waiting for one.
#[tokio::test(flavor = "multi_thread")]
async fn test_multiple_connections_cannot_trigger_self_deadlock() {
    let (server, name) = (Server::get(), unique("several"));
    let (one, other) = (locks(server.options("one")), locks(server.options("other")));
    let permits =
        [one.semaphore(&name, 2).acquire().await.unwrap(), other.semaphore(&name, 2).acquire().await.unwrap()];
    let lock = one.semaphore(&name, 2);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    tokio::time::sleep(ms(200)).await;
    assert!(!waiting.is_finished());
    let [kept, given] = permits;
    given.release().await.unwrap();
    within("it is had", LONG, waiting).await.unwrap().unwrap().release().await.unwrap();
    kept.release().await.unwrap();
}
