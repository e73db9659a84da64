//! The bare statements.

use pilotman_bench::Failure;
use pilotman_postgres::tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use pilotman_testkit::servers::postgres::{DATABASE, LOCKER, PASSWORD};

/// A connection that locks by hand.
pub(crate) struct Bare(Client);

impl Bare {
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(LOCKER).password(PASSWORD).dbname(DATABASE);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a bare connection has failed: {error}");
            }
        });
        Ok(Self(client))
    }

    pub(crate) async fn try_pair(&mut self, name: &str) -> Result<(), Failure> {
        self.is_true(&format!("select pg_try_advisory_lock({})", key(name))).await?;
        self.unlock(name).await
    }

    pub(crate) async fn lock(&mut self, name: &str) -> Result<(), Failure> {
        self.0.simple_query(&format!("select pg_advisory_lock({})", key(name))).await?;
        Ok(())
    }

    pub(crate) async fn unlock(&mut self, name: &str) -> Result<(), Failure> {
        self.is_true(&format!("select pg_advisory_unlock({})", key(name))).await
    }

    async fn is_true(&self, sql: &str) -> Result<(), Failure> {
        let messages = self.0.simple_query(sql).await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        if row == Some("t") { Ok(()) } else { Err("somebody else uses the key of the bare statements".into()) }
    }
}

/// Any number, as long as others don't use it.
fn key(name: &str) -> i64 {
    name.bytes().fold(0, |key, byte| key * 31 + i64::from(byte))
}
