//! An uncontended acquire and release against the bare acquire and release of a lease, in turns.

use std::time::{Duration, Instant};

use pilotman_azure::azure_core::credentials::Secret;
use pilotman_azure::azure_core::hmac::hmac_sha256;
use pilotman_azure::azure_core::http::{RequestContent, Url};
use pilotman_azure::azure_core::time::{OffsetDateTime, to_rfc3339};
use pilotman_azure::azure_storage_blob::models::BlobClientAcquireLeaseResultHeaders;
use pilotman_azure::azure_storage_blob::{BlobClient, BlobContainerClient};
use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_bench::{Failure, figure, median};
use pilotman_core::{Locks, Mutex, Release};
use pilotman_testkit::servers::azurite::{ACCOUNT, Azurite, CONTAINER, KEY, Mode};
use tokio::runtime::Runtime;

// Short, so that most rounds are not disturbed by other work on the machine.
const PAIRS: u32 = 20;
/// The lease of both sides, in seconds.
const LEASE: i32 = 30;

pub(crate) fn measure(rounds: usize) -> Result<(), Failure> {
    let server = Azurite::start(Mode::Plain)?;
    let endpoint = server.endpoint();
    let runtime = Runtime::new()?;
    // Callers are tasks of a runtime, not the thread that waits for it.
    runtime.block_on(async { tokio::spawn(alone(endpoint, rounds)).await? })
}

/// A client of the SDK, as both sides have one.
fn client(endpoint: &str) -> Result<BlobContainerClient, Failure> {
    let version = "2019-12-12";
    let end = to_rfc3339(&(OffsetDateTime::now_utc() + Duration::from_secs(3600)).replace_nanosecond(0)?);
    let text = format!("{ACCOUNT}\nrwdlac\nb\nsco\n\n{end}\n\n\n{version}\n");
    let signature = hmac_sha256(&text, &Secret::new(KEY))?;
    let pairs = [("sv", version), ("ss", "b"), ("srt", "sco"), ("sp", "rwdlac"), ("se", &end), ("sig", &signature)];
    let url = Url::parse_with_params(&format!("{endpoint}/{CONTAINER}"), pairs)?;
    Ok(BlobContainerClient::new(url, None, None)?)
}

async fn alone(endpoint: String, rounds: usize) -> Result<(), Failure> {
    let bare = client(&endpoint)?;
    bare.create(None).await?;
    let blob = bare.blob_client("bare");
    blob.upload(RequestContent::from(Vec::new()), None).await?;
    let kept = Locks::new(AzureBackend::new(AzureBlob::container_client(client(&endpoint)?).keep_blobs(true))?);
    let made = Locks::new(AzureBackend::new(AzureBlob::container_client(client(&endpoint)?))?);
    let (kept_pair, made_pair, with_token) = (kept.mutex("kept"), made.mutex("made"), kept.mutex("token").fenced()?);
    let (mut bare_us, mut pair, mut removed, mut fenced) =
        (Vec::new(), Sides::default(), Sides::default(), Sides::default());
    for round in 0..=rounds {
        let start = Instant::now();
        for _ in 0..PAIRS {
            bare_lease(&blob).await?;
        }
        let bare = micros(start);
        let start = Instant::now();
        for _ in 0..PAIRS {
            take_and_give_back(&kept_pair).await?;
        }
        let kept = micros(start);
        let start = Instant::now();
        for _ in 0..PAIRS {
            take_and_give_back(&made_pair).await?;
        }
        let made = micros(start);
        let start = Instant::now();
        for _ in 0..PAIRS {
            released(with_token.acquire().await?.release().await?)?;
        }
        let token = micros(start);
        // Connections and lazy set-up are paid in the first round.
        if round > 0 {
            bare_us.push(bare);
            pair.add(kept, bare);
            removed.add(made, bare);
            fenced.add(token, bare);
        }
    }
    figure("pair-bare", median(&bare_us), "µs");
    pair.report("pair");
    removed.report("pair-made");
    fenced.report("pair-fenced");
    kept.close().await;
    made.close().await;
    Ok(())
}

async fn bare_lease(blob: &BlobClient) -> Result<(), Failure> {
    let taken = blob.acquire_lease(LEASE, None).await?;
    let id = taken.lease_id()?.ok_or("a lease has no id")?;
    blob.release_lease(id, None).await?;
    Ok(())
}

async fn take_and_give_back(mutex: &Mutex) -> Result<(), Failure> {
    released(mutex.acquire().await?.release().await?)
}

fn released(release: Release) -> Result<(), Failure> {
    match release {
        Release::Released => Ok(()),
        Release::AlreadyLost(reason) => Err(format!("the lock was lost: {reason:?}").into()),
    }
}

/// Our time for a pair beside that of the bare requests, round by round.
#[derive(Default)]
struct Sides {
    ours: Vec<f64>,
    ratios: Vec<f64>,
}

impl Sides {
    fn add(&mut self, ours: f64, bare: f64) {
        self.ours.push(ours);
        self.ratios.push(ours / bare);
    }

    fn report(&self, what: &str) {
        figure(what, median(&self.ratios), "×");
        figure(&format!("{what}-pilotman"), median(&self.ours), "µs");
    }
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS)
}
