//! What names mean to the two servers.

use pilotman_core::{ErrorKind, NameRule, Primitive};

use crate::common::{Person, locks, locks_of, mariadb, mysql, options, unique};

#[tokio::test]
async fn names_that_differ_only_in_case_are_different() {
    for (_server, port) in [mariadb(), mysql()] {
        for rule in [NameRule::DotNet, NameRule::Strict] {
            let locks = locks_of(options(port).names(rule));
            let name = unique("case");
            let lower = locks.mutex(&name).try_acquire().await.unwrap().expect("it is free");
            let upper = locks.mutex(name.to_uppercase()).try_acquire().await.unwrap().expect("another name");
            drop((lower, upper));
        }
    }
}

#[tokio::test]
async fn exact_names_have_no_upper_case_which_mysql_does_not_see() {
    let (_server, port) = mysql();
    let exact = locks_of(options(port).names(NameRule::Exact));
    let error = exact.mutex("Upper").try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    // What it is for: the server itself takes these as one.
    let name = unique("exact");
    let guard = exact.mutex(&name).try_acquire().await.unwrap().expect("it is free");
    let mut person = Person::user(port).await;
    assert_eq!(person.value(&format!("SELECT GET_LOCK('{}',0)", name.to_uppercase())).await.as_deref(), Some("0"));
    guard.release().await.unwrap();
}

#[tokio::test]
async fn names_that_mysql_takes_as_one_exclude_each_other_even_in_one_session() {
    let (_server, port) = mysql();
    let (locks, name) = (locks(port), unique("dot"));
    let dotted = locks.mutex(format!("{name}İ")).try_acquire().await.unwrap().expect("it is free");
    // The .NET library leaves both as they are, and MySQL gives them the same lock: never twice.
    assert!(locks.mutex(format!("{name}i")).try_acquire().await.unwrap().is_none());
    dotted.release().await.unwrap();
    locks.mutex(format!("{name}i")).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
}

#[tokio::test]
async fn mysql_takes_signs_that_its_names_can_not_have() {
    let (_server, port) = mysql();
    let (locks, name) = (locks(port), unique("wide"));
    let train = locks.mutex(format!("{name}🚂")).try_acquire().await.unwrap().expect("it is free");
    let owl = locks.mutex(format!("{name}🦉")).try_acquire().await.unwrap().expect("another name");
    drop((train, owl));
    // With exact names the server has the last word.
    let error = locks_of(options(port).names(NameRule::Exact)).mutex("🚂").try_acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
}

#[tokio::test]
async fn the_longest_names_fit() {
    for (_server, port) in [mariadb(), mysql()] {
        let (locks, base) = (locks(port), unique(""));
        for sign in ["a", "ü", "中"] {
            let name = format!("{base}{}", sign.repeat(64 - base.len()));
            assert_eq!(locks.physical_name(&name, Primitive::Mutex).unwrap(), name);
            locks.mutex(&name).try_acquire().await.unwrap().expect("it is free").release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn others_see_the_names_that_the_page_says() {
    let (_server, port) = mariadb();
    let (locks, name) = (locks_of(options(port).prefix("shop.")), unique("p"));
    let guard = locks.mutex(&name).try_acquire().await.unwrap().expect("it is free");
    assert!(Person::user(port).await.holder(&format!("shop.{name}")).await.is_some());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn looking_tells_waiters_and_what_else_a_session_has() {
    use pilotman_testkit::servers::mysql::{ADMIN, ADMIN_PASSWORD};
    let (_server, port) = mariadb();
    let (admin, app, name) =
        (locks_of(options(port).user(ADMIN).password(ADMIN_PASSWORD)), locks(port), unique("look"));
    let first = app.mutex(&name).try_acquire().await.unwrap().expect("it is free");
    let second = app.mutex(format!("{name}-2")).try_acquire().await.unwrap().expect("it is free");
    let found = admin.inspect(&name, Primitive::Mutex).await.unwrap();
    assert_eq!((found.holders.len(), found.waiters), (1, Some(0)), "{found:?}");
    assert!(found.holders[0].owner.contains("user locker"), "{found:?}");
    // The user himself can't see who waits.
    assert_eq!(app.inspect(&name, Primitive::Mutex).await.unwrap().waiters, None);
    let broken = admin.force_release(&name, Primitive::Mutex).await.unwrap();
    assert!(broken[0].owner.contains("1 other locks"), "{broken:?}");
    crate::common::soon("the loss is told", first.lost()).await;
    crate::common::soon("the loss is told", second.lost()).await;
}
