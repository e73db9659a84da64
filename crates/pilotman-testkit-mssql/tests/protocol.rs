//! The protocol, byte by byte.

mod common;

use common::LONG;
use common::raw::{
    ATTENTION, BATCH, LAST, LOGIN, PRELOGIN, Parameter, REPLY, RESET, RPC, Raw, Token, login7, prelogin, raw_offset,
    utf16,
};
use pilotman_testkit_mssql::{Encryption, StandIn};

fn server() -> StandIn {
    StandIn::start().expect("a server")
}

#[test]
fn what_each_side_says_about_encryption_gives_the_documented_answer() {
    // Columns: the client says off (0), on (1), not supported (2), required (3).
    let table = [
        (Encryption::NotSupported, [2, 2, 2, 2]),
        (Encryption::Off, [0, 1, 2, 1]),
        (Encryption::On, [3, 1, 3, 1]),
        (Encryption::Required, [3, 1, 3, 1]),
    ];
    for (setting, answers) in table {
        let server = StandIn::builder().encryption(setting).start().unwrap();
        for (client, expected) in (0..4).zip(answers) {
            let mut raw = Raw::open(&server);
            raw.send(PRELOGIN, LAST, &prelogin(client));
            let (kind, body) = raw.message();
            assert_eq!((kind, body[raw_offset(&body, 1)]), (REPLY, expected), "{setting:?}, client {client}");
            let version = raw_offset(&body, 0);
            assert_eq!(body[version..version + 4], [15, 0, 0x07, 0xd0]);
        }
    }
}

#[test]
fn a_login_is_told_its_database_and_its_packet_size() {
    let server = server();
    let mut raw = Raw::open(&server);
    raw.send(PRELOGIN, LAST, &prelogin(2));
    raw.message();
    let (user, password) = server.credentials();
    raw.send(LOGIN, LAST, &login7(user, password, "LOCKS", 1024));
    let tokens = raw.reply();
    for expected in [Token::Changed(1), Token::Changed(4), Token::Changed(7), Token::Info(5701), Token::LoginAck] {
        assert!(tokens.contains(&expected), "{expected:?} in {tokens:?}");
    }
    assert_eq!(tokens.last(), Some(&Token::Done { kind: 0xfd, status: 0 }));
    assert_eq!(server.sessions()[0].database, "locks");
}

#[test]
fn a_reply_has_the_shape_that_ms_tds_gives_it() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    let done = |kind, status| Token::Done { kind, status };
    assert_eq!(raw.ask("SELECT 1"), [Token::Columns(1), Token::Row, done(0xfd, 0x10)]);
    let two = raw.ask("SELECT 1, N'x' SELECT 2 WHERE 1 = 0");
    assert_eq!(two, [Token::Columns(2), Token::Row, done(0xfd, 0x11), Token::Columns(1), done(0xfd, 0x10)]);
    assert_eq!(raw.ask(""), [done(0xfd, 0)]);
    assert_eq!(raw.ask("NONSENSE"), [Token::Error(102), done(0xfd, 0x02)]);
    let failed = raw.ask("EXEC sp_releaseapplock 'x', 'Session'; SELECT 1");
    let expected =
        [Token::Error(1223), Token::Status(-999), done(0xfe, 0x03), Token::Columns(1), Token::Row, done(0xfd, 0x10)];
    assert_eq!(failed, expected);
    raw.lock("x", 0);
    assert_eq!(raw.reply(), [Token::Status(0), done(0xfe, 0)]);
    let statement = "SELECT @P1 + 1";
    let parameters = [("", Parameter::Text(statement)), ("", Parameter::Text("@P1 int")), ("@P1", Parameter::Int(41))];
    raw.call("sp_executesql", &parameters);
    assert_eq!(raw.reply(), [Token::Columns(1), Token::Row, done(0xff, 0x11), Token::Status(0), done(0xfe, 0)]);
    let parameters = [
        ("", Parameter::Int(0)),
        ("", Parameter::Text("@P1 int")),
        ("", Parameter::Text(statement)),
        ("@P1", Parameter::Int(41)),
    ];
    raw.call("sp_prepexec", &parameters);
    let prepared = raw.reply();
    let expected = [Token::Columns(1), Token::Row, done(0xff, 0x11), Token::Status(0), Token::Returned, done(0xfe, 0)];
    assert_eq!(prepared, expected);
}

