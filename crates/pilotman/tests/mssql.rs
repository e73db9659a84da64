//! SQL Server by its URL, against the stand-in.
#![cfg(feature = "mssql")]

use pilotman::mssql::{MsSql, TlsMode};
use pilotman::{ErrorKind, Locks};
use pilotman_testkit_mssql::StandIn;

#[tokio::test]
async fn urls_reach_the_server() {
    let server = StandIn::start().unwrap();
    let ca = server.ca_file();
    let localhost = server.url().replace("127.0.0.1", "localhost");
    for url in [
        format!("{}?tls=disable", server.url()),
        format!("{}?tls=require&names=strict", server.url()),
        format!("{localhost}?ca={}", ca.display()),
        format!("{}?tls=strict&ca={}", localhost.replace("mssql:", "sqlserver:"), ca.display()),
    ] {
        let locks = Locks::connect(&url).await.unwrap();
        locks.check().await.unwrap();
        let mut upgradeable = locks.rw_lock("r").upgradeable_read().await.unwrap();
        upgradeable.upgrade().await.unwrap();
        let guard = locks.mutex("m").acquire().await.unwrap();
        guard.release().await.unwrap();
        upgradeable.release().await.unwrap();
        locks.close().await;
    }
    // Nobody knows the authority of its certificate.
    let locks = Locks::connect(&localhost).await.unwrap();
    let error = locks.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn the_builder_takes_its_options() {
    let server = StandIn::start().unwrap();
    let mssql = MsSql::ado(server.ado()).unwrap().tls(TlsMode::Disable);
    let locks = Locks::builder().use_mssql(mssql).build().unwrap();
    assert_eq!(locks.backend_kind(), "mssql");
    assert!(locks.capabilities().unverified.unwrap().contains("Unverified against a real server"));
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
}
