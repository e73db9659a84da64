//! What the conformance runs on the two servers share.

use std::any::Any;
use std::time::{Duration, Instant};

use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_core::{NameRule, Primitive};
use pilotman_mysql::mysql_async::prelude::Queryable;
use pilotman_mysql::mysql_async::{Conn, OptsBuilder};
use pilotman_mysql::{MySql, MySqlBackend};
use pilotman_testkit::servers::mysql::{ADMIN, ADMIN_PASSWORD, LOCKER, PASSWORD};
use pilotman_testkit::servers::{is_skipped, shared_or_skip};
use tokio::runtime::Runtime;

/// So many runs can have names of their own at the same time.
const RUNS: u32 = 64;

/// Where a run keeps its locks: `<port>/<database>`. Locks are the server's; the database only marks the run's sessions.
struct Place<'a> {
    port: u16,
    database: &'a str,
}

impl<'a> Place<'a> {
    fn parse(place: &'a str) -> Self {
        // Before a server is there, the suite only asks what the backend claims.
        let (port, database) = place.split_once('/').unwrap_or(("", "none"));
        Self { port: port.parse().unwrap_or(1), database }
    }

    fn connect(&self, rule: NameRule) -> MySqlBackend {
        let mysql = MySql::host(format!("127.0.0.1:{}", self.port)).expect("it is a host");
        let mysql = mysql.user(LOCKER).password(PASSWORD).database(self.database);
        let mysql = mysql.names(rule).prefix(format!("{}.", self.database));
        MySqlBackend::new(mysql).expect("these options are right")
    }
}

/// A session of an administrator.
struct Admin {
    runtime: Runtime,
    conn: Conn,
}

impl Admin {
    fn new(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).prefer_socket(false);
        let options = options.user(Some(ADMIN)).pass(Some(ADMIN_PASSWORD));
        let conn = runtime.block_on(Conn::new(options)).expect("the server can be reached");
        Self { runtime, conn }
    }

    fn value(&mut self, sql: &str) -> Option<String> {
        let found: Option<Option<String>> =
            self.runtime.block_on(self.conn.query_first(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
        found.flatten()
    }
}

/// A database that no other run uses for as long as the returned session lives.
fn database(port: u16) -> (String, Admin) {
    let mut admin = Admin::new(port);
    for run in 0..RUNS {
        if admin.value(&format!("SELECT GET_LOCK('run {run}',0)")).as_deref() == Some("1") {
            let name = format!("run_{run}");
            admin.value(&format!("CREATE DATABASE IF NOT EXISTS {name}"));
            admin.value(&format!("GRANT ALL PRIVILEGES ON {name}.* TO '{LOCKER}'@'%'"));
            return (name, admin);
        }
    }
    panic!("{RUNS} runs at the same time");
}

/// A server of the test kit. If its tests may be left out here, they are.
pub(crate) fn server(name: &'static str, server: &'static str, rule: NameRule) -> UnderTest {
    if is_skipped(server) {
        eprintln!("skipped: {server} is not installed here, and that is allowed");
        std::process::exit(0);
    }
    UnderTest::new(name, move |place| Place::parse(place).connect(rule))
        .set_up(move || {
            let shared = shared_or_skip(server);
            let port = shared.ports()[0];
            let (database, admin) = database(port);
            (format!("{port}/{database}"), Box::new((shared, admin)) as Box<dyn Any>)
        })
        .names(2000)
        .lose(lose)
        .leak_check(nothing_held)
        .clean_up(nothing_held)
}

/// As an administrator does who ends a session.
fn lose(hold: &LoseHold<'_>) -> bool {
    if hold.primitive != Primitive::Mutex {
        return false;
    }
    let mut admin = Admin::new(Place::parse(hold.place).port);
    let hex: String = hold.physical.bytes().map(|byte| format!("{byte:02x}")).collect();
    let Some(id) = admin.value(&format!("SELECT IS_USED_LOCK(_utf8mb4 0x{hex})")) else { return false };
    admin.value(&format!("KILL CONNECTION {id}"));
    true
}

/// No session of the run has a lock any more, or waits for one.
fn nothing_held(place: &str) {
    let place = Place::parse(place);
    let mut admin = Admin::new(place.port);
    let start = Instant::now();
    let sql = format!(
        "SELECT GROUP_CONCAT(CONCAT(l.LOCK_STATUS,' ',l.OBJECT_NAME) SEPARATOR '; ') \
         FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID=l.OWNER_THREAD_ID \
         WHERE l.OBJECT_TYPE='USER LEVEL LOCK' AND t.PROCESSLIST_DB='{}'",
        place.database
    );
    while let Some(left) = admin.value(&sql) {
        assert!(start.elapsed() < Duration::from_secs(20), "left behind: {left}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
