//! What the conformance runs on the different servers share.

use std::any::Any;
use std::time::Duration;

use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_core::Primitive;
use pilotman_postgres::tokio_postgres::{Client, Config, NoTls};
use pilotman_postgres::{Postgres, PostgresBackend, Scope, SessionOptions};
use pilotman_testkit::servers::postgres::{DATABASE, LOCKER, PASSWORD};
use pilotman_testkit::servers::{Shared, is_skipped, shared_or_skip};
use tokio::runtime::Runtime;

/// So many runs can have a database of their own at the same time.
const RUNS: i64 = 64;

/// Where a run keeps its locks: `<port to lock at>/<database>/<port of the server itself>`.
struct Place<'a> {
    port: &'a str,
    database: &'a str,
    server: u16,
}

impl<'a> Place<'a> {
    fn parse(place: &'a str) -> Self {
        // Before a server is there, the suite only asks what the backend claims.
        match *place.split('/').collect::<Vec<_>>() {
            [port, database, server] => Self { port, database, server: server.parse().unwrap_or(1) },
            _ => Self { port: "1", database: DATABASE, server: 1 },
        }
    }

    fn connect(&self, scope: Scope) -> PostgresBackend {
        let postgres = Postgres::host(format!("127.0.0.1:{}", self.port)).expect("it is a host");
        let mut sessions = SessionOptions::default();
        if scope == Scope::Transaction {
            // One for each hold.
            sessions.max_sessions = 300;
        }
        let postgres = postgres.user(LOCKER).password(PASSWORD).database(self.database).scope(scope).sessions(sessions);
        PostgresBackend::new(postgres).expect("these options are right")
    }
}

/// A session of an administrator.
struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    fn new(port: u16, database: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(LOCKER).password(PASSWORD).dbname(database);
        let (client, connection) = runtime.block_on(config.connect(NoTls)).expect("the server can be reached");
        runtime.spawn(connection);
        Self { runtime, client }
    }

    fn value(&self, sql: &str) -> Option<String> {
        let messages =
            self.runtime.block_on(self.client.simple_query(sql)).unwrap_or_else(|error| panic!("{sql}: {error}"));
        messages.into_iter().find_map(|message| match message {
            pilotman_postgres::tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

/// A database that no other run uses for as long as the returned session lives.
fn database(port: u16) -> (String, Admin) {
    let admin = Admin::new(port, DATABASE);
    for run in 0..RUNS {
        if admin.value(&format!("select pg_try_advisory_lock({run})")).as_deref() == Some("t") {
            let name = format!("run_{run}");
            if admin.value(&format!("select 1 from pg_database where datname='{name}'")).is_none() {
                admin.value(&format!("create database {name}"));
            }
            return (name, admin);
        }
    }
    panic!("{RUNS} runs at the same time");
}

fn skip_if_allowed(server: &str) {
    if is_skipped(server) {
        eprintln!("skipped: {server} is not installed here, and that is allowed");
        std::process::exit(0);
    }
}

/// A server of the test kit, or what stands before it. If its tests may be left out here, they are.
pub(crate) fn server(name: &'static str, server: &'static str, scope: Scope) -> UnderTest {
    skip_if_allowed(server);
    UnderTest::new(name, move |place| Place::parse(place).connect(scope))
        .set_up(move || {
            let shared = shared_or_skip(server);
            let (first, last) = ends(&shared);
            let (database, admin) = database(last);
            (format!("{first}/{database}/{last}"), Box::new((shared, admin)) as Box<dyn Any>)
        })
        .names(if scope == Scope::Transaction { 200 } else { 2000 })
        .settle(Duration::from_millis(250))
        .lose(lose)
        .leak_check(nothing_held)
        .clean_up(nothing_held)
}

/// The port to lock at, and the port of the server itself.
fn ends(shared: &Shared) -> (u16, u16) {
    let ports = shared.ports();
    (ports[0], ports.last().copied().unwrap_or(ports[0]))
}

/// As an administrator does who ends a session.
fn lose(hold: &LoseHold<'_>) -> bool {
    let place = Place::parse(hold.place);
    let Some((high, low)) = numbers(hold.physical).filter(|_| hold.primitive == Primitive::Mutex) else { return false };
    let admin = Admin::new(place.server, place.database);
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_locks where locktype='advisory' and granted \
         and classid::int8={high} and objid::int8={low}"
    );
    admin.value(&sql).as_deref() == Some("t")
}

fn numbers(physical: &str) -> Option<(u32, u32)> {
    if let Some((first, second)) = physical.split_once(',') {
        let number = |text: &str| text.parse().ok().map(i32::cast_unsigned);
        return Some((number(first)?, number(second)?));
    }
    let key = physical.parse::<i64>().ok()?.cast_unsigned();
    Some(((key >> 32) as u32, key as u32))
}

/// Nothing is locked in the run's database any more.
fn nothing_held(place: &str) {
    let place = Place::parse(place);
    let admin = Admin::new(place.server, place.database);
    let start = std::time::Instant::now();
    let sql = "select string_agg(l::text, '; ') from pg_locks l join pg_database d on d.oid=l.database \
               where locktype='advisory' and datname=current_database()";
    while let Some(left) = admin.value(sql) {
        assert!(start.elapsed().as_secs() < 20, "left behind: {left}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
