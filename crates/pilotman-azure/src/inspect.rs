//! Who holds what. Azure tells that a blob is leased, and neither by whom nor for how long still.

use azure_storage_blob::models::{
    BlobContainerClientListBlobsOptions, BlobItem, LeaseDuration, LeaseState, ListBlobsIncludeItem,
};
use futures_util::TryStreamExt;
use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, Result, Target};

use crate::blob::{Blob, Facts, OWNER};
use crate::failure;
use crate::store::Store;
use crate::tokens;
use crate::tries::try_again;

/// Whether the container can be reached and used.
pub(crate) async fn check(store: &Store) -> Result<()> {
    if !store.is_ready() {
        store.prepare().await?;
    }
    // Anybody who may use blobs may ask for one that isn't there; not everybody may look at the container.
    let name = store.only_blob().unwrap_or("pilotman-check").to_owned();
    let answer = match store.blob_itself(name.clone()) {
        Some(blob) => try_again(store.environment(), || blob.look()).await.answer,
        None => store.blob(&name)?.look().await,
    };
    match answer {
        Ok(_) => Ok(()),
        Err(error) if failure::is_missing_blob(&error) => container_is_there(store, &error).await,
        Err(error) => Err(store.failed("the container can't be used", &error)),
    }
}

/// An answer to `HEAD` has no body: without a code in a header it leaves open what is missing.
async fn container_is_there(store: &Store, missing: &azure_core::Error) -> Result<()> {
    let is_told = failure::said(missing).is_some_and(|said| said.code == "BlobNotFound");
    let Some(container) = store.container().filter(|_| !is_told) else { return Ok(()) };
    match container.get_properties(None).await {
        Err(error) if failure::said(&error).is_some_and(|said| said.status == 404) => {
            Err(Error::misconfigured("the container is not there")
                .with_advice("make it, or have it made (create-container=true)"))
        }
        _ => Ok(()),
    }
}

/// The state of one name.
pub(crate) async fn inspect(store: &Store, target: &Target, blob: &Blob) -> Result<Inspection> {
    let mut inspection = match look(store, blob).await? {
        Some(facts) => inspection(store, &blob.name, &facts),
        None => Inspection::default(),
    };
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical.clone_from(&blob.name);
    Ok(inspection)
}

async fn look(store: &Store, blob: &Blob) -> Result<Option<Facts>> {
    match try_again(store.environment(), || blob.look()).await.answer {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if failure::is_missing_blob(&error) => Ok(None),
        Err(error) => Err(store.failed("the lock can't be looked at", &error)),
    }
}

fn inspection(store: &Store, blob: &str, facts: &Facts) -> Inspection {
    let mut inspection = Inspection::default();
    inspection.name = store.naming.lock(blob);
    blob.clone_into(&mut inspection.physical);
    inspection.token = tokens::last(facts);
    inspection.holders = facts.is_leased().then(|| holder(facts)).into_iter().collect();
    inspection
}

fn holder(facts: &Facts) -> Holder {
    let mut holder = Holder::default();
    let lease = if facts.is_infinite { "a lease without an end" } else { "a lease" };
    holder.owner = match facts.value(OWNER) {
        // Whoever leased it last without a token left no trace.
        Some(owner) => format!("{lease}; the blob was last written by {}", failure::shown(owner)),
        None => format!("{lease}; Azure doesn't tell whose"),
    };
    holder.primitive = Some("mutex");
    holder
}

/// The locks in the container, held or not.
pub(crate) async fn list(store: &Store) -> Result<Vec<Inspection>> {
    let Some(container) = store.container() else {
        return Err(Error::unsupported("one blob is no list"));
    };
    let prefix = store.naming.prefix();
    let options = BlobContainerClientListBlobsOptions {
        include: Some(vec![ListBlobsIncludeItem::Metadata]),
        prefix: Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
        ..Default::default()
    };
    let unlisted = |error| store.failed("the locks can't be listed", &error);
    let mut pages = container.list_blobs(Some(options)).map_err(unlisted)?.into_pages();
    let mut found = Vec::new();
    while let Some(page) = pages.try_next().await.map_err(unlisted)? {
        let items = page.into_model().map_err(unlisted)?.blob_items;
        found.extend(items.into_iter().filter_map(|item| listed(store, item)));
    }
    Ok(found)
}

/// A blob, if it is a lock's: marked, or leased by somebody.
fn listed(store: &Store, item: BlobItem) -> Option<Inspection> {
    let name = item.name?;
    let properties = item.properties.unwrap_or_default();
    let facts = Facts {
        metadata: item.metadata.and_then(|metadata| metadata.values).unwrap_or_default(),
        lease: properties.lease_state.or(Some(LeaseState::Available)),
        is_infinite: properties.lease_duration == Some(LeaseDuration::Infinite),
        size: properties.content_length.unwrap_or(0),
        ..Facts::default()
    };
    (facts.is_lock() || facts.is_leased()).then(|| inspection(store, &name, &facts))
}

/// Ends the lease of a name, and tells of whom.
pub(crate) async fn force_release(store: &Store, blob: &Blob) -> Result<Vec<Holder>> {
    let Some(facts) = look(store, blob).await?.filter(Facts::is_leased) else { return Ok(Vec::new()) };
    let broken = try_again(store.environment(), || blob.break_lease()).await;
    match broken.answer {
        Ok(()) => Ok(vec![holder(&facts)]),
        // It ended by itself meanwhile, or by a first try of ours.
        Err(error) if failure::is_not_ours(&error) => Ok(if broken.unsure { vec![holder(&facts)] } else { Vec::new() }),
        Err(error) => Err(store.failed("the lease can't be broken", &error)),
    }
}
