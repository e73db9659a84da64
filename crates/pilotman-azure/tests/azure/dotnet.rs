//! The tests that the .NET library has for Azure, under names that say so.

use std::time::{Duration, Instant};

use pilotman_azure::azure_core::Bytes;
use pilotman_azure::azure_core::http::RequestContent;
use pilotman_azure::azure_storage_blob::models::{
    AppendBlobClientCreateOptions, BlobClientAcquireLeaseOptions, BlobClientDeleteOptions,
    BlobClientSetMetadataOptions, LeaseState,
};
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::{ErrorKind, HoldState, LossReason, Primitive, Release};

use crate::common::{azurite, keyed, lease_state, locks_of, new_container, options, sdk, soon, unique};

fn content(text: &'static str) -> RequestContent<Bytes, pilotman_azure::azure_core::http::NoFormat> {
    RequestContent::from(text.as_bytes().to_vec())
}

#[tokio::test]
async fn safe_naming() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "naming").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let (deep, long) = ("a/".repeat(253) + "b", "x".repeat(900));
    for name in ["plain", "with space", "a/b", "ü🚂", "%2F", "a.", "a/", "\t", "..", deep.as_str(), long.as_str()] {
        let blob = locks.physical_name(name, Primitive::Mutex).unwrap();
        let guard = locks.mutex(name).acquire().await.unwrap_or_else(|error| panic!("{name:?}: {error}"));
        assert_eq!(lease_state(&container.blob_client(&blob)).await, Some(LeaseState::Leased), "{name:?} is {blob:?}");
        guard.release().await.unwrap();
        assert_eq!(lease_state(&container.blob_client(&blob)).await, None, "{name:?} is {blob:?}");
    }
}

#[tokio::test]
async fn lock_on_different_blob_client_types() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "types").await;
    container.blob_client("block").upload(content("x"), None).await.unwrap();
    container
        .blob_client("append")
        .append_blob_client()
        .create(None::<AppendBlobClientCreateOptions<'_>>)
        .await
        .unwrap();
    container.blob_client("page").page_blob_client().create(512, None).await.unwrap();
    for blob in ["block", "append", "page", "none-yet"] {
        let client = sdk(&endpoint, &name).blob_client(blob);
        let locks = locks_of(AzureBlob::blob_client(client));
        let guard = locks.mutex(blob).acquire().await.unwrap();
        assert_eq!(lease_state(&container.blob_client(blob)).await, Some(LeaseState::Leased));
        assert!(locks.mutex(blob).try_acquire().await.unwrap().is_none());
        guard.release().await.unwrap();
        let left = (blob != "none-yet").then_some(LeaseState::Available);
        assert_eq!(lease_state(&container.blob_client(blob)).await, left, "what was there before stays");
    }
}

#[tokio::test]
async fn wrapper_create_if_not_exists() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "create").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let guard = locks.mutex("new").acquire().await.unwrap();
    let found = container.blob_client("new").get_properties(None).await.unwrap();
    use pilotman_azure::azure_storage_blob::models::BlobClientGetPropertiesResultHeaders;
    let metadata = found.metadata().unwrap();
    assert!(metadata.keys().any(|key| key.eq_ignore_ascii_case("__DistributedLock")), "{metadata:?}");
    guard.release().await.unwrap();
    assert!(!container.blob_client("new").exists().await.unwrap(), "who made it removes it");

    // One that another program made and marked, and left when it died, is removed by the next holder.
    let marked = pilotman_azure::azure_storage_blob::models::BlobClientUploadOptions {
        metadata: Some([("__DistributedLock".to_owned(), "x".to_owned())].into()),
        ..Default::default()
    };
    container.blob_client("left").upload(content(""), Some(marked)).await.unwrap();
    locks.mutex("left").acquire().await.unwrap().release().await.unwrap();
    assert!(!container.blob_client("left").exists().await.unwrap());

    // One without the mark is not ours to remove.
    container.blob_client("kept").upload(content("data"), None).await.unwrap();
    locks.mutex("kept").acquire().await.unwrap().release().await.unwrap();
    assert!(container.blob_client("kept").exists().await.unwrap());
}

