//! The statements. Each is fixed; what differs goes as parameters.

/// Takes an application lock.
pub(crate) const GET: &str = "sys.sp_getapplock";
/// Releases one.
pub(crate) const RELEASE: &str = "sys.sp_releaseapplock";

/// Whether the server is there.
pub(crate) const PING: &str = "SELECT 1";

/// What a session is, and where.
pub(crate) const IDENTITY: &str = "SELECT CAST(@@SPID AS int), DB_NAME(), CAST(DATABASEPROPERTYEX(DB_NAME(), \
     'Updateability') AS nvarchar(30)), CAST(SERVERPROPERTY('EngineEdition') AS int), \
     CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(30))";

/// How this session has a resource.
pub(crate) const MODE: &str = "SELECT APPLOCK_MODE('public', @P1, 'Session')";

/// Whether nobody has a resource.
pub(crate) const TEST: &str = "SELECT APPLOCK_TEST('public', @P1, 'Exclusive', 'Session')";

/// How the user's connection has a resource, and whether it is in a transaction.
pub(crate) const OF_TRANSACTION: &str = "SELECT CAST(XACT_STATE() AS int), APPLOCK_MODE('public', @P1, 'Session'), \
     CASE WHEN XACT_STATE() <> 0 THEN APPLOCK_MODE('public', @P1, 'Transaction') END";

/// Any permit that is free, for who passes the gate: gate, base, number of permits, the one to begin with. The number of the
/// permit, or -1.
pub(crate) const ANY_PERMIT: &str = "DECLARE @r int, @i bigint = 0, @n nvarchar(255), @p bigint = -1; EXEC @r = \
     sys.sp_getapplock @Resource = @P1, @LockMode = 'Shared', @LockOwner = 'Session', @LockTimeout = 0; IF @r >= 0 BEGIN \
     WHILE @i < @P3 AND @p < 0 BEGIN SET @n = @P2 + CAST((@P4 + @i) % @P3 AS nvarchar(20)); IF APPLOCK_MODE('public', @n, \
     'Session') = 'NoLock' BEGIN EXEC @r = sys.sp_getapplock @Resource = @n, @LockMode = 'Exclusive', @LockOwner = \
     'Session', @LockTimeout = 0; IF @r >= 0 SET @p = (@P4 + @i) % @P3; END; SET @i = @i + 1; END; EXEC \
     sys.sp_releaseapplock @Resource = @P1, @LockOwner = 'Session'; END; SELECT @p";

/// The same for who has the gate: base, number of permits, the one to begin with.
pub(crate) const ANY_PERMIT_INSIDE: &str = "DECLARE @r int, @i bigint = 0, @n nvarchar(255), @p bigint = -1; WHILE @i < @P2 \
     AND @p < 0 BEGIN SET @n = @P1 + CAST((@P3 + @i) % @P2 AS nvarchar(20)); IF APPLOCK_MODE('public', @n, 'Session') = \
     'NoLock' BEGIN EXEC @r = sys.sp_getapplock @Resource = @n, @LockMode = 'Exclusive', @LockOwner = 'Session', \
     @LockTimeout = 0; IF @r >= 0 SET @p = (@P3 + @i) % @P2; END; SET @i = @i + 1; END; SELECT @p";

/// All application locks of the database.
pub(crate) const LOCKS: &str = "SELECT CAST(l.request_session_id AS int), l.request_mode, l.request_status, \
     l.resource_description, s.program_name, s.host_name, s.login_name FROM sys.dm_tran_locks AS l LEFT JOIN \
     sys.dm_exec_sessions AS s ON s.session_id = l.request_session_id WHERE l.resource_type = 'APPLICATION' AND \
     l.resource_database_id = DB_ID()";

/// What numbers a sequence gives.
pub(crate) const SEQUENCE: &str = "SELECT CAST(increment AS bigint), CAST(minimum_value AS bigint), CAST(is_cycling AS int), \
     CAST(current_value AS bigint) FROM sys.sequences WHERE object_id = OBJECT_ID(@P1)";

/// How this is set up.
pub(crate) const SETTINGS: &str = "SELECT CAST(HAS_PERMS_BY_NAME('sys.sp_getapplock', 'OBJECT', 'EXECUTE') AS int), \
     CAST(HAS_PERMS_BY_NAME('sys.sp_releaseapplock', 'OBJECT', 'EXECUTE') AS int), CAST(HAS_PERMS_BY_NAME(NULL, NULL, \
     'VIEW SERVER STATE') AS int), CAST(HAS_PERMS_BY_NAME(NULL, NULL, 'ALTER ANY CONNECTION') AS int), \
     CAST(HAS_PERMS_BY_NAME('dbo', 'SCHEMA', 'CREATE SEQUENCE') AS int), CAST(SERVERPROPERTY('IsHadrEnabled') AS \
     int), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(30)), CAST(@@MAX_CONNECTIONS AS int), \
     SUSER_SNAME()";

/// The next number of a sequence, whose name is quoted.
pub(crate) fn next(sequence: &str) -> String {
    format!("SELECT NEXT VALUE FOR {sequence}")
}

/// Releases so many application locks; of each, in a text: 1, it was there; 0, it was not; x, neither is known.
pub(crate) fn release_all(count: usize) -> String {
    let mut sql = "DECLARE @r int, @a nvarchar(100) = N''; ".to_owned();
    for number in 1..=count {
        sql += &format!(
            "IF APPLOCK_MODE('public', @P{number}, 'Session') = 'NoLock' SET @a = @a + N'0' ELSE BEGIN EXEC @r = \
             sys.sp_releaseapplock @Resource = @P{number}, @LockOwner = 'Session'; SET @a = @a + CASE WHEN @r = 0 THEN N'1' \
             ELSE N'x' END; END; "
        );
    }
    sql + "SELECT @a"
}

/// Makes a sequence, whose name is quoted.
pub(crate) fn make(sequence: &str, first: i64) -> String {
    format!("CREATE SEQUENCE {sequence} AS bigint START WITH {first} INCREMENT BY 1 MINVALUE 1 NO CYCLE")
}

/// Ends another session, if it has application locks still: the number of one that has ended may be a stranger's already. `KILL`
/// takes no parameter.
pub(crate) fn kill(session: i32) -> String {
    format!(
        "IF EXISTS (SELECT 1 FROM sys.dm_tran_locks WHERE resource_type = 'APPLICATION' AND resource_database_id = DB_ID() \
         AND request_session_id = {session}) KILL {session}"
    )
}

#[cfg(test)]
mod tests {
    use pilotman_testkit_mssql::StandIn;

    use super::*;
    use crate::driver::Value;
    use crate::testing::{connection, get};
    use crate::wire;

    #[tokio::test]
    async fn many_are_released_at_once() {
        let server = StandIn::start().unwrap();
        let mut client = connection(&server).await;
        for resource in ["a", "c", "d"] {
            get(&mut client, resource).await;
        }
        let names = ["a", "b", "c"].map(Value::from);
        let rows = wire::rows(&mut client, &release_all(3), &names).await.unwrap();
        assert_eq!(rows, [[Value::from("101")]]);
        let left: Vec<_> = server.locks().into_iter().map(|row| row.resource).collect();
        assert_eq!(left, ["d"]);
        assert_eq!(server.unknown_statements(), Vec::<String>::new());
    }
}