#[test]
fn a_message_may_come_in_many_packets_and_in_single_bytes() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    let mut body = raw.headers();
    body.extend(utf16("SELECT 1, N'a message in pieces'"));
    let pieces: Vec<&[u8]> = body.chunks(7).collect();
    for (place, piece) in pieces.iter().enumerate() {
        raw.send(BATCH, if place + 1 == pieces.len() { LAST } else { 0 }, piece);
    }
    assert_eq!(raw.reply().len(), 3);
    let length = u8::try_from(body.len() + 8).unwrap();
    let mut packet = vec![BATCH, LAST, 0, length, 0, 0, 1, 0];
    packet.extend(&body);
    for byte in packet {
        std::io::Write::write_all(&mut raw.stream, &[byte]).unwrap();
    }
    assert_eq!(raw.reply().len(), 3);
}

#[test]
fn a_session_is_reset_before_a_request_that_says_so() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    raw.lock("x", 0);
    raw.reply();
    assert!(raw.ask("BEGIN TRAN; SET LOCK_TIMEOUT 5").contains(&Token::Changed(8)));
    assert_ne!(raw.transaction, 0);
    raw.transaction = 0;
    let mut body = raw.headers();
    body.extend(utf16("SELECT 1 WHERE @@LOCK_TIMEOUT = -1 AND @@TRANCOUNT = 0"));
    raw.send(BATCH, LAST | RESET, &body);
    let tokens = raw.reply();
    assert!(tokens.contains(&Token::Row) && tokens.contains(&Token::Changed(18)), "{tokens:?}");
    assert!(server.locks().is_empty());
}

#[test]
fn a_request_names_the_transaction_that_is_open() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    raw.ask("BEGIN TRAN");
    let own = raw.transaction;
    raw.transaction = 0;
    assert_eq!(raw.ask("SELECT 1")[0], Token::Error(3989));
    raw.transaction = own + 1;
    assert_eq!(raw.ask("SELECT 1")[0], Token::Error(3971));
    raw.transaction = own;
    assert!(raw.ask("COMMIT").contains(&Token::Changed(9)));
    raw.transaction = own;
    assert_eq!(raw.ask("SELECT 1")[0], Token::Error(3971));
}

#[test]
fn what_is_not_tds_ends_the_connection_and_nothing_else() {
    let server = server();
    let headers = Raw::login(&server, 4096).headers();
    let mut number_without_end = headers.clone();
    number_without_end.extend([0xff, 0xff, 10, 0, 0, 0, 0, 0, 0x26, 4, 4, 1]);
    let mut half_a_sign = headers.clone();
    half_a_sign.push(b'S');
    let messages: [(u8, Vec<u8>); 8] = [
        (BATCH, vec![]),
        (BATCH, vec![0xff; 40]),
        (BATCH, half_a_sign),
        (RPC, headers.clone()),
        (RPC, number_without_end),
        (0x0e, headers),
        (LOGIN, vec![0; 10]),
        (0x77, vec![1, 2, 3]),
    ];
    for (kind, body) in messages {
        let mut raw = Raw::login(&server, 4096);
        raw.send(kind, LAST, &body);
        assert!(raw.is_closed(), "{kind:#04x} {body:?}");
    }
    for first in [
        &[0_u8; 64][..],
        &[0xff; 64],
        &[PRELOGIN, LAST, 0, 4, 0, 0, 0, 0],
        &[0x16, 3, 1, 0, 1, 9],
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut raw = Raw::open(&server);
        std::io::Write::write_all(&mut raw.stream, first).unwrap();
        // The server may have closed it by now.
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        // It is closed, with or without a word.
        if let Err(error) = std::io::Read::read_to_end(&mut raw.stream, &mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{first:?}");
        }
    }
    let mut raw = Raw::open(&server);
    raw.send(PRELOGIN, LAST, &prelogin(2));
    raw.message();
    raw.send(ATTENTION, LAST, &[]);
    assert!(raw.is_closed());
    assert!(server.wait_until(LONG, |server| server.sessions().is_empty()));
    assert_eq!(Raw::login(&server, 4096).ask("SELECT 1").len(), 3);
}