#[tokio::test]
async fn can_use_lease_id_for_blob_operations() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "fence").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let blob = container.blob_client("data");
    blob.upload(content("before"), None).await.unwrap();
    let guard = locks.mutex("data").acquire().await.unwrap();
    let lease_id = guard.lease_id().expect("there is a lease");
    let write = |id: Option<String>| {
        let options = BlobClientSetMetadataOptions { lease_id: id, ..Default::default() };
        let metadata = [("written".to_owned(), "yes".to_owned())].into();
        let blob = &blob;
        async move { blob.set_metadata(&metadata, Some(options)).await }
    };
    write(None).await.expect_err("others can't write");
    write(Some(unique("x"))).await.expect_err("nor with another id");
    write(Some(lease_id.clone())).await.expect("the holder can");
    guard.release().await.unwrap();
    write(Some(lease_id)).await.expect_err("and no longer when it has released");
    write(None).await.expect("then all can");
}

#[tokio::test]
async fn what_the_holder_writes_into_its_own_blob_stays() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "written").await;
    let guard = locks_of(keyed(&endpoint, &name)).mutex("made").acquire().await.unwrap();
    let options = pilotman_azure::azure_storage_blob::models::BlobClientUploadOptions {
        lease_id: guard.lease_id(),
        ..Default::default()
    };
    let blob = container.blob_client("made");
    blob.upload(content("precious"), Some(options)).await.unwrap();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(lease_state(&blob).await, Some(LeaseState::Available));
}

#[tokio::test]
async fn throws_if_container_does_not_exist() {
    let (_server, endpoint) = azurite();
    let locks = locks_of(keyed(&endpoint, &unique("missing")));
    for error in [
        locks.mutex("a").acquire().await.unwrap_err(),
        locks.mutex("a").try_acquire().await.unwrap_err(),
        locks.check().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("create-container=true") && error.has_no_effect(), "{error}");
    }
}

#[tokio::test]
async fn can_acquire_if_container_leased() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "leased").await;
    let id = container.acquire_lease(-1, None).await.unwrap();
    use pilotman_azure::azure_storage_blob::models::BlobContainerClientAcquireLeaseResultHeaders;
    let id = id.lease_id().unwrap().unwrap();
    locks_of(options(&endpoint, &name)).mutex("a").acquire().await.unwrap().release().await.unwrap();
    container.release_lease(id, None).await.unwrap();
}

#[tokio::test]
async fn successful_renewal() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "renewal").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let guard = locks.mutex("a").lease(AzureBackend::SHORTEST_LEASE).acquire().await.unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(17) {
        assert_ne!(guard.state(), HoldState::Lost);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(guard.renewals() >= 2, "{}", guard.renewals());
    assert_eq!(guard.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn triggers_handle_lost_if_lease_expires_naturally() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "expiry").await;
    let proxy = crate::faults::proxy_before(&endpoint);
    let behind = endpoint.replace(&crate::faults::port_of(&endpoint).to_string(), &proxy.port().to_string());
    let (locks, other) = (locks_of(keyed(&behind, &name)), locks_of(keyed(&endpoint, &name)));
    let guard = locks.mutex("a").lease(AzureBackend::SHORTEST_LEASE).acquire().await.unwrap();
    // A callback that panics is nobody else's trouble.
    let lost = guard.lost();
    let callback = tokio::spawn(async move {
        lost.await;
        panic!("thrown for a test");
    });
    // No renewal gets through.
    proxy.requests(pilotman_testkit::proxy::Flow::Drop);
    let start = Instant::now();
    let waiter = tokio::spawn({
        let mutex = other.mutex("a");
        async move { (mutex.acquire().await, Instant::now()) }
    });
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::Expired);
    let told = Instant::now();
    assert!(start.elapsed() < Duration::from_secs(25), "told after {:?}", start.elapsed());
    assert!(callback.await.unwrap_err().is_panic());
    let (next, got) = soon("others get it", waiter).await.unwrap();
    assert!(told <= got + Duration::from_millis(20), "told {:?} after another one had the lock", told - got);
    proxy.pass().unwrap();
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Expired)));
    assert_eq!(next.unwrap().release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn exits_despite_long_sleep_time() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "sleep").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let guard = locks.mutex("a").acquire().await.unwrap();
    let start = Instant::now();
    let waiting = locks_of(keyed(&endpoint, &name)).mutex("a").retry(Duration::from_secs(3600));
    let error = waiting.acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn behavior_lease_on_missing_blob_or_container_is_an_error() {
    let (_server, endpoint) = azurite();
    let (container, _) = new_container(&endpoint, "behavior").await;
    let error = container.blob_client("none").acquire_lease(15, None).await.unwrap_err();
    assert!(error.to_string().contains("BlobNotFound"), "{error}");
    let error = sdk(&endpoint, &unique("none")).blob_client("none").acquire_lease(15, None).await.unwrap_err();
    assert!(error.to_string().contains("ContainerNotFound"), "{error}");
}

