//! Fencing tokens: the counter, and who must leave it alone.

use pilotman_azure::azure_storage_blob::models::{
    BlobClientGetPropertiesResultHeaders, BlobClientSetMetadataOptions, LeaseState,
};
use pilotman_core::ErrorKind;

use crate::common::{azurite, keyed, lease_state, locks_of, new_container};

#[tokio::test]
async fn a_blob_with_a_counter_is_kept() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "kept").await;
    let (one, other) = (locks_of(keyed(&endpoint, &name)), locks_of(keyed(&endpoint, &name)));
    let blob = container.blob_client("a");
    let mut last = 0;
    for locks in [&one, &other, &one] {
        let guard = locks.mutex("a").fenced().unwrap().acquire().await.unwrap();
        assert!(guard.token() > last, "{} comes after {last}", guard.token());
        last = guard.token();
        guard.release().await.unwrap();
        assert_eq!(lease_state(&blob).await, Some(LeaseState::Available));
        // Who wants no token leaves it alone.
        other.mutex("a").acquire().await.unwrap().release().await.unwrap();
    }
    assert_eq!(last, 3);
    let inspection = one.inspect("a", pilotman_core::Primitive::Mutex).await.unwrap();
    assert_eq!(inspection.token, Some(3));
}

#[tokio::test]
async fn a_marked_blob_with_a_counter_loses_its_mark() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "mark").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let blob = container.blob_client("a");
    let metadata = [("__DistributedLock".to_owned(), "x".to_owned()), ("theirs".to_owned(), "stays".to_owned())].into();
    let marked = pilotman_azure::azure_storage_blob::models::BlobClientUploadOptions {
        metadata: Some(metadata),
        ..Default::default()
    };
    let empty = pilotman_azure::azure_core::http::RequestContent::from(Vec::new());
    blob.upload(empty, Some(marked)).await.unwrap();
    let guard = locks.mutex("a").fenced().unwrap().acquire().await.unwrap();
    let found = blob.get_properties(None).await.unwrap().metadata().unwrap();
    assert!(!found.keys().any(|key| key.eq_ignore_ascii_case("__DistributedLock")), "{found:?}");
    assert_eq!(found.get("theirs").map(String::as_str), Some("stays"));
    guard.release().await.unwrap();
    assert!(blob.exists().await.unwrap());
}

#[tokio::test]
async fn a_holder_may_write_metadata_between_tokens() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "between").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let blob = container.blob_client("a");
    let mutex = locks.mutex("a").fenced().unwrap();
    let guard = mutex.acquire().await.unwrap();
    let (first, id) = (guard.token(), guard.lease_id());
    // In the queue of this process before the hold is released.
    let mut waiter = Box::pin(mutex.acquire());
    assert!(futures_util::poll!(waiter.as_mut()).is_pending());
    let mut metadata = blob.get_properties(None).await.unwrap().metadata().unwrap();
    metadata.insert("mine".to_owned(), "1".to_owned());
    let options = BlobClientSetMetadataOptions { lease_id: id.clone(), ..Default::default() };
    blob.set_metadata(&metadata, Some(options)).await.unwrap();
    guard.release().await.unwrap();
    let next = crate::common::soon("it is handed on", waiter).await.unwrap();
    assert!(id.is_some() && next.lease_id() == id, "handed on within this process, under the same lease");
    assert_eq!(next.token(), first + 1);
    let found = blob.get_properties(None).await.unwrap().metadata().unwrap();
    assert_eq!(found.get("mine").map(String::as_str), Some("1"), "what the holder wrote stays");
    assert_eq!(found.get("pilotman_token").cloned(), Some(next.token().to_string()));
    next.release().await.unwrap();
}

#[tokio::test]
async fn a_counter_that_is_none_is_an_error() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "broken").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let blob = container.blob_client("a");
    let empty = pilotman_azure::azure_core::http::RequestContent::from(Vec::new());
    blob.upload(empty, None).await.unwrap();
    blob.set_metadata(&[("pilotman_token".to_owned(), "many".to_owned())].into(), None).await.unwrap();
    let error = locks.mutex("a").fenced().unwrap().acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("pilotman_token"), "{error}");
    locks.close().await;
    assert_eq!(lease_state(&blob).await, Some(LeaseState::Available), "nothing is left");
}
