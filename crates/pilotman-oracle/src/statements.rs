//! The PL/SQL blocks and queries, and how their answers are read.

use crate::driver::{Call, Value};
use crate::request::Mode;

/// So many locks are released by one block.
pub(crate) const RELEASED_AT_ONCE: usize = 16;

/// A lock of a number that nobody has, which takes the right to use the package to ask for.
const NOBODYS: &str = "BEGIN :answer := SYS.DBMS_LOCK.RELEASE(id => 1073741823); END;";

/// What is set and asked when a session begins: names are compared byte by byte, whatever the settings of the client's system.
pub(crate) fn begin(module: &str) -> Call {
    Call::new(
        "BEGIN EXECUTE IMMEDIATE 'ALTER SESSION SET NLS_COMP=BINARY NLS_SORT=BINARY'; \
         SYS.DBMS_APPLICATION_INFO.SET_MODULE(module_name => :module, action_name => NULL); \
         :sid := SYS_CONTEXT('USERENV', 'SID'); \
         :instance := SYS_CONTEXT('USERENV', 'INSTANCE'); \
         :role := SYS_CONTEXT('USERENV', 'DATABASE_ROLE'); END;",
    )
    .text("module", module)
    .out_text("sid")
    .out_text("instance")
    .out_text("role")
}

/// Whether locks can be had: the answer is that nobody has this one.
pub(crate) fn check() -> Call {
    Call::new(NOBODYS).out_number("answer")
}

/// Asks for a lock whose handle is not known yet. It commits whatever transaction the session has, which is none.
pub(crate) fn first_request(name: &str, mode: Mode, seconds: u8) -> Call {
    Call::new(
        "DECLARE handle VARCHAR2(128); BEGIN \
         SYS.DBMS_LOCK.ALLOCATE_UNIQUE(lockname => :name, lockhandle => handle); :handle := handle; \
         :answer := SYS.DBMS_LOCK.REQUEST(lockhandle => handle, lockmode => :lockmode, timeout => :timeout, \
         release_on_commit => FALSE); END;",
    )
    .text("name", name)
    .out_text("handle")
    .out_number("answer")
    .number("lockmode", mode as i64)
    .number("timeout", seconds.into())
}

/// Asks for a lock.
pub(crate) fn request(handle: &str, mode: Mode, seconds: u8) -> Call {
    Call::new(
        "BEGIN :answer := SYS.DBMS_LOCK.REQUEST(lockhandle => :handle, lockmode => :lockmode, timeout => :timeout, \
         release_on_commit => FALSE); END;",
    )
    .out_number("answer")
    .text("handle", handle)
    .number("lockmode", mode as i64)
    .number("timeout", seconds.into())
}

/// Changes the mode of a lock that is held.
pub(crate) fn convert(handle: &str, mode: Mode, seconds: u8) -> Call {
    Call::new(
        "BEGIN :answer := SYS.DBMS_LOCK.CONVERT(lockhandle => :handle, lockmode => :lockmode, timeout => :timeout); END;",
    )
    .out_number("answer")
    .text("handle", handle)
    .number("lockmode", mode as i64)
    .number("timeout", seconds.into())
}

/// Releases all of these.
pub(crate) fn release<'a>(handles: impl Iterator<Item = &'a str>) -> Call {
    let handles: Vec<_> = handles.collect();
    let calls: Vec<_> = (1..=handles.len())
        .map(|nth| format!(":answer{nth} := SYS.DBMS_LOCK.RELEASE(lockhandle => :handle{nth});"))
        .collect();
    let call = Call::new(format!("BEGIN {} END;", calls.join(" ")));
    (1..)
        .zip(handles)
        .fold(call, |call, (nth, handle)| call.out_number(format!("answer{nth}")).text(format!("handle{nth}"), handle))
}

