//! What is left when a session ends, in every way that one can.

mod common;

use std::time::Duration;

use common::{LONG, batch, config, connect, connect_with, int, lock, number, spid, text, until_free, until_waiting};
use pilotman_testkit_mssql::{Fault, Permissions, StandIn};

fn server() -> StandIn {
    StandIn::start().expect("a server")
}

#[tokio::test]
async fn a_holder_that_is_gone_makes_room() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let waiting = tokio::spawn(async move { (lock(&mut two, "x", "Exclusive", -1).await, two) });
    until_waiting(&server, "x", 1).await;
    drop(one);
    let (status, two) = tokio::time::timeout(LONG, waiting).await.expect("a grant").unwrap();
    assert_eq!(status, 1);
    drop(two);
    until_free(&server).await;
}

#[tokio::test]
async fn a_waiter_that_is_gone_never_gets_the_lock() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let waiting = tokio::spawn(async move { lock(&mut two, "x", "Exclusive", -1).await });
    until_waiting(&server, "x", 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    until_waiting(&server, "x", 0).await;
    drop(one);
    until_free(&server).await;
}

#[tokio::test]
async fn a_session_that_is_killed_holds_nothing() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let victim = spid(&mut one).await;
    let own = spid(&mut two).await;
    assert_eq!(number(batch(&mut two, &format!("KILL {own}")).await), 6104);
    assert_eq!(number(batch(&mut two, "KILL 9999").await), 6106);
    server.permissions(Permissions { kill: false, ..Permissions::default() });
    assert_eq!(number(batch(&mut two, &format!("KILL {victim}")).await), 6102);
    server.permissions(Permissions::default());
    batch(&mut two, &format!("KILL {victim}")).await.unwrap();
    assert!(server.locks().is_empty());
    assert!(batch(&mut one, "SELECT 1").await.is_err());
    assert!(server.wait_until(LONG, |server| server.sessions().len() == 1));
}

#[tokio::test]
async fn what_a_killed_session_held_is_free_at_once() {
    let server = server();
    let mut one = connect(&server).await;
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let victim = spid(&mut one).await;
    // Its own thread can't free anything now.
    server.freeze();
    assert!(server.kill(victim));
    assert!(server.locks().is_empty());
    server.thaw();
}

#[tokio::test]
async fn a_waiter_that_is_killed_is_told() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let victim = spid(&mut two).await;
    let waiting = tokio::spawn(async move { common::try_get(&mut two, "x", "Exclusive", "Session", Some(-1)).await });
    until_waiting(&server, "x", 1).await;
    assert!(server.kill(victim));
    assert!(!server.kill(9999));
    let result = tokio::time::timeout(LONG, waiting).await.expect("an end").unwrap();
    assert_eq!(number(result), 596);
    assert_eq!(server.locks().len(), 1);
}

#[tokio::test]
async fn a_session_that_does_nothing_is_closed_if_the_server_is_so() {
    let server = server();
    let mut one = connect(&server).await;
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    server.idle_limit(Some(Duration::from_millis(100)));
    until_free(&server).await;
    assert!(batch(&mut one, "SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_frozen_server_says_nothing_and_goes_on_when_it_is_thawed() {
    let server = server();
    let mut one = connect(&server).await;
    server.freeze();
    let silence = tokio::time::timeout(Duration::from_millis(300), int(&mut one, "SELECT 1")).await;
    assert!(silence.is_err());
    let config = config(&server);
    let login = tokio::spawn(async move { connect_with(config).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!login.is_finished());
    server.thaw();
    tokio::time::timeout(LONG, login).await.expect("a login").unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_server_ends_everything_even_when_it_is_frozen() {
    for frozen in [false, true] {
        let server = server();
        let (mut one, mut two) = (connect(&server).await, connect(&server).await);
        assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
        let waiting = tokio::spawn(async move { common::try_get(&mut two, "x", "Exclusive", "Session", None).await });
        until_waiting(&server, "x", 1).await;
        let address = server.address();
        if frozen {
            server.freeze();
        }
        tokio::time::timeout(LONG, tokio::task::spawn_blocking(move || drop(server))).await.expect("an end").unwrap();
        assert!(tokio::time::timeout(LONG, waiting).await.expect("an end").unwrap().is_err());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[tokio::test]
async fn a_reply_is_lost_before_and_after_the_statement_was_carried_out() {
    let server = server();
    let mut watcher = connect(&server).await;
    batch(&mut watcher, "CREATE SEQUENCE steps AS int START WITH 1").await.unwrap();
    let value = "SELECT CAST(current_value AS int) FROM sys.sequences WHERE name = 'steps'";
    let next = "SELECT NEXT VALUE FOR steps";
    assert_eq!(int(&mut watcher, next).await, 1);
    for (fault, expected) in [(Fault::CutBefore, 1), (Fault::CutAfter(0), 2), (Fault::CutAfter(9), 3)] {
        let mut one = connect(&server).await;
        server.fault("NEXT VALUE", fault.clone());
        assert!(batch(&mut one, next).await.is_err());
        assert_eq!(server.pending_faults(), 0);
        assert_eq!(int(&mut watcher, value).await, expected, "{fault:?}");
        // A lock that was granted in a reply that is lost goes with the connection.
        let mut one = connect(&server).await;
        server.fault("sp_getapplock", fault);
        assert!(common::try_get(&mut one, "x", "Exclusive", "Session", Some(0)).await.is_err());
        until_free(&server).await;
    }
    let mut one = connect(&server).await;
    server.fault("sp_getapplock", Fault::StallAfter(5));
    let reply = common::try_get(&mut one, "x", "Exclusive", "Session", Some(0));
    assert!(tokio::time::timeout(Duration::from_millis(300), reply).await.is_err());
    assert_eq!(server.locks().len(), 1);
    drop(one);
    until_free(&server).await;
    server.fault("SELECT 5", Fault::Error(pilotman_testkit_mssql::SqlError::new(1205, "as a test wants it")));
    assert_eq!(number(batch(&mut watcher, "SELECT 5").await), 1205);
    server.fault("SELECT 5", Fault::Garbage(0, vec![4, 1, 0, 12, 0, 0, 1, 0, 0x99, 1, 2, 3]));
    let garbage = tokio::time::timeout(LONG, batch(&mut watcher, "SELECT 5")).await.expect("an end");
    assert!(garbage.is_err());
    assert!(server.unknown_statements().is_empty());
}

#[tokio::test]
async fn hundreds_of_connections_wait_at_once() {
    const MANY: usize = 300;
    let server = server();
    let mut one = connect(&server).await;
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        let mut next = connect(&server).await;
        waiting.push(tokio::spawn(async move { (lock(&mut next, "x", "Shared", -1).await, next) }));
    }
    until_waiting(&server, "x", MANY).await;
    assert_eq!(server.sessions().len(), MANY + 1);
    assert_eq!(common::release(&mut one, "x").await.unwrap(), 0);
    let mut held = Vec::new();
    for task in waiting {
        let (status, driver) = tokio::time::timeout(LONG, task).await.expect("a grant").unwrap();
        assert_eq!(status, 1);
        held.push(driver);
    }
    assert_eq!(server.locks().len(), MANY);
    drop(held);
    until_free(&server).await;
    assert_eq!(text(&mut one, "SELECT SUSER_SNAME()").await, "pilotman");
}
