//! Locks in the user's own connections and transactions: the .NET library's tests of these, and what its code gets wrong.

use std::time::{Duration, Instant};

use pilotman_core::ErrorKind;
use pilotman_postgres::tokio_postgres::Client;
use pilotman_postgres::{PostgresKey, Wait, lock_in, lock_on, unlock_on};

use crate::common::{LONG, Server, client, locks, ms, says, unique, value, within};

async fn setting(client: &Client, name: &str) -> String {
    value(client, &format!("select current_setting('{name}')")).await.unwrap()
}

/// Whatever way the server writes the settings, whole seconds too.
#[tokio::test(flavor = "multi_thread")]
async fn timeout_settings_are_restored() {
    let server = Server::get();
    let (mut mine, holder) = (client(server.port()).await, locks(server.options("restored")));
    for (lock, statement) in [("1010ms", "510ms"), ("30s", "1min"), ("0", "0"), ("2h", "3s")] {
        let name = unique("restored");
        let key = PostgresKey::of_name(&name);
        let transaction = mine.transaction().await.unwrap();
        let set = format!("set local lock_timeout='{lock}';set local statement_timeout='{statement}'");
        transaction.batch_execute(&set).await.unwrap();
        assert!(lock_in(&transaction, key, Wait::For(ms(300))).await.unwrap());
        let both = [
            setting(transaction.client(), "lock_timeout").await,
            setting(transaction.client(), "statement_timeout").await,
        ];
        assert_eq!(both, [lock, statement]);
        transaction.commit().await.unwrap();
        // The same where the time-out passes.
        let guard = holder.mutex(&name).acquire().await.unwrap();
        let transaction = mine.transaction().await.unwrap();
        transaction.batch_execute(&set).await.unwrap();
        assert!(!lock_in(&transaction, key, Wait::For(ms(50))).await.unwrap());
        let both = [
            setting(transaction.client(), "lock_timeout").await,
            setting(transaction.client(), "statement_timeout").await,
        ];
        assert_eq!(both, [lock, statement]);
        assert_eq!(value(transaction.client(), "select 1").await.as_deref(), Some("1"), "it goes on");
        transaction.commit().await.unwrap();
        guard.release().await.unwrap();
    }
    // Outside of a transaction.
    mine.batch_execute("set lock_timeout='7s'").await.unwrap();
    let key = PostgresKey::of_name(&unique("outside"));
    assert!(lock_on(&mine, key, Wait::For(ms(300))).await.unwrap());
    assert_eq!(setting(&mine, "lock_timeout").await, "7s");
    assert!(unlock_on(&mine, key).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn milliseconds_count() {
    let server = Server::get();
    let (mut mine, holder, name) = (client(server.port()).await, locks(server.options("millis")), unique("millis"));
    let guard = holder.mutex(&name).acquire().await.unwrap();
    let transaction = mine.transaction().await.unwrap();
    let start = Instant::now();
    assert!(!lock_in(&transaction, PostgresKey::of_name(&name), Wait::For(ms(300))).await.unwrap());
    assert!(start.elapsed() >= ms(300) && start.elapsed() < ms(3000), "{:?}", start.elapsed());
    transaction.rollback().await.unwrap();
    guard.release().await.unwrap();
    let error = lock_on(&mine, PostgresKey::Big(1), Wait::For(Duration::from_secs(1 << 40))).await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["longer than PostgreSQL can wait"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn multiple_locks_per_transaction() {
    let server = Server::get();
    let (mut mine, locks) = (client(server.port()).await, locks(server.options("multiple")));
    let names = [unique("one"), unique("two")];
    let transaction = mine.transaction().await.unwrap();
    for name in &names {
        assert!(lock_in(&transaction, PostgresKey::of_name(name), Wait::For(ms(1000))).await.unwrap());
    }
    for name in &names {
        assert!(locks.mutex(name).try_acquire().await.unwrap().is_none());
    }
    transaction.rollback().await.unwrap();
    for name in &names {
        locks.mutex(name).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_says_so() {
    let server = Server::get();
    let mut mine = client(server.port()).await;
    let transaction = mine.transaction().await.unwrap();
    transaction.batch_execute("select 1/0").await.unwrap_err();
    for wait in [Wait::No, Wait::Forever] {
        let error = lock_in(&transaction, PostgresKey::Big(7), wait).await.unwrap_err();
        says(&error, ErrorKind::Unavailable, &["aborted", "roll it back"]);
        assert!(!error.is_retryable() && error.has_no_effect());
    }
    transaction.rollback().await.unwrap();
}

/// A lock of ours waits for one in a transaction, and has it when that ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_end_wakes_a_waiter() {
    let server = Server::get();
    let (mut mine, locks, name) = (client(server.port()).await, locks(server.options("woken")), unique("woken"));
    let transaction = mine.transaction().await.unwrap();
    assert!(lock_in(&transaction, PostgresKey::of_name(&name), Wait::No).await.unwrap());
    let lock = locks.mutex(&name);
    let wait = tokio::spawn(async move { lock.acquire().await });
    tokio::time::sleep(ms(200)).await;
    assert!(!wait.is_finished());
    transaction.commit().await.unwrap();
    within("it is had", LONG, wait).await.unwrap().unwrap().release().await.unwrap();
}
