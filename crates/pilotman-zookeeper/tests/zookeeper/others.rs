//! Curator's layout: another implementation of its recipe excludes ours and is excluded.

use pilotman_core::ErrorKind;
use pilotman_zookeeper::Layout;
use pilotman_zookeeper::zookeeper_client::{Acls, LockOptions, LockPrefix};

use crate::common::{children, client, granted, locks_of, options, queued, shared, unique, waiter};

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_the_form_of_curator_excludes_ours_and_is_excluded() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("curator"));
    let path = format!("/{name}");
    let ours = locks_of(options(port).layout(Layout::Curator));
    let theirs = || {
        let (client, path) = (client.clone(), path.clone());
        async move {
            let prefix = LockPrefix::new_curator(&path, "lock-").unwrap();
            let lock = client.lock(prefix, b"", LockOptions::new(Acls::anyone_all())).await.unwrap();
            lock.into_owned()
        }
    };
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let node = children(&client, &path).await.remove(0);
    assert!(node.starts_with("_c_") && node.contains("-lock-"), "{node}");
    let waiting = tokio::spawn(theirs());
    queued(&client, &path, 2).await;
    assert!(!waiting.is_finished());
    // From another session: within one, ours would hand the lock on among themselves.
    let second = locks_of(options(port).layout(Layout::Curator));
    let next = waiter(&second.mutex(&name));
    queued(&client, &path, 3).await;
    guard.release().await.unwrap();
    let lock = tokio::time::timeout(crate::common::LONG, waiting).await.unwrap().unwrap();
    // Our second wait stands behind it.
    queued(&client, &path, 2).await;
    assert!(!next.is_finished());
    client.delete(lock.lock_path(), None).await.unwrap();
    let (guard, _) = granted(next).await;
    guard.release().await.unwrap();
    ours.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curators_layout_has_no_semaphores_and_says_so() {
    let locks = locks_of(options(1).layout(Layout::Curator));
    let error = locks.semaphore("s", 2).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("layout=dotnet"), "{error}");
}
