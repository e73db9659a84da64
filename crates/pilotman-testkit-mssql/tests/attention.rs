//! Cancelling: by the driver, and at every byte of a reply.

mod common;

use std::time::Duration;

use common::raw::{Raw, Token};
use common::{LONG, connect, int, lock, release, until_free, until_waiting};
use pilotman_testkit_mssql::{Fault, StandIn};

fn server() -> StandIn {
    StandIn::start().expect("a server")
}

#[tokio::test]
async fn a_waiter_that_is_cancelled_waits_no_longer_and_its_connection_stays_good() {
    let server = server();
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
    for _ in 0..3 {
        let waiting = lock(&mut two, "x", "Exclusive", -1);
        assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
        until_waiting(&server, "x", 1).await;
        tokio::time::timeout(LONG, two.cancel_query()).await.expect("an acknowledgement").unwrap();
        until_waiting(&server, "x", 0).await;
        assert_eq!(int(&mut two, "SELECT 7").await, 7);
    }
    assert_eq!(release(&mut one, "x").await.unwrap(), 0);
    assert!(server.locks().is_empty());
    assert_eq!(lock(&mut two, "x", "Exclusive", 0).await, 0);
}

#[test]
fn who_is_cancelled_in_a_wait_gets_the_acknowledgement_and_nothing_else() {
    let server = server();
    let (mut one, mut two) = (Raw::login(&server, 4096), Raw::login(&server, 4096));
    one.lock("x", 0);
    assert_eq!(one.reply(), [Token::Status(0), Token::Done { kind: 0xfe, status: 0 }]);
    two.lock("x", -1);
    assert!(server.wait_until(LONG, |server| server.locks().len() == 2));
    two.attention();
    assert_eq!(two.reply(), [Token::Done { kind: 0xfd, status: 0x20 }]);
    assert_eq!(server.locks().len(), 1);
}

#[test]
fn an_attention_after_the_reply_is_acknowledged_by_a_message_of_its_own() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    raw.batch("SELECT 1");
    assert_eq!(raw.reply().len(), 3);
    raw.attention();
    assert_eq!(raw.reply(), [Token::Done { kind: 0xfd, status: 0x20 }]);
    // With no request at all, and twice.
    for _ in 0..2 {
        raw.attention();
        assert_eq!(raw.reply(), [Token::Done { kind: 0xfd, status: 0x20 }]);
    }
    assert_eq!(raw.ask("SELECT 7").len(), 3);
}

#[test]
fn a_sleep_is_cancelled() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    raw.batch("WAITFOR DELAY '01:00:00'");
    assert!(server.wait_until(LONG, |server| server.sessions()[0].running));
    raw.attention();
    assert!(raw.reply().iter().any(Token::acknowledges));
}

/// Reads `count` bytes of a reply, cancels, and reads whatever comes. Tells the messages up to the acknowledgement.
fn cancel_after(raw: &mut Raw, count: usize) -> Vec<Vec<Token>> {
    let read = raw.bytes(count);
    raw.attention();
    let mut messages = vec![raw.reply_after(&read)];
    while !messages.iter().flatten().any(Token::acknowledges) {
        assert!(messages.len() < 2, "{messages:?}");
        messages.push(raw.reply());
    }
    messages
}

#[test]
fn a_lock_that_is_cancelled_at_any_byte_of_its_reply_is_held_and_the_stream_stays_whole() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    // Header, status, and the end of the procedure.
    let whole = 8 + 5 + 13;
    for count in 0..whole {
        server.fault("sp_getapplock", Fault::PauseAfter(count));
        raw.lock("x", -1);
        assert!(server.wait_until(LONG, |server| server.locks().len() == 1));
        let messages = cancel_after(&mut raw, count);
        // A packet that had begun came whole, and the acknowledgement after it.
        if count > 0 {
            assert_eq!(messages.len(), 2, "after {count} bytes");
            assert_eq!(messages[0][0], Token::Status(0));
        }
        // The server had granted it. Only a release makes it free: a client can't know.
        assert_eq!(server.locks().len(), 1);
        let asked =
            raw.ask("IF APPLOCK_MODE('public', 'x', 'Session') <> 'NoLock' EXEC sp_releaseapplock 'x', 'Session'");
        assert!(asked.contains(&Token::Status(0)), "{asked:?}");
        assert!(server.locks().is_empty());
    }
}

#[test]
fn a_long_reply_that_is_cancelled_at_any_byte_ends_after_a_whole_token() {
    let server = server();
    // Small packets, so that the reply has many, and tokens lie across their borders.
    let mut raw = Raw::login(&server, 512);
    let text = format!("SELECT N'{}'; SELECT N'{}'; SELECT 3", "a".repeat(300), "b".repeat(400));
    raw.batch(&text);
    let (mut whole, mut packets) = (0, 0);
    loop {
        let (header, body) = raw.packet();
        (whole, packets) = (whole + header.len() + body.len(), packets + 1);
        assert!(header.len() + body.len() <= 512);
        assert_eq!(usize::from(header[6]), packets);
        if header[1] & 1 != 0 {
            break;
        }
    }
    assert!(packets >= 3, "{packets}");
    for count in 0..whole {
        server.fault("SELECT N", Fault::PauseAfter(count));
        raw.batch(&text);
        let messages = cancel_after(&mut raw, count);
        if (1..512).contains(&count) {
            // The first packet had begun. It ends in the first row, which came whole, and nothing else after it.
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0], [Token::Columns(1), Token::Row, Token::Done { kind: 0xfd, status: 0x20 }]);
        }
        // The whole reply comes only when its last packet had begun.
        assert!(messages.len() == 1 || count > whole - 512, "{count} of {whole}: {messages:?}");
        assert_eq!(raw.ask("SELECT 7").len(), 3, "after {count} bytes");
    }
    assert_eq!(server.pending_faults(), 0);
    assert!(server.unknown_statements().is_empty());
}

#[test]
fn the_acknowledgement_itself_is_cut_at_every_byte() {
    let server = server();
    let mut holder = Raw::login(&server, 4096);
    holder.lock("x", 0);
    holder.reply();
    for count in 0..21 {
        let mut raw = Raw::login(&server, 4096);
        raw.lock("x", -1);
        assert!(server.wait_until(LONG, |server| server.locks().len() == 2));
        server.fault_attention(Fault::CutAfter(count));
        raw.attention();
        raw.bytes(count);
        // Nothing follows, and nothing is left.
        assert!(raw.is_closed());
        assert!(server.wait_until(LONG, |server| server.locks().len() == 1 && server.sessions().len() == 1));
    }
}

#[tokio::test]
async fn many_cancels_that_meet_a_grant_leave_nothing_but_what_a_release_frees() {
    let server = server();
    let mut one = connect(&server).await;
    for round in 0..40_u64 {
        let mut two = connect(&server).await;
        assert_eq!(lock(&mut one, "x", "Exclusive", 0).await, 0);
        let waiting = lock(&mut two, "x", "Exclusive", -1);
        assert!(tokio::time::timeout(Duration::from_millis(5), waiting).await.is_err());
        // The release and the cancel meet, now the one first, now the other.
        let freed = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 20)).await;
            (release(&mut one, "x").await.unwrap(), one)
        });
        // Either it is acknowledged, or the reply came first and the driver may not be in step any more.
        let cancelled = tokio::time::timeout(LONG, two.cancel_query()).await.expect("an end");
        let (status, back) = freed.await.unwrap();
        assert_eq!(status, 0);
        one = back;
        drop((cancelled, two));
        until_free(&server).await;
    }
}
