//! Connections to a stand-in, for tests of statements.

use pilotman_testkit_mssql::StandIn;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use crate::driver::Value;
use crate::statements::GET;
use crate::wire;

pub(crate) type Connection = Client<Compat<TcpStream>>;

pub(crate) async fn connection(server: &StandIn) -> Connection {
    let mut config = Config::new();
    let (user, password) = server.credentials();
    config.authentication(AuthMethod::sql_server(user, password));
    config.database(server.database());
    config.encryption(EncryptionLevel::NotSupported);
    let stream = TcpStream::connect(server.address()).await.unwrap();
    Client::connect(config, stream.compat_write()).await.unwrap()
}

/// Takes a lock that is free.
pub(crate) async fn get(client: &mut Connection, resource: &str) {
    let arguments = [
        ("@Resource", resource.into()),
        ("@LockMode", "Exclusive".into()),
        ("@LockOwner", "Session".into()),
        ("@LockTimeout", Value::Int(0)),
    ];
    assert_eq!(wire::call(client, GET, &arguments).await.unwrap(), 0);
}
