//! The server did it, and we don't hear of it.

use pilotman_core::Release;
use pilotman_testkit::proxy::Proxy;
use pilotman_zookeeper::Layout;

use crate::common::{LONG, children, client, granted, locks_of, ms, options, queued, shared, unique, waiter};

/// As much as a request to delete has before its path: the bytes of the operation's number.
const DELETE: [u8; 4] = [0, 0, 0, 2];

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_creation_was_not_answered_is_found_again() {
    let (_server, port) = shared();
    let client = client(port).await;
    for (layout, mark) in [(Layout::DotNet, "lock-"), (Layout::Curator, "-lock-")] {
        let name = unique("reply");
        let path = format!("/{name}");
        crate::common::make(&client, &path).await;
        let proxy = Proxy::before(port).unwrap();
        let ours = locks_of(options(proxy.port()).layout(layout).session_timeout(ms(20_000)));
        ours.check().await.unwrap();
        // Somebody else's node is not taken for ours.
        let other = locks_of(options(port).layout(layout));
        let held = other.mutex(&name).acquire().await.unwrap();
        proxy.lose_reply(mark, 0);
        let waiting = waiter(&ours.mutex(&name));
        assert!(proxy.wait_lost_replies(1, LONG), "the reply was lost");
        queued(&client, &path, 2).await;
        held.release().await.unwrap();
        let (guard, _) = granted(waiting).await;
        assert_eq!(children(&client, &path).await.len(), 1, "there is one node, not two");
        assert!(other.mutex(&name).try_acquire().await.unwrap().is_none());
        assert!(guard.token().is_some());
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        queued(&client, &path, 0).await;
        ours.close().await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_acquire_whose_creation_was_not_answered_leaves_nothing() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("cancel"));
    let path = format!("/{name}");
    crate::common::make(&client, &path).await;
    let proxy = Proxy::before(port).unwrap();
    let ours = locks_of(options(proxy.port()).session_timeout(ms(20_000)));
    ours.check().await.unwrap();
    proxy.lose_reply("lock-", 0);
    let waiting = waiter(&ours.mutex(&name));
    assert!(proxy.wait_lost_replies(1, LONG), "the reply was lost");
    waiting.abort();
    queued(&client, &path, 0).await;
    ours.mutex(&name).acquire().await.unwrap().release().await.unwrap();
    ours.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_not_answered_is_one() {
    let (_server, port) = shared();
    let (client, name) = (client(port).await, unique("release"));
    let path = format!("/{name}");
    let proxy = Proxy::before(port).unwrap();
    let ours = locks_of(options(proxy.port()).session_timeout(ms(20_000)));
    let guard = ours.mutex(&name).acquire().await.unwrap();
    let node = format!("{path}/{}", children(&client, &path).await[0]);
    // The operation, and then the path with its length.
    let mut needle = DELETE.to_vec();
    needle.extend(u32::try_from(node.len()).unwrap().to_be_bytes());
    needle.extend(node.as_bytes());
    proxy.lose_reply(needle, 0);
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert!(proxy.wait_lost_replies(1, LONG), "the reply was lost");
    assert_eq!(children(&client, &path).await.len(), 0);
    ours.close().await;
}
