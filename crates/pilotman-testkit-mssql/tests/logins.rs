//! Logins, good and bad, with TLS and without, with the real driver.

mod common;

use common::{LONG, batch, config, connect_with, int, number, text};
use pilotman_testkit_mssql::{Encryption, SqlError, StandIn};
use tiberius::{AuthMethod, Config, EncryptionLevel};

fn trusting(server: &StandIn, level: EncryptionLevel) -> Config {
    let mut config = config(server);
    config.trust_cert_ca(server.ca_file().to_str().expect("a path").to_owned());
    config.encryption(level);
    config
}

#[tokio::test]
async fn a_password_is_checked() {
    let server = StandIn::builder().user("other", "p;w'ö😀\"", &[]).start().unwrap();
    let mut good = config(&server);
    good.authentication(AuthMethod::sql_server("OTHER", "p;w'ö😀\""));
    let mut driver = connect_with(good).await.unwrap();
    assert_eq!(text(&mut driver, "SELECT SUSER_SNAME()").await, "other");
    for (user, password) in [("other", "P;w'ö😀\""), ("other", ""), ("nobody", "x"), ("", "")] {
        let mut bad = config(&server);
        bad.authentication(AuthMethod::sql_server(user, password));
        assert_eq!(number(connect_with(bad).await), 18456, "{user}");
    }
    assert!(server.wait_until(LONG, |server| server.sessions().len() == 1));
}

#[tokio::test]
async fn an_access_token_is_checked() {
    let server = StandIn::builder().token("eyJ0.good.token", "app@example.org").start().unwrap();
    let mut good = trusting(&server, EncryptionLevel::Required);
    good.authentication(AuthMethod::aad_token("eyJ0.good.token"));
    let mut driver = connect_with(good).await.unwrap();
    assert_eq!(text(&mut driver, "SELECT SUSER_SNAME()").await, "app@example.org");
    let mut bad = trusting(&server, EncryptionLevel::Required);
    bad.authentication(AuthMethod::aad_token("eyJ0.other.token"));
    assert_eq!(number(connect_with(bad).await), 18456);
    // No token in what a test could print.
    assert!(!format!("{:?}", server.statements()).contains("good.token"));
}

#[tokio::test]
async fn a_database_must_be_there_and_allowed() {
    let server = StandIn::builder().database("secret").user("guest", "x", &["locks"]).start().unwrap();
    let mut unknown = config(&server);
    unknown.database("nothing");
    assert_eq!(number(connect_with(unknown).await), 4060);
    let mut denied = config(&server);
    denied.authentication(AuthMethod::sql_server("guest", "x"));
    denied.database("secret");
    assert_eq!(number(connect_with(denied).await), 4060);
    let mut allowed = config(&server);
    allowed.authentication(AuthMethod::sql_server("guest", "x"));
    let mut driver = connect_with(allowed).await.unwrap();
    assert_eq!(text(&mut driver, "SELECT DB_NAME()").await, "locks");
    // Locks of one name in two databases are two locks.
    let mut other = config(&server);
    other.database("secret");
    let mut other = connect_with(other).await.unwrap();
    assert_eq!(common::lock(&mut driver, "x", "Exclusive", 0).await, 0);
    assert_eq!(common::lock(&mut other, "x", "Exclusive", 0).await, 0);
    batch(&mut driver, "USE secret").await.unwrap();
    assert_eq!(common::lock(&mut driver, "x", "Exclusive", 0).await, -1);
    assert_eq!(number(batch(&mut driver, "USE nothing").await), 911);
}

#[tokio::test]
async fn a_server_may_refuse_every_login_or_send_it_elsewhere() {
    let server = StandIn::start().unwrap();
    let busy = SqlError::new(40613, "Database 'locks' on server 'x' is not currently available.").class(17);
    server.fail_logins(Some(busy));
    assert_eq!(number(connect_with(config(&server)).await), 40613);
    server.fail_logins(None);
    server.route(Some(("other.example".to_owned(), 1444)));
    match connect_with(config(&server)).await {
        Err(tiberius::error::Error::Routing { host, port }) => {
            assert_eq!((host.as_str(), port), ("other.example", 1444))
        }
        other => panic!("{other:?}"),
    }
    server.route(None);
    connect_with(config(&server)).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_encryption_works_with_the_driver() {
    let cases = [
        // The server's setting, the client's, whether it works, and whether everything is encrypted.
        (Encryption::NotSupported, EncryptionLevel::NotSupported, true, false),
        (Encryption::NotSupported, EncryptionLevel::Required, false, false),
        (Encryption::Off, EncryptionLevel::NotSupported, true, false),
        (Encryption::Off, EncryptionLevel::Off, true, false),
        (Encryption::Off, EncryptionLevel::On, true, true),
        (Encryption::Off, EncryptionLevel::Required, true, true),
        (Encryption::On, EncryptionLevel::Off, true, true),
        (Encryption::Required, EncryptionLevel::On, true, true),
        (Encryption::Required, EncryptionLevel::Required, true, true),
        (Encryption::Off, EncryptionLevel::Strict, true, true),
    ];
    for (setting, level, works, encrypted) in cases {
        let server = StandIn::builder().encryption(setting).start().unwrap();
        let result = tokio::time::timeout(LONG, connect_with(trusting(&server, level))).await.expect("an end");
        assert_eq!(result.is_ok(), works, "{setting:?} {level:?}: {:?}", result.err());
        if let Ok(mut driver) = result {
            assert_eq!(server.sessions()[0].encrypted, encrypted, "{setting:?} {level:?}");
            assert_eq!(int(&mut driver, "SELECT 7").await, 7);
            assert_eq!(common::lock(&mut driver, "x", "Exclusive", 0).await, 0);
            // More than one packet in both directions.
            let long = "x".repeat(20_000);
            let rows = driver.query("SELECT @P1", &[&long]).await.unwrap().into_row().await.unwrap().unwrap();
            assert_eq!(rows.get::<&str, _>(0), Some(long.as_str()));
        }
    }
}

#[tokio::test]
async fn another_authority_is_not_trusted() {
    let (server, other) = (StandIn::start().unwrap(), StandIn::start().unwrap());
    let mut config = config(&server);
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca(other.ca_file().to_str().unwrap().to_owned());
    let refused = tokio::time::timeout(LONG, connect_with(config)).await.expect("an end");
    assert!(refused.is_err());
    assert!(server.wait_until(LONG, |server| server.sessions().is_empty()));
}

#[tokio::test]
async fn the_ado_string_is_one_that_the_driver_reads() {
    let server = StandIn::start().unwrap();
    let config = Config::from_ado_string(&server.ado()).unwrap();
    let mut driver = connect_with(config).await.unwrap();
    assert_eq!(int(&mut driver, "SELECT 1").await, 1);
    assert!(server.url().starts_with("mssql://pilotman:"));
}