#[tokio::test]
async fn behavior_slash_is_backslash() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "slash").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let guard = locks.mutex("a\\b").acquire().await.unwrap();
    assert!(locks_of(keyed(&endpoint, &name)).mutex("a/b").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn behavior_lease_already_present() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "present").await;
    let blob = container.blob_client("a");
    blob.upload(content(""), None).await.unwrap();
    let id = unique_id();
    let own = || BlobClientAcquireLeaseOptions { proposed_lease_id: Some(id.clone()), ..Default::default() };
    blob.acquire_lease(15, Some(own())).await.unwrap();
    let error = blob.acquire_lease(15, None).await.unwrap_err();
    assert!(error.to_string().contains("LeaseAlreadyPresent"), "{error}");
    blob.acquire_lease(15, Some(own())).await.expect("who has it may take it again");
    assert!(locks_of(keyed(&endpoint, &name)).mutex("a").try_acquire().await.unwrap().is_none());
    let delete = BlobClientDeleteOptions { lease_id: Some(id.clone()), ..Default::default() };
    blob.delete(Some(delete)).await.unwrap();
}

fn unique_id() -> String {
    pilotman_azure::azure_core::Uuid::new_v4().to_string()
}

#[tokio::test]
async fn options_of_the_lease() {
    let (_server, endpoint) = azurite();
    let (_, name) = new_container(&endpoint, "options").await;
    let locks = locks_of(keyed(&endpoint, &name));
    let remaining = |guard: &pilotman_core::Guard| guard.remaining().map(|left| left.as_secs_f32().ceil());
    let guard = locks.mutex("default").acquire().await.unwrap();
    assert!(remaining(&guard).is_some_and(|left| (20.0..=30.0).contains(&left)), "{:?}", remaining(&guard));
    guard.release().await.unwrap();
    let guard = locks.mutex("longest").lease(Duration::from_secs(60)).acquire().await.unwrap();
    assert!(remaining(&guard).is_some_and(|left| (50.0..=60.0).contains(&left)), "{:?}", remaining(&guard));
    guard.release().await.unwrap();
    for seconds in [0, 10, 14, 61, 3600] {
        let error = locks.mutex("bad").lease(Duration::from_secs(seconds)).acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("15s … 60s") && error.has_no_effect(), "{error}");
    }
}

#[tokio::test]
async fn provider_with_a_containers_client() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "provider").await;
    let locks = locks_of(AzureBlob::container_client(sdk(&endpoint, &name)));
    let guard = locks.mutex("a").acquire().await.unwrap();
    assert_eq!(lease_state(&container.blob_client("a")).await, Some(LeaseState::Leased));
    assert!(locks_of(keyed(&endpoint, &name)).mutex("a").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    soon("a close ends", locks.close()).await;
    assert!(container.exists().await.unwrap(), "the client and its container stay the user's");
}
