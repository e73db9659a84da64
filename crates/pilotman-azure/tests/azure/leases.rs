//! Leases without an end, blobs that stay, who holds what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotman_azure::azure_core::http::policies::{Policy, PolicyResult};
use pilotman_azure::azure_core::http::{ClientOptions, Context, Method, Request, RequestContent, Url};
use pilotman_azure::azure_storage_blob::models::{BlobClientBreakLeaseOptions, LeaseState};
use pilotman_azure::azure_storage_blob::{BlobContainerClient, BlobContainerClientOptions};
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::clock::ManualClock;
use pilotman_core::{HoldState, Locks, LossReason, Primitive, Release};

use crate::common::{azurite, becomes, keyed, lease_state, locks_of, new_container, soon};
use crate::shared::account_sas;

#[tokio::test]
async fn a_lease_without_an_end() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "infinite").await;
    let (locks, blob) = (locks_of(keyed(&endpoint, &name).infinite_lease()), container.blob_client("a"));
    let guard = locks.mutex("a").acquire().await.unwrap();
    assert_eq!(guard.remaining(), None);
    let seen = locks.inspect("a", Primitive::Mutex).await.unwrap();
    assert!(seen.holders[0].owner.contains("without an end"), "{seen:?}");
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    assert_eq!(lease_state(&blob).await, None);

    // Broken, and told to who waits for that.
    let guard = locks.mutex("a").acquire().await.unwrap();
    let options = BlobClientBreakLeaseOptions { break_period: Some(0), ..Default::default() };
    blob.break_lease(Some(options)).await.unwrap();
    assert_eq!(soon("the loss is told", guard.lost()).await, LossReason::Gone);
    assert_eq!(guard.state(), HoldState::Lost);
    assert!(matches!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone)));
    locks.mutex("a").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn blobs_that_stay() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "stay").await;
    let (locks, blob) = (locks_of(keyed(&endpoint, &name).keep_blobs(true)), container.blob_client("a"));
    for _ in 0..3 {
        let guard = locks.mutex("a").acquire().await.unwrap();
        assert_eq!(lease_state(&blob).await, Some(LeaseState::Leased));
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        assert_eq!(lease_state(&blob).await, Some(LeaseState::Available));
    }
    // Whoever doesn't keep blobs leaves this one alone.
    locks_of(keyed(&endpoint, &name)).mutex("a").acquire().await.unwrap().release().await.unwrap();
    assert!(blob.exists().await.unwrap());
    let listed = locks.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_deref(), listed[0].physical.as_str()), (Some("a"), "a"));
}

#[tokio::test]
async fn a_lost_hold_is_told_when_it_is_released() {
    let (_server, endpoint) = azurite();
    let (_container, name) = new_container(&endpoint, "told").await;
    for infinite in [false, true] {
        let azure = keyed(&endpoint, &name);
        let locks = locks_of(if infinite { azure.infinite_lease() } else { azure });
        let guard = locks.mutex("a").acquire().await.unwrap();
        assert_eq!(locks.force_release("a", Primitive::Mutex).await.unwrap().len(), 1);
        assert_eq!(guard.release().await.unwrap(), Release::AlreadyLost(LossReason::Gone));
        // What it had made is left to the next holder.
        let guard = locks.mutex("a").acquire().await.unwrap();
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn prefixes_and_lists() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "prefix").await;
    let locks = locks_of(keyed(&endpoint, &name).prefix("app/").unwrap());
    let other = locks_of(keyed(&endpoint, &name));
    let (guard, outside) = (locks.mutex("a").acquire().await.unwrap(), other.mutex("a").acquire().await.unwrap());
    assert_eq!(lease_state(&container.blob_client("app/a")).await, Some(LeaseState::Leased));
    let listed = locks.list().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].name.as_deref(), listed[0].physical.as_str()), (Some("a"), "app/a"));
    assert!(listed[0].holders[0].owner.contains("pid"), "{listed:?}");
    assert_eq!(other.list().await.unwrap().len(), 2);
    drop((guard, outside));
    becomes("both are given back", async || other.list().await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn waiters_that_give_up_leave_nothing() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "waiters").await;
    let (one, other) = (locks_of(keyed(&endpoint, &name)), locks_of(keyed(&endpoint, &name).infinite_lease()));
    let guard = one.mutex("a").acquire().await.unwrap();
    for millis in [1, 5, 20, 100, 300] {
        let waiting = other.mutex("a");
        assert!(waiting.try_acquire_for(Duration::from_millis(millis)).await.unwrap().is_none());
    }
    // Dropped in the middle of whatever they do.
    for millis in 0..20 {
        let mutex = other.mutex(format!("b{millis}"));
        let _ = tokio::time::timeout(Duration::from_millis(millis), mutex.acquire()).await;
    }
    guard.release().await.unwrap();
    soon("a close ends", other.close()).await;
    // Leases without an end would stay for ever.
    becomes("no blob is left", async || one.list().await.unwrap().is_empty()).await;
    assert!(!container.blob_client("a").exists().await.unwrap());
}

