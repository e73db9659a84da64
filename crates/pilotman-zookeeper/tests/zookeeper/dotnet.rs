//! The tests of the .NET library's `ZooKeeperSynchronizationCoreTestCases` and of its ZooKeeper package, by their names.

use pilotman_core::{ErrorKind, NameRule, Primitive};
use pilotman_zookeeper::zookeeper_client::{Acls, Client, CreateMode, Error};
use pilotman_zookeeper::{AccessControl, ZooKeeper, ZooKeeperBackend};

use crate::common::{
    LONG, children, client, eventually, granted, locks, locks_of, make, ms, options, queued, shared, unique, waiter,
};

#[tokio::test(flavor = "multi_thread")]
async fn test_does_not_attempt_to_create_or_delete_existing_node() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("existing"));
    let path = format!("/{name}");
    let locks = locks_of(options(port).assume_path_exists(true));
    let error = locks.mutex(&name).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("is not there"), "{error}");
    assert!(client.check_stat(&path).await.unwrap().is_none(), "it was not made");
    make(&client, &path).await;
    for guard in [
        locks.mutex(&name).acquire().await.unwrap(),
        locks.rw_lock(&name).write().await.unwrap(),
        locks.semaphore(&name, 2).acquire().await.unwrap(),
    ] {
        guard.release().await.unwrap();
    }
    locks.close().await;
    tokio::time::sleep(ms(300)).await;
    assert!(client.check_stat(&path).await.unwrap().is_some(), "it was not removed");
    client.delete(&path, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_made_for_a_lock_goes_when_it_is_empty() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("made"));
    let path = format!("/{name}");
    let locks = locks(port);
    locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    eventually("the node goes", || async { client.check_stat(&path).await.unwrap().is_none() }).await;
    locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    locks.close().await;
    assert!(client.check_stat(&path).await.unwrap().is_none(), "at the end it goes at once");
}

#[test]
fn test_get_safe_name() {
    let backend =
        |directory: &str| ZooKeeperBackend::new(ZooKeeper::host("h").unwrap().directory(directory).unwrap()).unwrap();
    let locks = pilotman_core::Locks::new(backend("/"));
    // NUL is in no name of any backend here.
    assert_eq!(locks.physical_name("abc\0", Primitive::Mutex).unwrap_err().kind(), ErrorKind::InvalidName);
    for name in ["/", ".", "..", "zookeeper"] {
        let path = locks.physical_name(name, Primitive::Mutex).unwrap();
        assert_ne!(path, format!("/{name}"), "{name:?}");
        assert_eq!(path.matches('/').count(), 1, "{path}");
    }
    // The primitives are all called after their path.
    for primitive in [Primitive::Mutex, Primitive::Read, Primitive::Write] {
        assert_eq!(locks.physical_name("abc", primitive).unwrap(), "/abc");
    }
    let locks = pilotman_core::Locks::new(backend("/foo/bar"));
    assert_eq!(locks.physical_name("abc", Primitive::Mutex).unwrap(), "/foo/bar/abc");
    assert_eq!(locks.physical_name("zookeeper", Primitive::Mutex).unwrap(), "/foo/bar/zookeeper");
}

