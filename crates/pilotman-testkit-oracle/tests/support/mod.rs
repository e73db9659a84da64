//! What the tests share: the real driver, and the statements of the backend.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use oracledb::{Connection, DB_TYPE_NUMBER, DB_TYPE_VARCHAR, Error, ErrorKind};
use pilotman_testkit_oracle::StandIn;

/// Far more than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

pub const SESSION: &str = "BEGIN EXECUTE IMMEDIATE 'ALTER SESSION SET NLS_COMP=BINARY NLS_SORT=BINARY'; SYS.DBMS_APPLICATION_INFO.SET_MODULE(module_name => :module, action_name => NULL); :sid := SYS_CONTEXT('USERENV', 'SID'); :instance := SYS_CONTEXT('USERENV', 'INSTANCE'); :role := SYS_CONTEXT('USERENV', 'DATABASE_ROLE'); END;";
pub const FIRST_REQUEST: &str = "DECLARE handle VARCHAR2(128); BEGIN SYS.DBMS_LOCK.ALLOCATE_UNIQUE(lockname => :name, lockhandle => handle); :handle := handle; :answer := SYS.DBMS_LOCK.REQUEST(lockhandle => handle, lockmode => :lockmode, timeout => :timeout, release_on_commit => FALSE); END;";
pub const REQUEST: &str = "BEGIN :answer := SYS.DBMS_LOCK.REQUEST(lockhandle => :handle, lockmode => :lockmode, timeout => :timeout, release_on_commit => FALSE); END;";
pub const CONVERT: &str =
    "BEGIN :answer := SYS.DBMS_LOCK.CONVERT(lockhandle => :handle, lockmode => :lockmode, timeout => :timeout); END;";
pub const RELEASE: &str = "BEGIN :answer1 := SYS.DBMS_LOCK.RELEASE(lockhandle => :handle1); END;";
pub const RELEASE_TWO: &str = "BEGIN :answer1 := SYS.DBMS_LOCK.RELEASE(lockhandle => :handle1); :answer2 := SYS.DBMS_LOCK.RELEASE(lockhandle => :handle2); END;";
pub const CHECK: &str = "BEGIN :answer := SYS.DBMS_LOCK.RELEASE(id => 1073741823); END;";
pub const REFRESH: &str = "DECLARE handle VARCHAR2(128); BEGIN SYS.DBMS_LOCK.ALLOCATE_UNIQUE(lockname => :name, lockhandle => handle); :handle := handle; END;";
pub const TOKEN: &str = "DECLARE token NUMBER; BEGIN EXECUTE IMMEDIATE 'SELECT \"PILOTMAN_FENCING_TOKEN\".NEXTVAL FROM DUAL' INTO token; :token := token; END;";
pub const MAKE_SEQUENCE: &str = "BEGIN EXECUTE IMMEDIATE 'CREATE SEQUENCE \"PILOTMAN_FENCING_TOKEN\" START WITH 1 INCREMENT BY 1 NOCYCLE CACHE 20 ORDER'; END;";

pub fn connect_as(stand_in: &StandIn, user: &str, password: &str, service: &str) -> Result<Connection, Error> {
    let address = stand_in.address();
    // Without RETRY_DELAY the driver sleeps for a second after a connection that failed.
    let descriptor = format!(
        "(DESCRIPTION=(RETRY_DELAY=0)(ADDRESS=(PROTOCOL=tcp)(HOST={})(PORT={}))(CONNECT_DATA=(SERVICE_NAME={service})))",
        address.ip(),
        address.port(),
    );
    let config = oracledb::Config::default().set_credentials(user, password).set_connect_string(&descriptor)?;
    oracledb::connect(config)
}

/// A session, with a call time-out that nothing here comes near unless it's meant to.
pub fn connect(stand_in: &StandIn) -> Connection {
    let settings = stand_in.settings();
    let connection = connect_as(stand_in, &settings.user, &settings.password, &settings.service).expect("the login");
    connection.set_call_timeout(Some(LONG)).expect("the time-out");
    connection
}

/// The handle of a name, and the answer.
pub fn first_request(connection: &Connection, name: &str, mode: i64, timeout: i64) -> Result<(String, i64), Error> {
    let mut result = connection.execute_named(
        FIRST_REQUEST,
        &[
            ("name", &name),
            ("handle", &DB_TYPE_VARCHAR),
            ("answer", &DB_TYPE_NUMBER),
            ("lockmode", &mode),
            ("timeout", &timeout),
        ],
    )?;
    let row = result.out_bind_data();
    Ok((row.get(0)?, row.get(1)?))
}

pub fn request(connection: &Connection, handle: &str, mode: i64, timeout: i64) -> Result<i64, Error> {
    let binds: [(&str, &dyn oracledb::ToDbValue); 4] =
        [("answer", &DB_TYPE_NUMBER), ("handle", &handle), ("lockmode", &mode), ("timeout", &timeout)];
    connection.execute_named(REQUEST, &binds)?.out_bind_data().get(0)
}

pub fn convert(connection: &Connection, handle: &str, mode: i64, timeout: i64) -> Result<i64, Error> {
    let binds: [(&str, &dyn oracledb::ToDbValue); 4] =
        [("answer", &DB_TYPE_NUMBER), ("handle", &handle), ("lockmode", &mode), ("timeout", &timeout)];
    connection.execute_named(CONVERT, &binds)?.out_bind_data().get(0)
}

pub fn release(connection: &Connection, handle: &str) -> Result<i64, Error> {
    let binds: [(&str, &dyn oracledb::ToDbValue); 2] = [("answer1", &DB_TYPE_NUMBER), ("handle1", &handle)];
    connection.execute_named(RELEASE, &binds)?.out_bind_data().get(0)
}

/// The number of the database's error.
pub fn code(error: &Error) -> usize {
    match error.kind() {
        ErrorKind::DbError(error) => error.code(),
        other => panic!("{other:?} is no error of the database"),
    }
}

/// Runs a call on a thread of its own, for as long as that may take. `None` if it hangs, `Err` if it panics.
pub fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<thread::Result<T>> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = call();
        // Nobody hears it if it took too long.
        let _ = sender.send(());
        result
    });
    match receiver.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        // It has ended, or is about to.
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Some(thread.join()),
    }
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}