/// Counts requests, all or those that remove blobs.
#[derive(Debug, Clone, Default)]
struct Counter {
    all: Arc<AtomicUsize>,
    removals: Arc<AtomicUsize>,
}

// As the trait has it.
#[allow(elided_lifetimes_in_paths)]
#[async_trait::async_trait]
impl Policy for Counter {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        self.all.fetch_add(1, Ordering::SeqCst);
        if request.method() == Method::Delete {
            self.removals.fetch_add(1, Ordering::SeqCst);
        }
        next[0].send(ctx, request, &next[1..]).await
    }
}

impl Counter {
    fn taken(&self) -> usize {
        self.all.swap(0, Ordering::SeqCst)
    }

    /// A client of this container whose requests it counts.
    fn client(&self, mut url: Url, sas: Option<&str>) -> AzureBlob {
        let client_options =
            ClientOptions { per_try_policies: vec![Arc::new(self.clone())], ..ClientOptions::default() };
        let options = BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
        if sas.is_some() {
            url.set_query(sas);
        }
        AzureBlob::container_client(BlobContainerClient::new(url, None, Some(options)).unwrap())
    }
}

#[tokio::test]
async fn the_right_to_remove_blobs_is_tried_again_after_a_while() {
    let (_server, endpoint) = azurite();
    let (container, _) = new_container(&endpoint, "barred").await;
    let (counter, clock) = (Counter::default(), ManualClock::new());
    let sas = account_sas("rw", Duration::from_secs(3600));
    let azure = counter.client(container.url().clone(), Some(&sas));
    let locks = Locks::builder(AzureBackend::new(azure).unwrap()).clock(clock.clone()).build();
    for (pause, removals) in [(0, 1), (0, 1), (299, 1), (2, 2), (0, 2)] {
        clock.advance(Duration::from_secs(pause));
        let guard = soon("it is free", locks.mutex("a").acquire()).await.unwrap();
        assert_eq!(guard.release().await.unwrap(), Release::Released);
        assert_eq!(counter.removals.load(Ordering::SeqCst), removals, "after {pause} s more");
    }
    assert_eq!(lease_state(&container.blob_client("a")).await, Some(LeaseState::Available));
}

#[tokio::test]
async fn requests_are_as_many_as_the_page_says() {
    let (_server, endpoint) = azurite();
    let (container, name) = new_container(&endpoint, "requests").await;
    let counter = Counter::default();
    let client = || counter.client(crate::common::sdk(&endpoint, &name).url().clone(), None);
    let (locks, kept) = (locks_of(client()), locks_of(client().keep_blobs(true)));
    container.blob_client("there").upload(RequestContent::from(b"x".to_vec()), None).await.unwrap();
    kept.mutex("kept").acquire().await.unwrap().release().await.unwrap();
    counter.taken();
    for (locks, name, fenced, requests) in [
        (&locks, "made", false, 3),
        (&locks, "made", false, 3),
        (&locks, "there", false, 4),
        (&locks, "there", false, 2),
        (&kept, "kept", false, 2),
        (&kept, "kept", true, 4),
        (&kept, "kept", true, 3),
        (&locks, "fenced", true, 5),
        (&locks, "fenced", true, 3),
    ] {
        let mutex = locks.mutex(name);
        match fenced {
            true => mutex.fenced().unwrap().acquire().await.unwrap().release().await.unwrap(),
            false => mutex.acquire().await.unwrap().release().await.unwrap(),
        };
        assert_eq!(counter.taken(), requests, "{name}, fenced: {fenced}");
    }
}
