//! What these tests share.

use std::future::Future;
use std::time::{Duration, Instant};

use pilotman_core::{Error, ErrorKind, Locks};
use pilotman_postgres::tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use pilotman_postgres::{Postgres, PostgresBackend, SessionOptions};
use pilotman_testkit::servers::postgres::{DATABASE, LOCKER, PASSWORD};
use pilotman_testkit::servers::{Shared, shared_or_skip};

pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The server that all tests share, for those that don't break it.
pub(crate) struct Server(pub(crate) Shared);

impl Server {
    pub(crate) fn get() -> Self {
        Self(shared_or_skip("postgres"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.ports()[0]
    }

    /// Options for it, under a name that `pg_stat_activity` shows and nobody else has.
    pub(crate) fn options(&self, application: &str) -> Postgres {
        at(self.port()).application_name(application)
    }

    pub(crate) async fn admin(&self) -> Client {
        client(self.port()).await
    }
}

pub(crate) fn at(port: u16) -> Postgres {
    Postgres::host(format!("127.0.0.1:{port}")).unwrap().user(LOCKER).password(PASSWORD).database(DATABASE)
}

pub(crate) fn locks(postgres: Postgres) -> Locks {
    Locks::new(PostgresBackend::new(postgres).unwrap())
}

pub(crate) fn sessions(set: impl FnOnce(&mut SessionOptions)) -> SessionOptions {
    let mut options = SessionOptions::default();
    set(&mut options);
    options
}

/// A name that no other test has, nor another run on the same server.
pub(crate) fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{name}-{}-{}", std::process::id(), now.as_nanos())
}

/// A connection of the user's.
pub(crate) async fn client(port: u16) -> Client {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(LOCKER).password(PASSWORD).dbname(DATABASE);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The first column of the first row.
pub(crate) async fn value(client: &Client, sql: &str) -> Option<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// How many sessions there are under this name.
pub(crate) async fn count(admin: &Client, application: &str) -> i64 {
    let sql = format!("select count(*) from pg_stat_activity where application_name='{application}'");
    value(admin, &sql).await.unwrap().parse().unwrap()
}

/// How many advisory locks the sessions under this name have, or wait for.
pub(crate) async fn locked(admin: &Client, application: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_locks join pg_stat_activity using(pid) \
         where locktype='advisory' and application_name='{application}'"
    );
    value(admin, &sql).await.unwrap().parse().unwrap()
}

/// Ends the sessions under this name, as an administrator does.
pub(crate) async fn kill(admin: &Client, application: &str) {
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where application_name='{application}'");
    value(admin, &sql).await;
}

#[track_caller]
pub(crate) fn within<T>(what: &'static str, limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => panic!("not within {limit:?}: {what} ({caller})"),
        }
    }
}

/// Asks until it is so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LONG, "not within {LONG:?}: {what}");
        tokio::time::sleep(ms(10)).await;
    }
}

#[track_caller]
pub(crate) fn says(error: &Error, kind: ErrorKind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not said: {text}");
    }
    assert!(!format!("{error:?} {text}").contains(PASSWORD), "a password is shown");
}