/// Says that a name is still in use: the database may forget one that nobody has asked for in ten days, and would give its lock
/// another number then.
pub(crate) fn refresh(name: &str) -> Call {
    Call::new(
        "DECLARE handle VARCHAR2(128); BEGIN \
         SYS.DBMS_LOCK.ALLOCATE_UNIQUE(lockname => :name, lockhandle => handle); :handle := handle; END;",
    )
    .text("name", name)
    .out_text("handle")
}

/// The next number of a sequence, whose name is quoted.
pub(crate) fn token(sequence: &str) -> Call {
    Call::new(format!(
        "DECLARE token NUMBER; BEGIN EXECUTE IMMEDIATE 'SELECT {sequence}.NEXTVAL FROM DUAL' INTO token; \
         :token := token; END;"
    ))
    .out_number("token")
}

/// Makes a sequence, whose name is quoted, that begins with this number. In a cluster its numbers come in order only if that is said.
pub(crate) fn make_sequence(sequence: &str, first: u64) -> Call {
    Call::new(format!("BEGIN EXECUTE IMMEDIATE '{}'; END;", sequence_ddl(sequence, first)))
}

/// What is said to whoever has to make it.
pub(crate) fn sequence_ddl(sequence: &str, first: u64) -> String {
    format!("CREATE SEQUENCE {sequence} START WITH {first} INCREMENT BY 1 NOCYCLE CACHE 20 ORDER")
}

/// Ends a session.
pub(crate) fn kill(session: &SessionId) -> Call {
    let SessionId { sid, serial, instance } = session;
    Call::new(format!(
        "BEGIN EXECUTE IMMEDIATE 'ALTER SYSTEM KILL SESSION ''{sid},{serial},@{instance}'' IMMEDIATE'; END;"
    ))
}

/// Who holds or awaits locks that have names: of this name, or all.
pub(crate) fn holders(name: Option<&str>) -> Call {
    const ALL: &str = "SELECT a.name, l.lmode, l.request, l.ctime, s.sid, s.serial#, s.inst_id, s.username, s.machine, \
                       s.program, s.module FROM sys.dbms_lock_allocated a JOIN gv$lock l ON l.id1 = a.lockid \
                       JOIN gv$session s ON s.sid = l.sid AND s.inst_id = l.inst_id WHERE l.type = 'UL'";
    match name {
        None => Call::new(ALL),
        Some(name) => Call::new(format!("{ALL} AND a.name = :name")).text("name", name),
    }
}

/// Which version this is.
pub(crate) fn version() -> Call {
    Call::new("SELECT version FROM product_component_version WHERE product LIKE 'Oracle%' AND ROWNUM = 1")
}

/// After which idle and connected times the profile ends sessions of this user, and how many he may have.
pub(crate) fn limits() -> Call {
    Call::new(
        "SELECT resource_name, limit FROM user_resource_limits WHERE resource_name IN ('CONNECT_TIME', 'IDLE_TIME', \
         'SESSIONS_PER_USER')",
    )
}

/// Whether this session fails over to another one.
pub(crate) fn failover() -> Call {
    Call::new("SELECT failover_type, failed_over FROM v$session WHERE sid = SYS_CONTEXT('USERENV', 'SID')")
}

/// The database's character set.
pub(crate) fn character_set() -> Call {
    Call::new("SELECT value FROM nls_database_parameters WHERE parameter = 'NLS_CHARACTERSET'")
}

/// Whether a sequence is there that this user can see, and gives its numbers in order everywhere.
pub(crate) fn sequence(quoted: &str) -> Call {
    let plain = quoted.replace('"', "");
    match plain.split_once('.') {
        Some((owner, name)) => {
            Call::new("SELECT order_flag FROM all_sequences WHERE sequence_owner = :owner AND sequence_name = :name")
                .text("owner", owner)
                .text("name", name)
        }
        None => Call::new("SELECT order_flag FROM user_sequences WHERE sequence_name = :name").text("name", plain),
    }
}

/// A session by the numbers that it has in the whole database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionId {
    pub(crate) sid: u64,
    pub(crate) serial: u64,
    pub(crate) instance: u64,
}

