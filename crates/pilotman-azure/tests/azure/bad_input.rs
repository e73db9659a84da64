//! What is wrong gets a clear error, no secret in it, and leaves nothing.

use std::time::{Duration, Instant};

use pilotman_azure::AzureBlob;
use pilotman_azure::azure_core::http::RequestContent;
use pilotman_core::ErrorKind;

use crate::common::{azurite, keyed, lease_state, locks_of, new_container, signed, soon};
use crate::front::{Front, refusal};

#[tokio::test]
async fn a_wrong_account_key() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "key").await;
    let key = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==";
    let locks = locks_of(AzureBlob::endpoint(&endpoint, &name).unwrap().account_key(key).unwrap());
    for error in [
        locks.mutex("a").acquire().await.unwrap_err(),
        locks.check().await.unwrap_err(),
        locks.list().await.unwrap_err(),
        locks.diagnose().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("403") && text.contains("clock") && error.has_no_effect(), "{text}");
        assert!(!text.contains(key) && !text.contains("SharedKey"), "{text}");
    }
}

#[tokio::test]
async fn a_sas_without_the_rights() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "rights").await;
    for rights in ["r", "l", "rl"] {
        let error = locks_of(signed(&endpoint, &name, rights)).mutex("a").acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{rights}: {error}");
        assert!(error.to_string().contains("right"), "{error}");
    }
    // Without the right to delete locks work, and blobs stay. That is found out once, not with each release.
    let locks = locks_of(signed(&endpoint, &name, "rw"));
    for _ in 0..2 {
        locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
    }
    use pilotman_azure::azure_storage_blob::models::LeaseState;
    assert_eq!(lease_state(&container.blob_client("a")).await, Some(LeaseState::Available));
}

#[tokio::test]
async fn a_blob_that_somebody_else_has_leased() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "theirs").await;
    let blob = container.blob_client("a");
    blob.upload(RequestContent::from(b"data".to_vec()), None).await.unwrap();
    blob.acquire_lease(-1, None).await.unwrap();
    let locks = locks_of(keyed(&endpoint, &name));
    assert!(locks.mutex("a").try_acquire().await.unwrap().is_none());
    let start = Instant::now();
    let error = locks.mutex("a").acquire_timeout(Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(700) && start.elapsed() < Duration::from_secs(5));
    locks.close().await;
    use pilotman_azure::azure_storage_blob::models::LeaseState;
    assert_eq!(lease_state(&blob).await, Some(LeaseState::Leased), "it is left alone");
}

#[tokio::test]
async fn a_service_that_is_not_there() {
    // Nobody listens on port 1.
    let locks = locks_of(keyed("http://127.0.0.1:1/locker", "locks"));
    let start = Instant::now();
    let error = locks.mutex("a").acquire().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_retryable() && error.has_no_effect(), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn strange_answers_do_no_harm() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "strange").await;
    let port = crate::faults::port_of(&endpoint);
    let front = Front::before(port).await;
    let behind = endpoint.replace(&format!(":{port}/"), &format!(":{}/", front.port));
    let answers: [Vec<u8>; 11] = [
        b"\0\xff\xfe".to_vec(),
        b"HTTP/1.1 201 Created\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 201 Created\r\netag: \xff\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>".to_vec(),
        b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n".to_vec(),
        refusal("400 Bad Request", "InvalidHeaderValue"),
        refusal("412 Precondition Failed", "ConditionNotMet"),
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        front.say(answer);
        let locks = locks_of(keyed(&behind, &name));
        // Whatever comes of it, nothing panics, hangs or holds anything.
        let ended = soon("it ends", locks.mutex("a").acquire_timeout(Duration::from_secs(1))).await;
        let kind = ended.as_ref().err().map(pilotman_core::Error::kind);
        assert_ne!(kind, Some(ErrorKind::Internal), "{shown:?}: {ended:?}");
        for looked in [
            soon("it ends", locks.inspect("a", pilotman_core::Primitive::Mutex)).await.map(drop),
            soon("it ends", locks.list()).await.map(drop),
            soon("it ends", locks.diagnose()).await.map(drop),
        ] {
            assert_ne!(looked.as_ref().err().map(pilotman_core::Error::kind), Some(ErrorKind::Internal), "{shown:?}");
        }
        drop(ended);
        front.pass();
        soon("a close ends", locks.close()).await;
    }
    let locks = locks_of(keyed(&behind, &name));
    soon("it works again", locks.mutex("a").acquire()).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn other_kinds_of_locks_are_refused_with_a_reason() {
    let (_server, endpoint) = azurite();
    let locks = locks_of(keyed(&endpoint, "locks"));
    let error = locks.rw_lock("a").read().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("one lease"), "{error}");
    let error = locks.semaphore("a", 2).acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_service_that_is_silent_is_not_looked_at_for_ever() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "silent").await;
    let port = crate::faults::port_of(&endpoint);
    let front = Front::before(port).await;
    front.say(Vec::new());
    let locks = locks_of(keyed(&endpoint.replace(&format!(":{port}/"), &format!(":{}/", front.port)), &name));
    let start = Instant::now();
    let looks = tokio::join!(locks.check(), locks.inspect("a", pilotman_core::Primitive::Mutex), locks.diagnose());
    for error in [looks.0.unwrap_err(), looks.1.unwrap_err(), looks.2.unwrap_err()] {
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("no answer"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(80), "{:?}", start.elapsed());
}
