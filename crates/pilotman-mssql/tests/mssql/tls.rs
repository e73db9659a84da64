//! Encryption, and connection strings as programs have them.

use pilotman_core::ErrorKind;
use pilotman_mssql::{MsSql, TlsMode};
use pilotman_testkit_mssql::{Encryption, StandIn};

use crate::common::{locks_of, options, says, server};

async fn works(mssql: MsSql) {
    locks_of(mssql).mutex("m").acquire().await.unwrap().release().await.unwrap();
}

fn at_localhost(server: &StandIn) -> MsSql {
    let (user, password) = server.credentials();
    let host = format!("localhost:{}", server.address().port());
    MsSql::host(host).unwrap().login(user, password).database(server.database())
}

#[tokio::test]
async fn all_modes() {
    let server = server();
    let ca = std::fs::read(server.ca_file()).unwrap();
    for mode in [TlsMode::Disable, TlsMode::LoginOnly, TlsMode::Require] {
        works(at_localhost(&server).tls(mode)).await;
    }
    for mode in [TlsMode::Require, TlsMode::VerifyFull, TlsMode::Strict] {
        works(at_localhost(&server).ca(&ca).tls(mode)).await;
    }
    let connections = server.sessions();
    assert!(connections.iter().all(|session| session.program == "pilotman"), "{connections:?}");
}

#[tokio::test]
async fn what_is_not_trusted_is_refused() {
    let server = server();
    let ca = std::fs::read(server.ca_file()).unwrap();
    for mssql in [
        at_localhost(&server).tls(TlsMode::VerifyFull),
        at_localhost(&server).tls(TlsMode::Strict),
        at_localhost(&server).ca(&ca).tls_name("elsewhere.example"),
    ] {
        let error = locks_of(mssql).mutex("m").acquire().await.unwrap_err();
        says(&error, ErrorKind::Misconfigured, &["certificate", "tls=require"]);
    }
    assert!(server.sessions().is_empty());
}

#[tokio::test]
async fn what_client_and_server_demand() {
    let demanding = StandIn::builder().encryption(Encryption::Required).start().unwrap();
    works(options(&demanding).tls(TlsMode::Require)).await;
    works(options(&demanding).tls(TlsMode::LoginOnly)).await;
    let without = StandIn::builder().encryption(Encryption::NotSupported).start().unwrap();
    works(options(&without).tls(TlsMode::Disable)).await;
    let error = locks_of(options(&without).tls(TlsMode::Require)).mutex("m").acquire().await.unwrap_err();
    says(&error, ErrorKind::Misconfigured, &["ncrypt"]);
}

#[tokio::test]
async fn a_connection_string_of_ado() {
    let server = server();
    works(MsSql::ado(server.ado()).unwrap()).await;
}
