//! What a backend asks, with the real driver.

mod common;

use common::{batch, connect, int, number, text};
use pilotman_testkit_mssql::{Permissions, StandIn};

#[tokio::test]
async fn a_connection_says_who_and_where_it_is() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    let query = "SELECT CAST(@@SPID AS int), DB_NAME(), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(30)), CAST(SERVERPROPERTY('EngineEdition') AS int), CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(30))";
    let row = driver.simple_query(query).await.unwrap().into_row().await.unwrap().unwrap();
    assert_eq!(row.get::<i32, _>(0), Some(server.sessions()[0].id));
    assert_eq!(row.get::<&str, _>(1), Some("locks"));
    assert_eq!(row.get::<&str, _>(2), Some("READ_WRITE"));
    assert_eq!(row.get::<i32, _>(3), Some(3));
    assert_eq!(row.get::<&str, _>(4), Some("15.0.2000.5"));
    assert_eq!(int(&mut driver, "SELECT 1").await, 1);
    assert_eq!(server.sessions()[0].program, "tests");
    assert!(server.unknown_statements().is_empty());
}

#[tokio::test]
async fn a_loop_takes_the_first_free_permit() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    let query = "DECLARE @r int, @i bigint = 0, @n nvarchar(255), @p bigint = -1; EXEC @r = sys.sp_getapplock @Resource = @P1, @LockMode = 'Shared', @LockOwner = 'Session', @LockTimeout = 0; IF @r >= 0 BEGIN WHILE @i < @P3 AND @p < 0 BEGIN SET @n = @P2 + CAST((@P4 + @i) % @P3 AS nvarchar(20)); IF APPLOCK_MODE('public', @n, 'Session') = 'NoLock' BEGIN EXEC @r = sys.sp_getapplock @Resource = @n, @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0; IF @r >= 0 SET @p = (@P4 + @i) % @P3; END; SET @i = @i + 1; END; EXEC sys.sp_releaseapplock @Resource = @P1, @LockOwner = 'Session'; END; SELECT @p";
    let mut taken = Vec::new();
    for _ in 0..4 {
        let rows = driver.query(query, &[&"gate", &"permit", &3_i64, &1_i64]).await.unwrap();
        taken.push(rows.into_row().await.unwrap().unwrap().get::<i64, _>(0).unwrap());
    }
    assert_eq!(taken, [1, 2, 0, -1]);
    assert_eq!(server.locks().len(), 3);
    assert!(server.unknown_statements().is_empty(), "{:?}", server.unknown_statements());
}

#[tokio::test]
async fn sequences_are_made_once_and_go_on() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    let next = "SELECT NEXT VALUE FOR [dbo].[tokens]";
    assert_eq!(number(batch(&mut driver, next).await), 208);
    server.permissions(Permissions { create_sequence: false, ..Permissions::default() });
    let create = "CREATE SEQUENCE [dbo].[tokens] AS bigint START WITH 1 INCREMENT BY 1 MINVALUE 1 NO CYCLE";
    assert_eq!(number(batch(&mut driver, create).await), 262);
    server.permissions(Permissions::default());
    batch(&mut driver, create).await.unwrap();
    assert_eq!(number(batch(&mut driver, create).await), 2714);
    for expected in 1..4 {
        let row = driver.simple_query(next).await.unwrap().into_row().await.unwrap().unwrap();
        assert_eq!(row.get::<i64, _>(0), Some(expected));
    }
    let settings = "SELECT CAST(increment AS bigint), CAST(minimum_value AS bigint), CAST(is_cycling AS int), CAST(current_value AS bigint) FROM sys.sequences WHERE object_id = OBJECT_ID(@P1)";
    let row = driver.query(settings, &[&"[dbo].[tokens]"]).await.unwrap().into_row().await.unwrap().unwrap();
    let values: Vec<i64> = [0, 1, 3].into_iter().map(|place| row.get::<i64, _>(place).unwrap()).collect();
    assert_eq!((values.as_slice(), row.get::<i32, _>(2)), ([1, 1, 3].as_slice(), Some(0)));
    let none = driver.query(settings, &[&"[dbo].[other]"]).await.unwrap().into_row().await.unwrap();
    assert!(none.is_none());
    server.read_only(true);
    assert_eq!(number(batch(&mut driver, next).await), 3906);
}

