//! Fencing tokens.

use pilotman_core::ErrorKind;
use pilotman_testkit::servers::mysql::{Flavour, MySql as Server};

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, unique};

#[tokio::test]
async fn tokens_increase_over_restarts() {
    let mut server = Server::start(Flavour::MariaDb, &[]).unwrap();
    let mut last = 0;
    for _ in 0..2 {
        for _ in 0..3 {
            let guard = locks(server.port()).mutex("m").fenced().unwrap().acquire().await.unwrap();
            assert!(guard.token() > last, "{} after {last}", guard.token());
            last = guard.token();
            guard.release().await.unwrap();
        }
        server.restart().unwrap();
    }
    assert_eq!(last, 6);
}

#[tokio::test]
async fn the_table_is_made_once_by_many() {
    for (_server, port) in [mariadb(), mysql()] {
        let table = unique("tokens");
        let work: Vec<_> = (0..8)
            .map(|number| {
                let locks = locks_of(options(port).token_table(&table).unwrap());
                let name = unique(&number.to_string());
                tokio::spawn(async move { locks.mutex(name).fenced().unwrap().acquire().await.unwrap().token() })
            })
            .collect();
        for token in work {
            assert_eq!(token.await.unwrap(), 1, "each name begins anew");
        }
        Person::user(port).await.value(&format!("DROP TABLE `{table}`")).await;
    }
}

#[tokio::test]
async fn without_a_table_nothing_is_held() {
    let (_server, port) = mariadb();
    let (locks, name) = (locks_of(options(port).token_table("mysql.forbidden").unwrap()), unique("m"));
    let error = locks.mutex(&name).fenced().unwrap().try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(Person::user(port).await.holder(&name).await.is_none(), "the lock was given back");
    locks.mutex(&name).try_acquire().await.unwrap().expect("without a token").release().await.unwrap();
}
