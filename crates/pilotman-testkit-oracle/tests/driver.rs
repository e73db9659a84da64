//! The real driver against the stand-in.
#![allow(missing_docs)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use oracledb::{DB_TYPE_NUMBER, DB_TYPE_VARCHAR, ErrorKind};
use pilotman_testkit_oracle::dbms_lock::Mode;
use pilotman_testkit_oracle::{Privilege, Settings, StandIn};
use support::*;

const X: i64 = 6;

fn is_understood(stand_in: &StandIn) {
    assert_eq!(stand_in.misunderstandings(), Vec::<String>::new());
    assert_eq!(stand_in.unknown_statements(), Vec::<String>::new());
}

#[test]
fn logs_in_and_off() {
    let stand_in = StandIn::start().unwrap();
    let mut connection = connect(&stand_in);
    let sessions = stand_in.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(connection.session_id().unwrap(), sessions[0].sid as usize);
    assert_eq!(connection.serial_num().unwrap(), sessions[0].serial as usize);
    assert_eq!(connection.service_name().unwrap(), "STANDIN");
    assert_eq!(sessions[0].user, "PILOTMAN");
    connection.ping().unwrap();
    connection.commit().unwrap();
    connection.rollback().unwrap();
    connection.close().unwrap();
    wait_until("the session ends", || stand_in.sessions().is_empty());
    is_understood(&stand_in);
}

#[test]
fn refuses_a_wrong_password_user_and_service() {
    let stand_in = StandIn::start().unwrap();
    for (user, password) in [("pilotman", "another"), ("pilotman", "a-password "), ("stranger", "a-password")] {
        let error = connect_as(&stand_in, user, password, "STANDIN").map(drop).unwrap_err();
        assert_eq!(code(&error), 1017, "{error}");
        assert!(error.to_string().starts_with("ORA-01017: "), "{error}");
    }
    connect_as(&stand_in, "PILOTMAN", "a-password", "standin").unwrap();
    let error = connect_as(&stand_in, "pilotman", "a-password", "another").map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidServiceName(..)), "{error}");
    is_understood(&stand_in);
}

#[test]
fn a_long_descriptor_comes_in_a_packet_of_its_own() {
    let stand_in = StandIn::start().unwrap();
    let address = stand_in.address();
    let descriptor = format!(
        "(DESCRIPTION=(RETRY_COUNT=0)(ADDRESS=(PROTOCOL=tcp)(HOST={})(PORT={}))(CONNECT_DATA=(SERVICE_NAME=standin){}))",
        address.ip(),
        address.port(),
        "(SERVER=dedicated)".repeat(20),
    );
    let config = oracledb::Config::default().set_credentials("pilotman", "a-password");
    let config = config.set_program("x".repeat(200)).unwrap().set_connect_string(&descriptor).unwrap();
    oracledb::connect(config).unwrap().ping().unwrap();
    is_understood(&stand_in);
}

#[test]
fn runs_the_backends_blocks() {
    let stand_in = StandIn::start().unwrap();
    let connection = connect(&stand_in);
    let mut result = connection
        .execute_named(
            SESSION,
            &[
                ("module", &"pilotman test"),
                ("sid", &DB_TYPE_VARCHAR),
                ("instance", &DB_TYPE_VARCHAR),
                ("role", &DB_TYPE_VARCHAR),
            ],
        )
        .unwrap();
    let row = result.out_bind_data();
    assert_eq!(row.get::<String>(0).unwrap(), connection.session_id().unwrap().to_string());
    assert_eq!(row.get::<String>("INSTANCE").unwrap(), "1");
    assert_eq!(row.get::<String>(2).unwrap(), "PRIMARY");
    assert_eq!(stand_in.sessions()[0].labels["module"], "pilotman test");
    connection.set_client_info("somebody").unwrap();
    let mut result = connection.execute_named(CHECK, &[("answer", &DB_TYPE_NUMBER)]).unwrap();
    assert_eq!(result.out_bind_data().get::<i64>(0).unwrap(), 4);
    assert_eq!(stand_in.sessions()[0].labels["client_info"], "somebody");

    let (handle, answer) = first_request(&connection, "a name: \u{e9}\u{1f512}", X, 0).unwrap();
    assert_eq!(answer, 0);
    let locks = stand_in.locks();
    assert_eq!(locks.len(), 1);
    assert_eq!(locks[0].name.as_deref(), Some("a name: \u{e9}\u{1f512}"));
    assert_eq!((locks[0].held, locks[0].wanted), (Some(Mode::X), None));
    // Again and again: what the driver sends of a statement it knows is shorter.
    for _ in 0..3 {
        assert_eq!(request(&connection, &handle, X, 0).unwrap(), 4, "owned already");
        assert_eq!(convert(&connection, &handle, 2, 0).unwrap(), 0);
        assert_eq!(convert(&connection, &handle, X, 1).unwrap(), 0);
        assert_eq!(release(&connection, &handle).unwrap(), 0);
        assert_eq!(release(&connection, &handle).unwrap(), 4, "not owned");
        assert_eq!(request(&connection, &handle, X, 0).unwrap(), 0);
    }
    assert_eq!(release(&connection, "no handle").unwrap(), 5);
    assert_eq!(request(&connection, &handle, 7, 0).unwrap(), 3, "no mode");

    let mut result = connection.execute_named(REFRESH, &[("name", &"other"), ("handle", &DB_TYPE_VARCHAR)]).unwrap();
    let other = result.out_bind_data().get::<String>(0).unwrap();
    assert_ne!(other, handle);
    let mut result = connection
        .execute_named(
            RELEASE_TWO,
            &[("answer1", &DB_TYPE_NUMBER), ("handle1", &handle), ("answer2", &DB_TYPE_NUMBER), ("handle2", &other)],
        )
        .unwrap();
    let row = result.out_bind_data();
    assert_eq!((row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap()), (0, 4));

    let token = || connection.execute_named(TOKEN, &[("token", &DB_TYPE_NUMBER)]);
    assert_eq!(code(&token().map(drop).unwrap_err()), 2289);
    connection.execute(MAKE_SEQUENCE, &[]).unwrap();
    assert_eq!(code(&connection.execute(MAKE_SEQUENCE, &[]).map(drop).unwrap_err()), 955);
    let tokens: Vec<i64> = (0..3).map(|_| token().unwrap().out_bind_data().get(0).unwrap()).collect();
    assert_eq!(tokens, [1, 2, 3]);
    is_understood(&stand_in);
}