#[tokio::test(flavor = "multi_thread")]
async fn test_get_safe_name_with_control_characters() {
    let (_server, port) = shared();
    let (locks, base) = (locks(port), unique("odd"));
    for odd in ["\u{1}\u{1f}", "\u{7f}\u{9f}", "\u{e000}\u{f8ff}", "\u{fff0}\u{ffff}", "🚂", "a/b"] {
        let name = format!("{base}{odd}");
        locks.mutex(&name).acquire().await.unwrap_or_else(|error| panic!("{odd:?}: {error}")).release().await.unwrap();
    }
    locks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_names_are_refused_where_there_is_no_such_node() {
    let locks = locks_of(options(1).names(NameRule::Exact));
    let error = locks.mutex("a/b").acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn test_custom_acl_and_auth() {
    let (_server, port) = shared();
    let (name, stranger) = (unique("acl"), locks(port));
    let ours = options(port).digest("me", "hunter2").acl([AccessControl::creator()]).unwrap();
    assert!(!format!("{ours:?}").contains("hunter2"));
    let ours = locks_of(ours);
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let error = stranger.mutex(&name).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("does not allow") && !error.to_string().contains("hunter2"), "{error}");
    // Another one who has the password gets it in turn.
    let other = locks_of(options(port).digest("me", "hunter2").acl([AccessControl::creator()]).unwrap());
    assert!(other.mutex(&name).try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    other.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    ours.close().await;
    other.close().await;
    // Whoever was kept out is let in once the node is gone.
    let gets_it = || async { matches!(stranger.mutex(&name).try_acquire().await, Ok(Some(_))) };
    eventually("the stranger gets it", gets_it).await;
    stranger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_invalid_acl_does_not_corrupt_store() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("bad-acl"));
    for entry in ["auth::cdrwa", "nobody-knows-this:x:cdrwa", "ip:not-an-address:cdrwa"] {
        let zookeeper = options(port).directory(format!("/{name}/deep")).unwrap();
        let locks = locks_of(zookeeper.acl([AccessControl::parse(entry).unwrap()]).unwrap());
        let error = locks.mutex("m").acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("access control list"), "{error}");
        assert!(client.check_stat(&format!("/{name}")).await.unwrap().is_none(), "nothing is left");
    }
    // Parents that could be made, though the node below them could not, are taken back.
    make(&client, &format!("/{name}")).await;
    let locks = locks_of(options(port).directory(format!("/{name}")).unwrap());
    locks.mutex("m").acquire().await.unwrap().release().await.unwrap();
    locks.close().await;
    client.delete(&format!("/{name}"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn test_deep_directory_creation() {
    let (_server, port) = shared();
    let name = unique("deep");
    let locks = locks_of(options(port).directory(format!("/{name}/a/b/c")).unwrap());
    let guard = locks.mutex("m").acquire().await.unwrap();
    assert!(locks.mutex("m").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    locks.close().await;
    let client = client(port).await;
    assert_eq!(children(&client, &format!("/{name}/a/b/c")).await, Vec::<String>::new(), "the lock's node is gone");
    for path in [format!("/{name}/a/b/c"), format!("/{name}/a/b"), format!("/{name}/a"), format!("/{name}")] {
        client.delete(&path, None).await.expect("the nodes above it stay, as with the .NET library");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_throws_if_path_deleted_while_waiting() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("deleted"));
    let path = format!("/{name}");
    let (holder, second, third) = (locks(port), locks(port), locks(port));
    let guard = holder.mutex(&name).acquire().await.unwrap();
    let doomed = waiter(&second.mutex(&name));
    queued(&client, &path, 2).await;
    let next = waiter(&third.mutex(&name));
    queued(&client, &path, 3).await;
    let nodes = children(&client, &path).await;
    client.delete(&format!("{path}/{}", nodes[1]), None).await.unwrap();
    queued(&client, &path, 2).await;
    assert!(!next.is_finished(), "the holder still has it");
    guard.release().await.unwrap();
    let error = tokio::time::timeout(LONG, doomed).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("was removed by somebody else"), "{error}");
    let (guard, _) = granted(next).await;
    guard.ensure_held().unwrap();
    guard.release().await.unwrap();
    for locks in [holder, second, third] {
        locks.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_connection_pool_shares_and_closes() {
    let (_server, port) = shared();
    let name = unique("pool");
    let backend = std::sync::Arc::new(ZooKeeperBackend::new(options(port).idle_timeout(ms(500))).unwrap());
    let locks = pilotman_core::Locks::builder_shared(backend.clone()).build();
    assert!(!backend.has_session(), "nothing is opened before it is needed");
    let first = locks.mutex(format!("{name}-1")).acquire().await.unwrap();
    let second = locks.mutex(format!("{name}-2")).acquire().await.unwrap();
    let client = client(port).await;
    let mut owners = Vec::new();
    for which in ["1", "2"] {
        let path = format!("/{name}-{which}");
        let node = children(&client, &path).await.remove(0);
        owners.push(client.check_stat(&format!("{path}/{node}")).await.unwrap().unwrap().ephemeral_owner);
    }
    assert_eq!(owners[0], owners[1], "one session for both");
    first.release().await.unwrap();
    tokio::time::sleep(ms(1500)).await;
    assert!(backend.has_session() && second.ensure_held().is_ok(), "a session with a hold is kept");
    second.release().await.unwrap();
    eventually("an idle session is closed", || async { !backend.has_session() }).await;
    locks.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    locks.close().await;
    assert!(!backend.has_session());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_as_the_dotnet_library_is_one_excludes_ours_and_is_excluded() {
    let (_server, port) = shared();
    let (client, name): (Client, _) = (client(port).await, unique("dotnet"));
    let path = format!("/{name}");
    let ours = locks(port);
    make(&client, &path).await;
    let node = |prefix: &'static str, data: &'static [u8]| {
        let (client, path) = (client.clone(), path.clone());
        async move {
            let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
            let prefix = format!("{path}/{prefix}");
            let (_, number) = client.create(&prefix, data, &options).await.unwrap();
            format!("{prefix}{number}")
        }
    };
    // It holds, we don't; then we do, and it stands behind us.
    let theirs = node("lock-", b"").await;
    assert!(ours.mutex(&name).try_acquire().await.unwrap().is_none());
    let waiting = waiter(&ours.mutex(&name));
    queued(&client, &path, 2).await;
    client.delete(&theirs, None).await.unwrap();
    let (guard, _) = granted(waiting).await;
    let theirs = node("lock-", b"").await;
    let nodes = children(&client, &path).await;
    assert!(nodes[0].as_str() < &theirs[path.len() + 1..] && nodes.len() == 2, "{nodes:?}");
    guard.release().await.unwrap();
    assert_eq!(children(&client, &path).await, [theirs[path.len() + 1..].to_owned()], "it is the first now");
    // Other kinds don't disturb each other.
    let read = ours.rw_lock(&name).read().await.unwrap();
    let permit = ours.semaphore(&name, 1).acquire().await.unwrap();
    client.delete(&theirs, None).await.unwrap();
    let writer = node("write-", b"").await;
    assert!(ours.rw_lock(&name).try_read().await.unwrap().is_none(), "a waiting writer keeps readers out");
    client.delete(&writer, None).await.unwrap();
    // What it waits for before it takes a permit: the mark of the one before it.
    let nodes = children(&client, &path).await;
    let ours_node = nodes.iter().find(|name| name.starts_with("semaphore-")).unwrap();
    assert_eq!(client.get_data(&format!("{path}/{ours_node}")).await.unwrap().0, b"ACQUIRED");
    let theirs = node("semaphore-", b"").await;
    assert!(ours.semaphore(&name, 1).try_acquire().await.unwrap().is_none());
    assert!(ours.semaphore(&name, 2).try_acquire().await.unwrap().is_none());
    permit.release().await.unwrap();
    assert!(ours.semaphore(&name, 1).try_acquire().await.unwrap().is_none(), "it is the first now");
    // A waiter behind one that has no permit yet hears of it when it has.
    let second = node("semaphore-", b"").await;
    let waiting = waiter(&ours.semaphore(&name, 2));
    queued(&client, &path, 4).await;
    client.set_data(&second, b"ACQUIRED", None).await.unwrap();
    client.delete(&theirs, None).await.unwrap();
    let (permit, _) = granted(waiting).await;
    permit.release().await.unwrap();
    read.release().await.unwrap();
    match client.delete(&second, None).await {
        Ok(()) | Err(Error::NoNode) => {}
        Err(error) => panic!("{error}"),
    }
    ours.close().await;
}
