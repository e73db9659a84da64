//! What the tests with the real driver share.

#![allow(dead_code, reason = "every test program uses its own part")]

pub(crate) mod raw;

use std::time::Duration;

use pilotman_testkit_mssql::StandIn;
use tiberius::{AuthMethod, Client, Command, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

pub(crate) type Driver = Client<Compat<TcpStream>>;

/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What the driver needs to reach `server`, without encryption but for the login.
pub(crate) fn config(server: &StandIn) -> Config {
    let (user, password) = server.credentials();
    let mut config = Config::new();
    config.host("127.0.0.1");
    config.port(server.address().port());
    config.authentication(AuthMethod::sql_server(user, password));
    config.database(server.database());
    config.application_name("tests");
    config.encryption(EncryptionLevel::NotSupported);
    config.command_timeout(None);
    config
}

pub(crate) async fn connect_with(config: Config) -> tiberius::Result<Driver> {
    let stream = TcpStream::connect(config.get_addr()).await?;
    stream.set_nodelay(true)?;
    Client::connect(config, stream.compat_write()).await
}

pub(crate) async fn connect(server: &StandIn) -> Driver {
    connect_with(config(server)).await.expect("a login")
}

/// `sp_getapplock` with owner `Session`.
pub(crate) async fn lock(driver: &mut Driver, resource: &str, mode: &str, timeout: i32) -> i32 {
    get(driver, resource, mode, "Session", Some(timeout)).await
}

pub(crate) async fn get(driver: &mut Driver, resource: &str, mode: &str, owner: &str, timeout: Option<i32>) -> i32 {
    try_get(driver, resource, mode, owner, timeout).await.expect("a return code")
}

pub(crate) async fn try_get(
    driver: &mut Driver,
    resource: &str,
    mode: &str,
    owner: &str,
    timeout: Option<i32>,
) -> tiberius::Result<i32> {
    let mut command = Command::new("sys.sp_getapplock");
    command.bind_param("@Resource", resource.to_owned());
    command.bind_param("@LockMode", mode.to_owned());
    command.bind_param("@LockOwner", owner.to_owned());
    if let Some(timeout) = timeout {
        command.bind_param("@LockTimeout", timeout);
    }
    status(command, driver).await
}

/// `sp_releaseapplock` with owner `Session`.
pub(crate) async fn release(driver: &mut Driver, resource: &str) -> tiberius::Result<i32> {
    let mut command = Command::new("sys.sp_releaseapplock");
    command.bind_param("@Resource", resource.to_owned());
    command.bind_param("@LockOwner", "Session".to_owned());
    status(command, driver).await
}

async fn status(command: Command<'_>, driver: &mut Driver) -> tiberius::Result<i32> {
    let result = command.exec(driver).await?.into_command_result().await?;
    Ok(i32::from_ne_bytes(result.return_code().to_ne_bytes()))
}

/// The number of the error that the server told.
pub(crate) fn number<T: std::fmt::Debug>(result: tiberius::Result<T>) -> u32 {
    match result {
        Err(tiberius::error::Error::Server(error)) => error.code(),
        other => panic!("an error of the server was expected, not {other:?}"),
    }
}

pub(crate) async fn spid(driver: &mut Driver) -> i32 {
    int(driver, "SELECT CAST(@@SPID AS int)").await
}

/// The only number that a batch gives.
pub(crate) async fn int(driver: &mut Driver, text: &str) -> i32 {
    let row = driver.simple_query(text).await.expect("a reply").into_row().await.expect("a row");
    row.expect("a row").get::<i32, _>(0).expect("a number")
}

/// The only text that a batch gives.
pub(crate) async fn text(driver: &mut Driver, text: &str) -> String {
    let row = driver.simple_query(text).await.expect("a reply").into_row().await.expect("a row");
    row.expect("a row").get::<&str, _>(0).expect("a text").to_owned()
}

/// A batch whose rows don't matter.
pub(crate) async fn batch(driver: &mut Driver, text: &str) -> tiberius::Result<()> {
    driver.simple_query(text).await?.into_results().await.map(|_| ())
}

/// Waits until so many requests for `resource` wait.
pub(crate) async fn until_waiting(server: &StandIn, resource: &str, count: usize) {
    let until = std::time::Instant::now() + LONG;
    let waiting = || server.locks().iter().filter(|row| !row.granted && row.resource == resource).count();
    while waiting() != count {
        assert!(std::time::Instant::now() < until, "{:#?}", server.locks());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until nothing is held and nobody waits.
pub(crate) async fn until_free(server: &StandIn) {
    let until = std::time::Instant::now() + LONG;
    while !server.locks().is_empty() {
        assert!(std::time::Instant::now() < until, "{:#?}", server.locks());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
