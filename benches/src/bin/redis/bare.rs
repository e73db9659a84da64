//! The bare commands of the same client.

use std::future::Future;

use pilotman_bench::Failure;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion};

const LEASE_MS: u64 = 30_000;
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
const TOKEN: &str = "token";

/// A connection as fast as the client has it.
pub(crate) async fn connect(port: u16) -> Result<MultiplexedConnection, Failure> {
    let info = format!("redis://127.0.0.1:{port}").into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    // A time-out would cost a timer for each command, and would end a `BLPOP`.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A lock as one writes it by hand.
pub(crate) struct BareLock {
    connection: MultiplexedConnection,
    hash: String,
    key: String,
    owner: String,
}

impl BareLock {
    pub(crate) async fn new(mut connection: MultiplexedConnection, key: &str) -> Result<Self, Failure> {
        let hash = redis::cmd("SCRIPT").arg("LOAD").arg(RELEASE).query_async(&mut connection).await?;
        Ok(Self { connection, hash, key: key.to_owned(), owner: format!("{:032x}", std::process::id()) })
    }

    /// Locks with these keys, on a connection that they share.
    pub(crate) async fn some(ports: &[u16], keys: &[String]) -> Result<Vec<Self>, Failure> {
        let [port] = ports else { return Err("this row has one server".into()) };
        let connection = connect(*port).await?;
        let mut locks = Vec::with_capacity(keys.len());
        for key in keys {
            locks.push(Self::new(connection.clone(), key).await?);
        }
        Ok(locks)
    }

    /// Whether it was free.
    pub(crate) fn take(&self) -> impl Future<Output = Result<bool, Failure>> + Send + use<> {
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(&self.owner).arg("NX").arg("PX").arg(LEASE_MS);
        let mut connection = self.connection.clone();
        async move {
            let taken: Option<String> = set.query_async(&mut connection).await?;
            Ok(taken.is_some())
        }
    }

    /// Whether it was ours.
    pub(crate) fn give_back(&self) -> impl Future<Output = Result<bool, Failure>> + Send + use<> {
        let mut delete = redis::cmd("EVALSHA");
        delete.arg(&self.hash).arg(1).arg(&self.key).arg(&self.owner);
        let mut connection = self.connection.clone();
        async move {
            let deleted: u64 = delete.query_async(&mut connection).await?;
            Ok(deleted == 1)
        }
    }

    pub(crate) async fn pair(&mut self) -> Result<(), Failure> {
        match (self.take().await?, self.give_back().await?) {
            (true, true) => Ok(()),
            _ => Err("somebody else uses the key of the bare commands".into()),
        }
    }
}

/// A lock as a list with one element, for which all wait in the server.
pub(crate) struct Queue {
    connection: MultiplexedConnection,
    key: String,
}

impl Queue {
    /// Nobody else may use the connection: waiting blocks it.
    pub(crate) fn new(connection: MultiplexedConnection, key: &str) -> Self {
        Self { connection, key: key.to_owned() }
    }

    pub(crate) async fn take(&mut self) -> Result<(), Failure> {
        let _: (String, String) = redis::cmd("BLPOP").arg(&self.key).arg(0).query_async(&mut self.connection).await?;
        Ok(())
    }

    pub(crate) async fn give_back(&mut self) -> Result<(), Failure> {
        let _: u64 = redis::cmd("RPUSH").arg(&self.key).arg(TOKEN).query_async(&mut self.connection).await?;
        Ok(())
    }
}