/// A value as text; `None` if it is null or there is none.
pub(crate) fn text(values: &[Value], at: usize) -> Option<String> {
    match values.get(at)? {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => None,
    }
}

/// A value as a number.
pub(crate) fn number(values: &[Value], at: usize) -> Option<i64> {
    match values.get(at)? {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        Value::Null => None,
    }
}

/// A value as a number that can't be negative.
pub(crate) fn count(values: &[Value], at: usize) -> Option<u64> {
    number(values, at).and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::driver::Bind;

    fn rendered(title: &str, call: &Call) -> String {
        let mut text = format!("## {title}\n{}\n", call.text);
        for (name, bind) in &call.binds {
            let bind = match bind {
                Bind::In(Value::Number(number)) => format!("IN NUMBER {number}"),
                Bind::In(Value::Text(text)) => format!("IN VARCHAR2 {text:?}"),
                Bind::In(Value::Null) => "IN NULL".to_owned(),
                Bind::OutNumber => "OUT NUMBER".to_owned(),
                Bind::OutText => "OUT VARCHAR2".to_owned(),
            };
            writeln!(text, "  :{name} {bind}").unwrap();
        }
        text
    }

    /// What a database is sent is pinned: nobody has run it on a real one, so a change must be seen.
    #[test]
    fn the_texts_are_those_that_are_pinned() {
        const SEQUENCE: &str = "\"PILOTMAN_FENCING_TOKEN\"";
        let (name, handle) = ("invoice:42", "10737418241073741824187");
        let calls = [
            ("the beginning of a session", begin("pilotman")),
            ("check", check()),
            ("a first attempt", first_request(name, Mode::Exclusive, 0)),
            ("a first slice of a wait", first_request(name, Mode::Read, 1)),
            ("an attempt", request(handle, Mode::Exclusive, 0)),
            ("a slice of a wait", request(handle, Mode::Upgradeable, 1)),
            ("a slice of an upgrade", convert(handle, Mode::Exclusive, 1)),
            ("a release", release([handle].into_iter())),
            ("three releases", release([handle, "b", "c"].into_iter())),
            ("a name is still in use", refresh(name)),
            ("a token", token(SEQUENCE)),
            ("the sequence is made", make_sequence(SEQUENCE, 1_700_000_000_000_000)),
            ("a session is ended", kill(&SessionId { sid: 17, serial: 4711, instance: 1 })),
            ("who holds a name", holders(Some(name))),
            ("who holds what", holders(None)),
            ("doctor: version", version()),
            ("doctor: profile", limits()),
            ("doctor: failover", failover()),
            ("doctor: character set", character_set()),
            ("doctor: sequence", sequence(SEQUENCE)),
            ("doctor: sequence of somebody else", sequence("\"APP\".\"TOKEN\"")),
        ];
        let all: Vec<_> = calls.iter().map(|(title, call)| rendered(title, call)).collect();
        let all = all.join("\n");
        assert_eq!(all, include_str!("statements.snap"), "if this is right, put it into statements.snap:\n{all}");
    }

    #[test]
    fn values_are_read_or_none() {
        let values = [Value::Number(-1), Value::Text(" 7".into()), Value::Text("x".into()), Value::Null];
        assert_eq!((number(&values, 0), count(&values, 0), text(&values, 0)), (Some(-1), None, Some("-1".to_owned())));
        assert_eq!((number(&values, 1), count(&values, 1)), (Some(7), Some(7)));
        assert_eq!((number(&values, 2), number(&values, 3), number(&values, 4)), (None, None, None));
    }

    #[test]
    fn as_many_releases_stand_in_one_block_as_there_are() {
        let handles: Vec<String> = (0..RELEASED_AT_ONCE).map(|nth| nth.to_string()).collect();
        let call = release(handles.iter().map(String::as_str));
        assert_eq!(call.binds.len(), 2 * RELEASED_AT_ONCE);
        assert_eq!(call.text.matches("DBMS_LOCK.RELEASE").count(), RELEASED_AT_ONCE);
    }
}
