//! Containers, clients of the SDK, and waiting for conditions.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pilotman_azure::azure_core::http::Url;
use pilotman_azure::azure_storage_blob::models::{BlobClientGetPropertiesResultHeaders, LeaseState};
use pilotman_azure::azure_storage_blob::{BlobClient, BlobContainerClient};
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::Locks;
use pilotman_testkit::servers::azurite::{KEY, endpoint_of};
use pilotman_testkit::servers::{Shared, shared_or_skip};

use crate::shared::account_sas;

/// Longer than anything here takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The Azurite that all tests share.
pub(crate) fn azurite() -> (Shared, String) {
    let shared = shared_or_skip("azurite");
    let endpoint = endpoint_of(shared.url()).expect("its URL has it").to_owned();
    (shared, endpoint)
}

/// A name that nobody else uses at the server.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container at this endpoint, by the account's key; it is made if it is not there.
pub(crate) fn options(endpoint: &str, container: &str) -> AzureBlob {
    keyed(endpoint, container).create_container(true)
}

/// As [`options`], but it has to be there.
pub(crate) fn keyed(endpoint: &str, container: &str) -> AzureBlob {
    AzureBlob::endpoint(endpoint, container).unwrap().account_key(KEY).unwrap()
}

/// With a SAS that has these rights.
pub(crate) fn signed(endpoint: &str, container: &str, rights: &str) -> AzureBlob {
    AzureBlob::endpoint(endpoint, container).unwrap().sas(account_sas(rights, Duration::from_secs(3600))).unwrap()
}

/// Locks with these options.
pub(crate) fn locks_of(azure: AzureBlob) -> Locks {
    Locks::new(AzureBackend::new(azure).unwrap())
}

/// Locks in this container.
pub(crate) fn locks(endpoint: &str, container: &str) -> Locks {
    locks_of(options(endpoint, container))
}

/// The SDK's own client of a container, which has every right.
pub(crate) fn sdk(endpoint: &str, container: &str) -> BlobContainerClient {
    let mut url = Url::parse(&format!("{endpoint}/{container}")).unwrap();
    url.set_query(Some(&account_sas("rwdlac", Duration::from_secs(3600))));
    BlobContainerClient::new(url, None, None).unwrap()
}

/// As [`sdk`], of a new container.
pub(crate) async fn new_container(endpoint: &str, name: &str) -> (BlobContainerClient, String) {
    let name = unique(name);
    let client = sdk(endpoint, &name);
    client.create(None).await.expect("a container");
    (client, name)
}

/// Whether a blob is there, and leased.
pub(crate) async fn lease_state(blob: &BlobClient) -> Option<LeaseState> {
    if !blob.exists().await.unwrap() {
        return None;
    }
    blob.get_properties(None).await.unwrap().lease_state().unwrap()
}

/// Waits for something that must come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until something is so.
pub(crate) async fn becomes(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