#[test]
fn a_spoilt_message_has_a_reply_or_ends_the_connection() {
    let server = server();
    let mut seed = 1_u64;
    let mut random = move |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % bound
    };
    let (user, password) = server.credentials();
    let headers = Raw::login(&server, 4096).headers();
    let batch = [headers.clone(), utf16("IF 1 = 1 SELECT 1, N'a' ELSE EXEC sp_releaseapplock 'x', 'Session'")].concat();
    let mut call = [headers.clone(), vec![13, 0], utf16("sp_getapplock"), vec![0, 0]].concat();
    for (name, value) in [("@Resource", "x"), ("@LockMode", "Shared"), ("@LockOwner", "Session")] {
        call.extend(
            [vec![u8::try_from(name.len()).unwrap()], utf16(name), vec![0, 0xe7, 100, 0, 9, 4, 0xd0, 0, 0x34]].concat(),
        );
        call.extend([vec![u8::try_from(value.len() * 2).unwrap(), 0], utf16(value)].concat());
    }
    let begin = [headers, vec![5, 0, 0, 0]].concat();
    for _ in 0..400 {
        let whole = [(BATCH, &batch), (RPC, &call), (0x0e, &begin)];
        let (kind, body) = whole[random(3)];
        let mut body = body.clone();
        for _ in 0..=random(3) {
            let place = random(body.len());
            body[place] = u8::try_from(random(256)).unwrap();
        }
        body.truncate(body.len() - random(2) * random(body.len()));
        let mut raw = Raw::login(&server, 4096);
        raw.send(kind, LAST, &body);
        // Whatever it is: it comes, or the end does. Who waits for a lock would time out here.
        let mut first = [0];
        match std::io::Read::read(&mut raw.stream, &mut first) {
            Ok(0) => {}
            Ok(_) => assert_eq!(first, [REPLY]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{kind:#04x} {body:?}"),
        }
    }
    for _ in 0..200 {
        let mut body = login7(user, password, "locks", 4096);
        for _ in 0..=random(3) {
            let place = random(body.len());
            body[place] = u8::try_from(random(256)).unwrap();
        }
        let mut raw = Raw::open(&server);
        raw.send(PRELOGIN, LAST, &prelogin(2));
        raw.message();
        raw.send(LOGIN, LAST, &body);
        match std::io::Read::read(&mut raw.stream, &mut [0]) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{body:?}"),
        }
    }
    let defects = server.unknown_statements().into_iter().filter(|what| what.contains("panicked"));
    assert_eq!(defects.collect::<Vec<_>>(), [""; 0]);
    assert!(server.wait_until(LONG, |server| server.sessions().is_empty() && server.locks().is_empty()));
    assert_eq!(Raw::login(&server, 4096).ask("SELECT 1").len(), 3);
}

#[test]
fn deep_nesting_is_a_syntax_error() {
    let server = server();
    let mut raw = Raw::login(&server, 4096);
    for text in [
        format!("SELECT {}1{}", "(".repeat(1500), ")".repeat(1500)),
        format!("SELECT {}1", "- ".repeat(1900)),
        format!("SELECT 1 WHERE {}1 = 1", "NOT ".repeat(900)),
        format!("{}SELECT 1{}", "BEGIN ".repeat(300), " END".repeat(300)),
        format!("{}SELECT 1", "IF 1 = 1 ".repeat(400)),
    ] {
        assert!(text.len() < 4000);
        let mut body = raw.headers();
        body.extend(utf16(&text));
        raw.send(BATCH, LAST, &body);
        assert_eq!(raw.reply()[0], Token::Error(102));
    }
}
