//! Why there are no reader-writer locks and no semaphores here: what would break in those that could be built.

use std::time::Duration;

use pilotman_core::{ErrorKind, Primitive};

use crate::common::{Person, locks, mariadb, unique};

#[tokio::test]
async fn what_is_refused_says_why() {
    let (_server, port) = mariadb();
    let locks = locks(port);
    let error = locks.rw_lock("r").read().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("exclusive locks only"), "{error}");
    let error = locks.semaphore("s", 2).acquire().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("one GET_LOCK name"), "{error}");
    assert_eq!(locks.physical_name("r", Primitive::Read).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Readers counted in a table, with a `GET_LOCK` around each change: who dies while he reads is counted for ever.
#[tokio::test]
async fn readers_in_a_table_outlive_their_process() {
    let (_server, port) = mariadb();
    let table = unique("readers").replace('-', "_");
    let mut other = Person::user(port).await;
    other.value(&format!("CREATE TABLE {table} (readers INT NOT NULL)")).await;
    other.value(&format!("INSERT INTO {table} VALUES (0)")).await;
    let mut reader = Person::user(port).await;
    let id = reader.number("SELECT CONNECTION_ID()").await;
    reader.value(&format!("SELECT GET_LOCK('{table}',10)")).await;
    reader.value(&format!("UPDATE {table} SET readers=readers+1")).await;
    reader.value(&format!("SELECT RELEASE_LOCK('{table}')")).await;
    other.value(&format!("KILL CONNECTION {id}")).await;
    // Its session is over for good, and with it all that it held by GET_LOCK.
    let gone = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID={id}");
    while other.number(&gone).await > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.number(&format!("SELECT readers FROM {table}")).await, 1, "a writer would wait for ever");
    other.value(&format!("DROP TABLE {table}")).await;
}

/// Permits that are names of their own: a session waits for one of them, and sleeps while another becomes free.
#[tokio::test]
async fn who_waits_for_a_permit_sleeps_while_another_is_free() {
    let (_server, port) = mariadb();
    let base = unique("permit");
    let (mut first, mut second) = (Person::user(port).await, Person::user(port).await);
    first.value(&format!("SELECT GET_LOCK('{base}-0',0)")).await;
    second.value(&format!("SELECT GET_LOCK('{base}-1',0)")).await;
    let mut waiter = Person::user(port).await;
    let sql = format!("SELECT GET_LOCK('{base}-0',2)");
    let waiting = tokio::spawn(async move { waiter.value(&sql).await });
    let mut admin = Person::admin(port).await;
    while admin.rows_of(&format!("{base}-0"), "PENDING").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    second.value(&format!("SELECT RELEASE_LOCK('{base}-1')")).await;
    assert_eq!(waiting.await.unwrap().as_deref(), Some("0"), "a permit was free all the time");
    assert_eq!(admin.value(&format!("SELECT IS_FREE_LOCK('{base}-1')")).await.as_deref(), Some("1"));
}

/// A writer that takes the names of all readers one by one, and readers that each take one: two writers that begin at different
/// ends meet in the middle, and the server ends one of them with an error instead of a wait.
#[tokio::test]
async fn writers_that_take_many_names_deadlock() {
    let (_server, port) = mariadb();
    let base = unique("writer");
    let (mut one, mut two) = (Person::user(port).await, Person::user(port).await);
    one.value(&format!("SELECT GET_LOCK('{base}-0',0)")).await;
    two.value(&format!("SELECT GET_LOCK('{base}-1',0)")).await;
    let take = |mut person: Person, name: String| {
        tokio::spawn(async move {
            use pilotman_mysql::mysql_async::prelude::Queryable;
            let got = person.0.query_first::<Option<u8>, _>(format!("SELECT GET_LOCK('{name}',10)")).await;
            (got, person)
        })
    };
    let (one, two) = (take(one, format!("{base}-1")), take(two, format!("{base}-0")));
    // One that has been refused still keeps what it had.
    let codes: Vec<_> = tokio::select! {
        done = one => vec![done.unwrap().0],
        done = two => vec![done.unwrap().0],
    };
    let deadlock = |code| code == 1213 || code == 3058;
    assert!(
        codes.iter().any(|got| matches!(got,
        Err(pilotman_mysql::mysql_async::Error::Server(error)) if deadlock(error.code))),
        "{codes:?}"
    );
}
