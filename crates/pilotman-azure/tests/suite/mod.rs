//! What the conformance runs share.

use std::any::Any;
use std::time::{Duration, Instant};

use azure_core::http::Url;
use azure_storage_blob::BlobContainerClient;
use azure_storage_blob::models::{
    BlobClientBreakLeaseOptions, BlobContainerClientListBlobsOptions, BlobItem, LeaseState, ListBlobsIncludeItem,
};
use futures_util::TryStreamExt;
use pilotman_azure::{AzureBackend, AzureBlob, azure_core, azure_storage_blob};
use pilotman_conformance::{LoseHold, UnderTest};
use pilotman_core::{NameRule, Primitive};
use pilotman_testkit::servers::azurite::{ACCOUNT, KEY, endpoint_of};
use pilotman_testkit::servers::{is_skipped, shared_or_skip};
use tokio::runtime::Runtime;

use crate::shared::account_sas;

/// How requests show that they may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)]
pub(crate) enum By {
    SharedKey,
    Sas,
}

/// Longer than any run takes.
const LIFE: Duration = Duration::from_secs(4 * 60 * 60);

/// A place is `p<port>-<run>`, and that is the name of its container.
fn endpoint(place: &str) -> String {
    let port =
        place.strip_prefix('p').and_then(|rest| rest.split('-').next()).and_then(|port| port.parse::<u16>().ok());
    // Before a server is there, the suite only asks what the backend claims.
    format!("http://127.0.0.1:{}/{ACCOUNT}", port.unwrap_or(1))
}

fn connect(place: &str, by: By, rule: NameRule) -> AzureBackend {
    let azure = AzureBlob::endpoint(&endpoint(place), place).expect("it is an endpoint");
    let azure = match by {
        By::SharedKey => azure.account_key(KEY).expect("it is a key"),
        By::Sas => azure.sas(account_sas("rwdlc", LIFE)).expect("it is a SAS"),
    };
    let azure = azure.names(rule).create_container(true).lease(AzureBackend::SHORTEST_LEASE).expect("Azure has it");
    AzureBackend::new(azure).expect("these options are right")
}

/// The SDK's own client.
struct Admin {
    runtime: Runtime,
    container: BlobContainerClient,
}

impl Admin {
    fn new(place: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut url = Url::parse(&format!("{}/{place}", endpoint(place))).unwrap();
        url.set_query(Some(&account_sas("rwdlc", LIFE)));
        let container = runtime.block_on(async { BlobContainerClient::new(url, None, None) }).unwrap();
        Self { runtime, container }
    }

    fn blobs(&self) -> Vec<BlobItem> {
        let options = BlobContainerClientListBlobsOptions {
            include: Some(vec![ListBlobsIncludeItem::Metadata]),
            ..Default::default()
        };
        self.runtime.block_on(async {
            let mut pages = self.container.list_blobs(Some(options)).unwrap().into_pages();
            let mut found = Vec::new();
            while let Some(page) = pages.try_next().await.unwrap() {
                found.extend(page.into_model().unwrap().blob_items);
            }
            found
        })
    }
}

/// Azurite. If its tests may be left out here, they are.
pub(crate) fn azurite(name: &'static str, by: By, rule: NameRule) -> UnderTest {
    if is_skipped("azurite") {
        eprintln!("skipped: azurite is not installed here, and that is allowed");
        std::process::exit(0);
    }
    UnderTest::new(name, move |place| connect(place, by, rule))
        .set_up(move || {
            let shared = shared_or_skip("azurite");
            let endpoint = Url::parse(endpoint_of(shared.url()).expect("its URL has it")).expect("it is a URL");
            let run = azure_core::Uuid::new_v4().simple().to_string();
            let place = format!("p{}-{}", endpoint.port().expect("it has a port"), &run[..12]);
            let admin = Admin::new(&place);
            admin.runtime.block_on(admin.container.create(None)).expect("a container");
            (place, Box::new(shared) as Box<dyn Any>)
        })
        .short_lease(AzureBackend::SHORTEST_LEASE)
        // It serves one request at a time, which takes milliseconds, on a busy machine tens of them.
        .names(40)
        .waiters(300)
        .settle(Duration::from_millis(300))
        .lose(lose)
        .leak_check(nothing_left)
        .clean_up(|place| {
            let admin = Admin::new(place);
            admin.runtime.block_on(admin.container.delete(None)).expect("the container goes");
        })
}

/// As an administrator does who breaks the lease.
fn lose(hold: &LoseHold<'_>) -> bool {
    if hold.primitive != Primitive::Mutex {
        return false;
    }
    let admin = Admin::new(hold.place);
    let options = BlobClientBreakLeaseOptions { break_period: Some(0), ..Default::default() };
    admin
        .runtime
        .block_on(admin.container.blob_client(hold.physical).break_lease(Some(options)))
        .expect("it is broken");
    true
}

/// No blob is leased any more, and none is there but those with a counter of tokens.
fn nothing_left(place: &str) {
    let (admin, start) = (Admin::new(place), Instant::now());
    let is_left = |blob: &BlobItem| {
        let leased = blob.properties.as_ref().and_then(|found| found.lease_state) == Some(LeaseState::Leased);
        let metadata = blob.metadata.as_ref().and_then(|metadata| metadata.values.as_ref());
        leased || !metadata.is_some_and(|values| values.contains_key("pilotman_token"))
    };
    loop {
        let left: Vec<_> = admin.blobs().into_iter().filter(is_left).filter_map(|blob| blob.name).collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
