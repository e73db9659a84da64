//! The documented table of application locks, row by row, with the real driver over a socket.

mod common;

use std::time::{Duration, Instant};

use common::{LONG, batch, connect, get, int, lock, number, release, spid, text, try_get, until_free, until_waiting};
use pilotman_testkit_mssql::{LockOwner, Mode, Permissions, StandIn};
use tiberius::Command;

fn server() -> StandIn {
    StandIn::builder().deadlock_interval(Duration::from_millis(50)).start().expect("a server")
}

#[tokio::test]
async fn a_free_lock_is_granted_and_re_entrant_and_takes_as_many_releases() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    for mode in ["Exclusive", "Shared", "Update", "IntentShared", "IntentExclusive"] {
        for _ in 0..3 {
            assert_eq!(lock(&mut one, "x", mode, 0).await, 0, "{mode}");
        }
        for left in [2, 1, 0] {
            assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, -1);
            assert_eq!(release(&mut one, "x").await.unwrap(), 0);
            assert_eq!(server.locks().first().map_or(0, |row| row.references), left);
        }
        assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, 0);
        assert_eq!(release(&mut two, "x").await.unwrap(), 0);
    }
    assert!(server.unknown_statements().is_empty());
}

#[tokio::test]
async fn a_contended_lock_is_refused_at_once_or_after_its_time() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let begin = Instant::now();
    assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, -1);
    assert!(begin.elapsed() < LONG / 3);
    let begin = Instant::now();
    assert_eq!(lock(&mut two, "x", "Exclusive", 300).await, -1);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(begin.elapsed() < LONG);
    // Nobody waits after that.
    assert_eq!(server.locks().len(), 1);
}

#[tokio::test]
async fn who_waited_gets_1() {
    let server = server();
    for timeout in [Some(20_000), Some(-1), None] {
        let (mut one, mut two) = (connect(&server).await, connect(&server).await);
        assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
        let waiting = tokio::spawn(async move { (get(&mut two, "x", "Exclusive", "Session", timeout).await, two) });
        until_waiting(&server, "x", 1).await;
        assert_eq!(release(&mut one, "x").await.unwrap(), 0);
        let (status, two) = tokio::time::timeout(LONG, waiting).await.expect("a grant").unwrap();
        assert_eq!(status, 1);
        drop(two);
        until_free(&server).await;
    }
}

#[tokio::test]
async fn no_time_out_given_is_the_sessions_lock_time_out() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    assert_eq!(int(&mut two, "SELECT @@LOCK_TIMEOUT").await, -1);
    batch(&mut two, "SET LOCK_TIMEOUT 100").await.unwrap();
    let begin = Instant::now();
    assert_eq!(get(&mut two, "x", "Exclusive", "Session", None).await, -1);
    assert!(begin.elapsed() >= Duration::from_millis(100) && begin.elapsed() < LONG);
}

#[tokio::test]
async fn every_pair_of_modes_over_the_wire() {
    let modes = ["IntentShared", "Shared", "Update", "IntentExclusive", "Exclusive"];
    #[rustfmt::skip]
    let together = [
        [ 0,  0,  0,  0, -1],
        [ 0,  0,  0, -1, -1],
        [ 0,  0, -1, -1, -1],
        [ 0, -1, -1,  0, -1],
        [-1, -1, -1, -1, -1],
    ];
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    for (held, row) in modes.into_iter().zip(together) {
        for (asked, expected) in modes.into_iter().zip(row) {
            assert_eq!(lock(&mut one, "x", held, 0).await, 0);
            let query = format!("SELECT APPLOCK_TEST('public', 'x', '{asked}', 'Session')");
            assert_eq!(int(&mut two, &query).await, expected + 1, "{held}, then {asked}");
            assert_eq!(lock(&mut two, "x", asked, 0).await, expected, "{held}, then {asked}");
            assert_eq!(text(&mut one, "SELECT APPLOCK_MODE('public', 'x', 'Session')").await, held);
            if expected == 0 {
                assert_eq!(release(&mut two, "x").await.unwrap(), 0);
            }
            assert_eq!(release(&mut one, "x").await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn an_own_lock_is_strengthened_when_nobody_is_in_the_way() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Shared", 0).await, 0);
    assert_eq!(lock(&mut two, "x", "Shared", 0).await, 0);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, -1);
    assert_eq!(release(&mut two, "x").await.unwrap(), 0);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    assert_eq!(text(&mut one, "SELECT APPLOCK_MODE('public', 'x', 'Session')").await, "Exclusive");
    // It is exclusive until the last release.
    assert_eq!(release(&mut one, "x").await.unwrap(), 0);
    assert_eq!(text(&mut one, "SELECT APPLOCK_MODE('public', 'x', 'Session')").await, "Exclusive");
    assert_eq!(lock(&mut two, "x", "Shared", 0).await, -1);
    assert_eq!(release(&mut one, "x").await.unwrap(), 0);
    assert_eq!(lock(&mut two, "x", "Shared", 0).await, 0);
    assert_eq!(lock(&mut two, "x", "IntentExclusive", 0).await, 0);
    assert_eq!(text(&mut two, "SELECT APPLOCK_MODE('public', 'x', 'Session')").await, "SharedIntentExclusive");
}

#[tokio::test]
async fn a_deadlock_is_minus_3_for_one_side_and_the_other_gets_the_lock() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "a", "Exclusive", 0).await, 0);
    assert_eq!(lock(&mut two, "b", "Exclusive", 0).await, 0);
    let first = tokio::spawn(async move { (lock(&mut one, "b", "Exclusive", -1).await, one) });
    until_waiting(&server, "b", 1).await;
    let second = tokio::time::timeout(LONG, lock(&mut two, "a", "Exclusive", -1)).await.expect("an end");
    // The victim is the one that came last, and it keeps what it has.
    assert_eq!(second, -3);
    assert_eq!(server.locks().iter().filter(|row| row.granted).count(), 2);
    assert_eq!(release(&mut two, "b").await.unwrap(), 0);
    let (status, _one) = tokio::time::timeout(LONG, first).await.expect("an end").unwrap();
    assert_eq!(status, 1);
}

