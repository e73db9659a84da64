//! The bare statements.

use pilotman_bench::Failure;
use pilotman_mysql::mysql_async::prelude::Queryable;
use pilotman_mysql::mysql_async::{Conn, OptsBuilder};
use pilotman_testkit::servers::mysql::{DATABASE, LOCKER, PASSWORD};

/// A connection that locks by hand.
pub(crate) struct Bare(Conn);

impl Bare {
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let options = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).prefer_socket(false);
        let options = options.user(Some(LOCKER)).pass(Some(PASSWORD)).db_name(Some(DATABASE));
        Ok(Self(Conn::new(options).await?))
    }

    pub(crate) async fn try_pair(&mut self, name: &str) -> Result<(), Failure> {
        self.is_one(&format!("SELECT GET_LOCK('{name}',0)")).await?;
        self.unlock(name).await
    }

    pub(crate) async fn lock(&mut self, name: &str) -> Result<(), Failure> {
        self.is_one(&format!("SELECT GET_LOCK('{name}',1000)")).await
    }

    pub(crate) async fn unlock(&mut self, name: &str) -> Result<(), Failure> {
        self.is_one(&format!("SELECT RELEASE_LOCK('{name}')")).await
    }

    async fn is_one(&mut self, sql: &str) -> Result<(), Failure> {
        let answer: Option<Option<u8>> = self.0.query_first(sql).await?;
        if answer == Some(Some(1)) { Ok(()) } else { Err("somebody else uses the name of the bare statements".into()) }
    }
}