#[test]
fn answers_queries_of_dual() {
    let stand_in = StandIn::start().unwrap();
    let connection = connect(&stand_in);
    for _ in 0..3 {
        let row = connection.query_row("SELECT 42 AS number_, 'text' AS text, :b FROM DUAL", &[&-7_i64]).unwrap();
        assert_eq!(row.get::<i64>("NUMBER_").unwrap(), 42);
        assert_eq!(row.get::<String>(1).unwrap(), "text");
        assert_eq!(row.get::<i64>(2).unwrap(), -7);
    }
    let rows = connection.query("SELECT 1 FROM DUAL", &[]).unwrap();
    assert_eq!(rows.map(|row| row.unwrap().get::<i64>(0).unwrap()).collect::<Vec<_>>(), [1]);
    is_understood(&stand_in);
}

#[test]
fn what_it_does_not_know_is_an_error_and_noted() {
    let stand_in = StandIn::start().unwrap();
    let connection = connect(&stand_in);
    let unknown = ["BEGIN SYS.SOMETHING; END;", "BEGIN NULL", "SELECT 1 FROM v$session", "BEGIN :x := 'open; END;"];
    let expected = [6550, 6550, 942, 6550];
    for (sql, expected) in unknown.into_iter().zip(expected) {
        let result =
            if sql.contains(":x") { connection.execute(sql, &[&DB_TYPE_NUMBER]) } else { connection.execute(sql, &[]) };
        // The driver itself refuses what it can't parse.
        match result.map(drop).unwrap_err().kind() {
            ErrorKind::DbError(error) => assert_eq!(error.code(), expected, "{sql}"),
            other => assert!(matches!(other, ErrorKind::ParseError(..)), "{sql}: {other:?}"),
        }
    }
    assert_eq!(stand_in.unknown_statements(), unknown[..3]);
    stand_in.deny(Privilege::DbmsLock);
    let error = first_request(&connection, "name", X, 0).unwrap_err();
    assert_eq!(code(&error), 6550);
    assert!(error.to_string().contains("PLS-00201: identifier 'SYS.DBMS_LOCK' must be declared"), "{error}");
    connection.ping().unwrap();
}

#[test]
fn errors_after_a_marker() {
    let stand_in = StandIn::start_with(Settings { marks_errors: true, ..Settings::default() }).unwrap();
    let connection = connect(&stand_in);
    for _ in 0..3 {
        let error = connection.execute("BEGIN SYS.SOMETHING; END;", &[]).map(drop).unwrap_err();
        assert_eq!(code(&error), 6550, "{error}");
        connection.ping().unwrap();
        first_request(&connection, "name", X, 0).unwrap();
    }
    assert_eq!(stand_in.misunderstandings(), Vec::<String>::new());
}