#[tokio::test]
async fn who_holds_and_who_waits_is_seen_in_the_views() {
    let server = StandIn::start().expect("a server");
    let (mut one, mut two) = (connect(&server).await, connect(&server).await);
    let name = "x".repeat(40);
    assert_eq!(common::lock(&mut one, &name, "Shared", 0).await, 0);
    let waiting = name.clone();
    let task = tokio::spawn(async move { common::try_get(&mut two, &waiting, "Exclusive", "Session", None).await });
    common::until_waiting(&server, &name, 1).await;
    let query = "SELECT CAST(l.request_session_id AS int), l.request_mode, l.request_status, l.resource_description, s.program_name, s.host_name, s.login_name FROM sys.dm_tran_locks AS l LEFT JOIN sys.dm_exec_sessions AS s ON s.session_id = l.request_session_id WHERE l.resource_type = 'APPLICATION' AND l.resource_database_id = DB_ID()";
    let rows = one.simple_query(query).await.unwrap().into_first_result().await.unwrap();
    let own = server.sessions()[0].id;
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.get::<i32, _>(0).unwrap(), row.get::<&str, _>(1).unwrap(), row.get::<&str, _>(2).unwrap()))
        .collect();
    assert_eq!(seen, [(own, "S", "GRANT"), (own + 1, "X", "WAIT")]);
    let description = rows[0].get::<&str, _>(3).unwrap();
    assert!(description.starts_with(&format!("0:[{}]:(", &name[..32])), "{description}");
    assert_eq!(rows[0].get::<&str, _>(4), Some("tests"));
    assert_eq!(rows[0].get::<&str, _>(6), Some("pilotman"));
    let blocked = "SELECT CAST(blocking_session_id AS int) FROM sys.dm_exec_requests WHERE blocking_session_id <> 0";
    assert_eq!(int(&mut one, blocked).await, own);
    server.permissions(Permissions { view_server_state: false, ..Permissions::default() });
    assert_eq!(number(batch(&mut one, query).await), 300);
    assert_eq!(int(&mut one, "SELECT COUNT(*) FROM sys.dm_exec_sessions").await, 1);
    task.abort();
}

#[tokio::test]
async fn what_a_doctor_asks_is_answered_by_the_settings() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    let query = "SELECT CAST(HAS_PERMS_BY_NAME('sys.sp_getapplock', 'OBJECT', 'EXECUTE') AS int), CAST(HAS_PERMS_BY_NAME('sys.sp_releaseapplock', 'OBJECT', 'EXECUTE') AS int), CAST(HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') AS int), CAST(HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY CONNECTION') AS int), CAST(HAS_PERMS_BY_NAME('dbo', 'SCHEMA', 'CREATE SEQUENCE') AS int), CAST(SERVERPROPERTY('IsHadrEnabled') AS int), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(30)), CAST(@@MAX_CONNECTIONS AS int), SUSER_SNAME()";
    let none = Permissions {
        execute: false,
        kill: false,
        view_server_state: false,
        create_sequence: false,
        use_sequence: false,
    };
    for (permissions, expected) in [(Permissions::default(), 1), (none, 0)] {
        server.permissions(permissions);
        server.read_only(expected == 0);
        let row = driver.simple_query(query).await.unwrap().into_row().await.unwrap().unwrap();
        for place in 0..5 {
            assert_eq!(row.get::<i32, _>(place), Some(expected), "{place}");
        }
        assert_eq!(row.get::<i32, _>(5), Some(0));
        assert_eq!(row.get::<&str, _>(6), Some(if expected == 1 { "READ_WRITE" } else { "READ_ONLY" }));
        assert_eq!(row.get::<i32, _>(7), Some(32_767));
        assert_eq!(row.get::<&str, _>(8), Some("pilotman"));
    }
    assert!(server.unknown_statements().is_empty());
}

#[tokio::test]
async fn the_state_of_a_transaction_is_told() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    let query = "SELECT CAST(XACT_STATE() AS int), APPLOCK_MODE('public', @P1, 'Session'), CASE WHEN XACT_STATE() <> 0 THEN APPLOCK_MODE('public', @P1, 'Transaction') END";
    let row = driver.query(query, &[&"x"]).await.unwrap().into_row().await.unwrap().unwrap();
    assert_eq!((row.get::<i32, _>(0), row.get::<&str, _>(1), row.get::<&str, _>(2)), (Some(0), Some("NoLock"), None));
    driver.begin_transaction().await.unwrap();
    let row = driver.query(query, &[&"x"]).await.unwrap().into_row().await.unwrap().unwrap();
    let seen = (row.get::<i32, _>(0), row.get::<&str, _>(1), row.get::<&str, _>(2));
    assert_eq!(seen, (Some(1), Some("NoLock"), Some("NoLock")));
}

#[tokio::test]
async fn a_statement_that_is_not_understood_is_an_error_and_is_kept() {
    let server = StandIn::start().expect("a server");
    let mut driver = connect(&server).await;
    assert_eq!(number(batch(&mut driver, "MERGE INTO t USING s ON 1 = 1").await), 102);
    assert_eq!(server.unknown_statements(), ["MERGE INTO t USING s ON 1 = 1"]);
    assert_eq!(number(batch(&mut driver, "SELECT no_such_thing(1)").await), 195);
    assert_eq!(number(batch(&mut driver, "EXEC sp_no_such_thing").await), 2812);
    assert_eq!(number(batch(&mut driver, "SELECT 1 FROM sys.no_such_thing").await), 208);
    assert_eq!(number(batch(&mut driver, "SELECT @no").await), 137);
    assert_eq!(server.unknown_statements().len(), 4);
    // The connection is as good as before.
    assert_eq!(text(&mut driver, "SELECT N'it''s' + 'x'").await, "it'sx");
}