#[tokio::test]
async fn the_owner_transaction_needs_one_and_ends_with_it() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    // The default owner is the transaction.
    for owner in [Some("Transaction"), None] {
        let mut command = Command::new("sp_getapplock");
        command.bind_param("@Resource", "x".to_owned());
        command.bind_param("@LockMode", "Exclusive".to_owned());
        if let Some(owner) = owner {
            command.bind_param("@LockOwner", owner.to_owned());
        }
        let result = command.exec(&mut one).await.unwrap().into_command_result().await;
        assert_eq!(number(result), 15626);
    }
    let status = "DECLARE @r int; EXEC @r = sp_getapplock @Resource = 'x', @LockMode = 'Exclusive'; SELECT @r";
    assert_eq!(number(one.simple_query(status).await.unwrap().into_results().await), 15626);
    let caught = "DECLARE @r int; BEGIN TRY EXEC @r = sp_getapplock @Resource = 'x', @LockMode = 'Exclusive'; END TRY BEGIN CATCH SELECT ERROR_NUMBER(); END CATCH";
    assert_eq!(int(&mut one, caught).await, 15626);
    for end in ["COMMIT", "ROLLBACK", "COMMIT TRANSACTION", "ROLLBACK TRAN"] {
        batch(&mut one, "BEGIN TRANSACTION").await.unwrap();
        assert_eq!(get(&mut one, "x", "Exclusive", "Transaction", Some(0)).await, 0);
        assert_eq!(server.locks()[0].owner, LockOwner::Transaction);
        assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, -1);
        assert_eq!(text(&mut one, "SELECT APPLOCK_MODE('public', 'x', 'Transaction')").await, "Exclusive");
        assert_eq!(text(&mut one, "SELECT APPLOCK_MODE('public', 'x', 'Session')").await, "NoLock");
        batch(&mut one, end).await.unwrap();
        assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, 0, "{end}");
        assert_eq!(release(&mut two, "x").await.unwrap(), 0);
    }
    // By the driver's own requests, and nested: only the outermost commit ends it.
    one.begin_transaction().await.unwrap();
    batch(&mut one, "BEGIN TRAN").await.unwrap();
    assert_eq!(get(&mut one, "x", "Exclusive", "Transaction", Some(0)).await, 0);
    batch(&mut one, "COMMIT").await.unwrap();
    assert_eq!(server.locks().len(), 1);
    assert_eq!(int(&mut one, "SELECT CAST(XACT_STATE() AS int)").await, 1);
    one.commit_transaction().await.unwrap();
    assert!(server.locks().is_empty());
    assert_eq!(number(batch(&mut one, "COMMIT").await), 3902);
    assert_eq!(number(batch(&mut one, "ROLLBACK").await), 3903);
}

#[tokio::test]
async fn a_lock_of_the_session_outlives_its_transactions() {
    let server = server();
    let mut one = connect(&server).await;
    one.begin_transaction().await.unwrap();
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    one.rollback_transaction().await.unwrap();
    assert_eq!(server.locks()[0].owner, LockOwner::Session);
}

