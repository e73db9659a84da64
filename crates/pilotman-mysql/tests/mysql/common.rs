//! Servers, sessions of an administrator, and waiting for conditions.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pilotman_core::Locks;
use pilotman_mysql::mysql_async::prelude::Queryable;
use pilotman_mysql::mysql_async::{Conn, OptsBuilder};
use pilotman_mysql::{MySql, MySqlBackend};
use pilotman_testkit::servers::mysql::{ADMIN, ADMIN_PASSWORD, DATABASE, LOCKER, PASSWORD};
use pilotman_testkit::servers::{Shared, shared_or_skip};

/// Longer than anything here takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The MariaDB that all tests share.
pub(crate) fn mariadb() -> (Shared, u16) {
    let shared = shared_or_skip("mariadb");
    let port = shared.ports()[0];
    (shared, port)
}

/// The MySQL that all tests share.
pub(crate) fn mysql() -> (Shared, u16) {
    let shared = shared_or_skip("mysql");
    let port = shared.ports()[0];
    (shared, port)
}

/// A name that nobody else uses at the server.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server at this port, as an application uses it.
pub(crate) fn options(port: u16) -> MySql {
    MySql::host(format!("127.0.0.1:{port}")).unwrap().user(LOCKER).password(PASSWORD).database(DATABASE)
}

/// Locks at the server of this port.
pub(crate) fn locks(port: u16) -> Locks {
    locks_of(options(port))
}

/// Locks with these options.
pub(crate) fn locks_of(mysql: MySql) -> Locks {
    Locks::new(MySqlBackend::new(mysql).unwrap())
}

/// A session of the user of the locks, or of the administrator.
pub(crate) struct Person(pub(crate) Conn);

impl Person {
    pub(crate) async fn admin(port: u16) -> Self {
        Self::new(port, ADMIN, ADMIN_PASSWORD).await
    }

    pub(crate) async fn user(port: u16) -> Self {
        Self::new(port, LOCKER, PASSWORD).await
    }

    async fn new(port: u16, user: &str, password: &str) -> Self {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).prefer_socket(false);
        let options = options.user(Some(user)).pass(Some(password)).db_name(Some(DATABASE));
        Self(Conn::new(options).await.expect("the server can be reached"))
    }

    /// The first column of the first row.
    pub(crate) async fn value(&mut self, sql: &str) -> Option<String> {
        let found: Option<Option<String>> =
            self.0.query_first(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        found.flatten()
    }

    /// The same where it may fail: what is ended may have ended by itself.
    pub(crate) async fn try_value(&mut self, sql: &str) {
        let _ = self.0.query_drop(sql).await;
    }

    pub(crate) async fn number(&mut self, sql: &str) -> u64 {
        self.value(sql).await.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The number of the session that has a lock.
    pub(crate) async fn holder(&mut self, physical: &str) -> Option<String> {
        self.value(&format!("SELECT IS_USED_LOCK('{physical}')")).await
    }

    /// Ends the session that has a lock.
    pub(crate) async fn kill_holder(&mut self, physical: &str) {
        let id = self.holder(physical).await.expect("it is held");
        self.value(&format!("KILL CONNECTION {id}")).await;
    }

    /// How many sessions have or await a lock of this name.
    pub(crate) async fn rows_of(&mut self, physical: &str, status: &str) -> u64 {
        self.number(&format!(
            "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE='USER LEVEL LOCK' \
             AND OBJECT_NAME='{physical}' AND LOCK_STATUS='{status}'"
        ))
        .await
    }

    /// How many sessions a program of this name has.
    pub(crate) async fn sessions_of(&mut self, application: &str) -> u64 {
        self.number(&format!(
            "SELECT COUNT(*) FROM performance_schema.session_connect_attrs a JOIN information_schema.PROCESSLIST p \
             ON p.ID=a.PROCESSLIST_ID WHERE a.ATTR_NAME='program_name' AND a.ATTR_VALUE='{application}'"
        ))
        .await
    }
}

/// Waits until this is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a future gives in time.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.unwrap_or_else(|_| panic!("never: {what}"))
}
