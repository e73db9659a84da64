//! Fencing tokens: the sequence, and who may make it.

use pilotman_core::ErrorKind;

use crate::common::{locks, locks_of, options};
use crate::fake::Database;

#[tokio::test]
async fn the_sequence_is_made_once_and_tokens_increase() {
    let database = Database::start();
    let (one, other) = (locks(&database), locks(&database));
    let mut tokens = Vec::new();
    for nth in 0..10 {
        let mutex = if nth % 2 == 0 { &one } else { &other }.mutex("m");
        let guard = mutex.fenced().unwrap().acquire().await.unwrap();
        tokens.push(guard.token());
        guard.release().await.unwrap();
    }
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    let made = database.log().iter().filter(|run| run.text.contains("CREATE SEQUENCE")).count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_sequence_that_is_made_anew_goes_on_above() {
    let database = Database::start();
    let locks = locks(&database);
    let mut last = 0;
    for _ in 0..3 {
        for _ in 0..5 {
            let guard = locks.mutex("m").fenced().unwrap().acquire().await.unwrap();
            assert!(guard.token() > last, "{} after {last}", guard.token());
            last = guard.token();
            guard.release().await.unwrap();
        }
        database.drop_sequences();
    }
    // As a time, it is one of these years: far from what a number of the database can't be.
    assert!((1_600_000_000_000_000..9_000_000_000_000_000).contains(&last), "{last}");
}

#[tokio::test]
async fn nobody_makes_a_sequence_who_needs_none() {
    let database = Database::start();
    locks(&database).mutex("m").acquire().await.unwrap().release().await.unwrap();
    assert!(!database.log().iter().any(|run| run.text.contains("SEQUENCE") || run.text.contains("NEXTVAL")));
}

#[tokio::test]
async fn who_may_not_make_it_is_told_what_to_have_made_and_holds_nothing() {
    let database = Database::start();
    database.rights(|rights| rights.create_sequence = false);
    let locks = locks_of(&database, options().token_sequence("LOCKS.TOKEN").unwrap());
    let error = locks.mutex("m").fenced().unwrap().acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("CREATE SEQUENCE \"LOCKS\".\"TOKEN\""), "{error}");
    database.until("nothing is held", |database| database.locks.seen().is_empty());
    // Without a token it is to be had.
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
}