#[test]
fn messages_longer_than_a_packet() {
    let stand_in = StandIn::start_with(Settings { largest_packet: 512, ..Settings::default() }).unwrap();
    let connection = connect(&stand_in);
    let text = "y".repeat(4000);
    for _ in 0..2 {
        let mut result = connection.execute("BEGIN :out := :in; END;", &[&DB_TYPE_VARCHAR, &text.as_str()]).unwrap();
        assert_eq!(result.out_bind_data().get::<String>(0).unwrap(), text);
        // Both ways: the error has the name in it.
        let error = first_request(&connection, &"x".repeat(30_000), X, 0).unwrap_err();
        assert_eq!(code(&error), 20_000);
        assert!(error.to_string().contains(&"x".repeat(30_000)));
    }
    is_understood(&stand_in);
}

#[test]
fn waits_are_granted_in_their_order() {
    let stand_in = StandIn::start().unwrap();
    let holder = connect(&stand_in);
    let (handle, answer) = first_request(&holder, "name", X, 0).unwrap();
    assert_eq!(answer, 0);
    thread::scope(|scope| {
        let mut waiters = Vec::new();
        for place in 1..=3 {
            let (stand_in, handle) = (&stand_in, &handle);
            waiters.push(scope.spawn(move || {
                let waiter = connect(stand_in);
                assert_eq!(request(&waiter, handle, X, 32_767).unwrap(), 0);
                let granted = Instant::now();
                assert_eq!(release(&waiter, handle).unwrap(), 0);
                granted
            }));
            wait_until("it waits", || stand_in.locks().len() == 1 + place);
        }
        assert_eq!(release(&holder, &handle).unwrap(), 0);
        let granted: Vec<Instant> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        assert!(granted.is_sorted());
    });
    assert_eq!(request(&holder, &handle, X, 1).unwrap(), 0);
    let other = connect(&stand_in);
    let begun = Instant::now();
    assert_eq!(request(&other, &handle, X, 1).unwrap(), 1);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    is_understood(&stand_in);
}

#[test]
fn a_session_that_ends_frees_its_locks() {
    let stand_in = StandIn::start().unwrap();
    let endings: [fn(&StandIn, oracledb::Connection); 4] = [
        |_, mut connection| connection.close().unwrap(),
        |_, connection| drop(connection),
        |stand_in, connection| {
            let sid = connection.session_id().unwrap() as u32;
            assert!(stand_in.kill(sid));
            assert!(stand_in.locks().is_empty(), "killed, and the locks are free at once");
            assert_eq!(code(&connection.ping().unwrap_err()), 28);
            assert!(matches!(
                connection.ping().unwrap_err().kind(),
                ErrorKind::DeadConnection | ErrorKind::StreamOperation
            ));
        },
        |stand_in, connection| {
            assert!(stand_in.disconnect(connection.session_id().unwrap() as u32));
            assert!(matches!(
                connection.ping().unwrap_err().kind(),
                ErrorKind::DeadConnection | ErrorKind::StreamOperation
            ));
        },
    ];
    for end in endings {
        let connection = connect(&stand_in);
        assert_eq!(first_request(&connection, "name", X, 0).unwrap().1, 0);
        end(&stand_in, connection);
        wait_until("the lock is free", || stand_in.locks().is_empty() && stand_in.sessions().is_empty());
    }
    is_understood(&stand_in);
}

#[test]
fn a_waiter_can_be_killed_by_another_session() {
    let stand_in = StandIn::start().unwrap();
    let holder = connect(&stand_in);
    let (handle, _) = first_request(&holder, "name", X, 0).unwrap();
    let waiter = connect(&stand_in);
    let (sid, serial) = (waiter.session_id().unwrap(), waiter.serial_num().unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| request(&waiter, &handle, X, 32_767));
        wait_until("it waits", || stand_in.locks().len() == 2);
        let kill = |serial: usize| {
            holder.execute(
                &format!("BEGIN EXECUTE IMMEDIATE 'ALTER SYSTEM KILL SESSION ''{sid},{serial},@1'' IMMEDIATE'; END;"),
                &[],
            )
        };
        assert_eq!(code(&kill(serial + 1).map(drop).unwrap_err()), 30);
        kill(serial).unwrap();
        assert_eq!(code(&waiting.join().unwrap().unwrap_err()), 28);
    });
    assert_eq!(stand_in.locks().len(), 1);
    stand_in.deny(Privilege::AlterSystem);
    let error = holder.execute("BEGIN EXECUTE IMMEDIATE 'ALTER SYSTEM KILL SESSION ''1,1'''; END;", &[]).map(drop);
    assert_eq!(code(&error.unwrap_err()), 1031);
}

#[test]
fn dropping_it_ends_everything() {
    let stand_in = StandIn::start().unwrap();
    let holder = connect(&stand_in);
    let (handle, _) = first_request(&holder, "name", X, 0).unwrap();
    let waiter = connect(&stand_in);
    let waiting = thread::spawn(move || request(&waiter, &handle, X, 32_767).unwrap_err().to_string());
    wait_until("it waits", || stand_in.locks().len() == 2);
    drop(stand_in);
    waiting.join().unwrap();
    holder.ping().unwrap_err();
}