#[tokio::test]
async fn what_is_not_held_by_oneself_is_not_released() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(number(release(&mut one, "x").await), 1223);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    assert_eq!(number(release(&mut two, "x").await), 1223);
    let held = spid(&mut one).await;
    assert_eq!(server.holds(held, "x"), Some(Mode::Exclusive));
    let status = "DECLARE @r int; EXEC @r = sp_releaseapplock 'y', 'Session'; SELECT 1 WHERE @r = -999";
    assert_eq!(number(two.simple_query(status).await.unwrap().into_results().await), 1223);
}

#[tokio::test]
async fn bad_parameters_are_errors() {
    let server = server();
    let mut one = connect(&server).await;
    assert_eq!(number(try_get(&mut one, "x", "Whatever", "Session", Some(0)).await), 15625);
    assert_eq!(number(try_get(&mut one, "x", "SharedIntentExclusive", "Session", Some(0)).await), 15625);
    assert_eq!(number(try_get(&mut one, "x", "Shared", "Nobody", Some(0)).await), 15625);
    assert_eq!(number(try_get(&mut one, "x", "Shared", "Session", Some(-2)).await), 15600);
    let mut command = Command::new("sp_getapplock");
    command.bind_param("@Resource", "x".to_owned());
    assert_eq!(number(command.exec(&mut one).await.unwrap().into_command_result().await), 201);
    let mut command = Command::new("sp_getapplock");
    command.bind_param("@Resourse", "x".to_owned());
    assert_eq!(number(command.exec(&mut one).await.unwrap().into_command_result().await), 8145);
    server.permissions(Permissions { execute: false, ..Permissions::default() });
    assert_eq!(number(try_get(&mut one, "x", "Shared", "Session", Some(0)).await), 229);
    assert!(server.locks().is_empty());
}

#[tokio::test]
async fn names_differ_by_case_and_end_after_255_characters() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "r8", "Exclusive", 0).await, 0);
    assert_eq!(lock(&mut two, "R8", "Exclusive", 0).await, 0);
    let long = "ü".repeat(255);
    assert_eq!(lock(&mut one, &long, "Exclusive", 0).await, 0);
    assert_eq!(lock(&mut two, &format!("{long}x"), "Exclusive", 0).await, -1);
    assert_eq!(lock(&mut two, &"ü".repeat(254), "Exclusive", 0).await, 0);
}

#[tokio::test]
async fn mode_and_test_of_the_holder_and_of_others() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let (mode, test) =
        ("SELECT APPLOCK_MODE('public', 'x', 'Session')", "SELECT APPLOCK_TEST('public', 'x', 'Exclusive', 'Session')");
    assert_eq!(text(&mut one, mode).await, "Exclusive");
    assert_eq!(text(&mut two, mode).await, "NoLock");
    assert_eq!(int(&mut one, test).await, 1);
    assert_eq!(int(&mut two, test).await, 0);
    // Of a transaction it can be asked in one only.
    let of_transaction = "SELECT APPLOCK_TEST('public', 'x', 'Exclusive', 'Transaction')";
    assert_eq!(number(batch(&mut two, of_transaction).await), 15626);
    two.begin_transaction().await.unwrap();
    assert_eq!(int(&mut two, of_transaction).await, 0);
    two.rollback_transaction().await.unwrap();
    // Another principal, another lock.
    assert_eq!(int(&mut two, "SELECT APPLOCK_TEST('dbo', 'x', 'Exclusive', 'Session')").await, 1);
}

#[tokio::test]
async fn waiters_are_served_in_their_order() {
    let server = server();
    let mut one = connect(&server).await;
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let mut waiting = Vec::new();
    for place in 0..6 {
        let mut next = connect(&server).await;
        waiting.push(tokio::spawn(async move { (lock(&mut next, "x", "Exclusive", -1).await, next) }));
        until_waiting(&server, "x", place + 1).await;
    }
    let order: Vec<i32> = server.locks().iter().filter(|row| !row.granted).map(|row| row.session).collect();
    let mut served = Vec::new();
    assert_eq!(release(&mut one, "x").await.unwrap(), 0);
    for task in waiting {
        let (status, mut driver) = tokio::time::timeout(LONG, task).await.expect("a turn").unwrap();
        assert_eq!(status, 1);
        served.push(spid(&mut driver).await);
        assert_eq!(server.locks().iter().filter(|row| row.granted).count(), 1);
        assert_eq!(release(&mut driver, "x").await.unwrap(), 0);
    }
    assert_eq!(served, order);
}
