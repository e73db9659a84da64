//! One lock's blob, and the requests that concern it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use azure_core::Bytes;
use azure_core::http::headers::{ETAG, Headers};
use azure_core::http::{Etag, RequestContent};
use azure_storage_blob::BlobClient;
use azure_storage_blob::models::{
    BlobClientAcquireLeaseOptions, BlobClientBreakLeaseOptions, BlobClientDeleteOptions,
    BlobClientGetPropertiesResultHeaders, BlobClientSetMetadataOptions, BlobClientUploadOptions, LeaseDuration,
    LeaseState,
};

/// What the .NET library marks a blob with that it made for a lock. Names of metadata have no case.
pub(crate) const MARK: &str = "__DistributedLock";
/// Who made the blob, for people.
pub(crate) const OWNER: &str = "pilotman_owner";
/// The last fencing token.
pub(crate) const TOKEN: &str = "pilotman_token";
/// What all of our names of metadata begin with.
const OURS: &str = "pilotman_";

pub(crate) type Answer<T> = azure_core::Result<T>;
pub(crate) type Metadata = HashMap<String, String>;

/// What is known of a blob.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) etag: String,
    pub(crate) metadata: Metadata,
    pub(crate) size: u64,
    pub(crate) lease: Option<LeaseState>,
    pub(crate) is_infinite: bool,
}

impl Facts {
    /// A value of the metadata, whatever the case of its name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the blob was made for a lock, and has nothing but that. One without a tag could be another one by the time it is
    /// removed.
    pub(crate) fn is_disposable(&self) -> bool {
        self.value(MARK).is_some() && self.value(TOKEN).is_none() && self.size == 0 && !self.etag.is_empty()
    }

    /// Whether it is of a lock, as far as one can see.
    pub(crate) fn is_lock(&self) -> bool {
        is_lock(&self.metadata)
    }

    pub(crate) fn is_leased(&self) -> bool {
        matches!(self.lease, Some(LeaseState::Leased | LeaseState::Breaking))
    }
}

/// Whether metadata are those of a lock.
pub(crate) fn is_lock(metadata: &Metadata) -> bool {
    metadata.keys().any(|name| name.eq_ignore_ascii_case(MARK) || name.to_ascii_lowercase().starts_with(OURS))
}

/// See the [module](self).
pub(crate) struct Blob {
    client: Arc<BlobClient>,
    pub(crate) name: String,
}

fn etag_of(headers: &Headers) -> String {
    headers.get_optional_str(&ETAG).unwrap_or_default().to_owned()
}

fn matching(etag: &str) -> Option<Etag> {
    Some(etag).filter(|etag| !etag.is_empty()).map(Etag::from)
}

impl Blob {
    pub(crate) fn new(client: Arc<BlobClient>, name: String) -> Self {
        Self { client, name }
    }

    /// Takes the lease, and returns the tag of what stands in the blob. Taking one that is ours begins it anew.
    pub(crate) async fn acquire(&self, id: &str, lease: Option<Duration>) -> Answer<String> {
        let options = BlobClientAcquireLeaseOptions { proposed_lease_id: Some(id.to_owned()), ..Default::default() };
        let answer = self.client.acquire_lease(seconds(lease), Some(options)).await?;
        Ok(etag_of(answer.headers()))
    }

    /// Makes the blob, empty, unless there is one.
    pub(crate) async fn create(&self, metadata: Metadata) -> Answer<Facts> {
        let options = BlobClientUploadOptions {
            if_none_match: Some(Etag::from("*")),
            metadata: Some(metadata.clone()),
            ..Default::default()
        };
        let made = self.client.upload(RequestContent::from(Bytes::new().to_vec()), Some(options)).await?;
        let etag = made.etag.map(String::from).unwrap_or_default();
        Ok(Facts { etag, metadata, ..Facts::default() })
    }

    /// Looks at the blob.
    pub(crate) async fn look(&self) -> Answer<Facts> {
        let found = self.client.get_properties(None).await?;
        Ok(Facts {
            etag: etag_of(found.headers()),
            metadata: found.metadata()?,
            size: found.content_length()?.unwrap_or(0),
            lease: found.lease_state()?,
            is_infinite: found.duration()? == Some(LeaseDuration::Infinite),
        })
    }

    pub(crate) async fn renew(&self, id: &str) -> Answer<()> {
        self.client.renew_lease(id.to_owned(), None).await.map(drop)
    }

    pub(crate) async fn release(&self, id: &str) -> Answer<()> {
        self.client.release_lease(id.to_owned(), None).await.map(drop)
    }

    /// Removes the blob and with it the lease, if it is still as it was. Without an id: if nobody has it leased.
    pub(crate) async fn delete(&self, id: Option<&str>, etag: &str) -> Answer<()> {
        // An empty tag is no blob's.
        let options = BlobClientDeleteOptions {
            lease_id: id.map(str::to_owned),
            if_match: Some(Etag::from(etag.to_owned())),
            ..Default::default()
        };
        self.client.delete(Some(options)).await.map(drop)
    }

    /// Writes the metadata under the lease, if the blob is still as it was, and returns its new tag.
    pub(crate) async fn write(&self, id: &str, etag: &str, metadata: &Metadata) -> Answer<String> {
        let options = BlobClientSetMetadataOptions {
            lease_id: Some(id.to_owned()),
            if_match: matching(etag),
            ..Default::default()
        };
        let answer = self.client.set_metadata(metadata, Some(options)).await?;
        Ok(etag_of(answer.headers()))
    }

    /// Ends whatever lease there is, at once.
    pub(crate) async fn break_lease(&self) -> Answer<()> {
        let options = BlobClientBreakLeaseOptions { break_period: Some(0), ..Default::default() };
        self.client.break_lease(Some(options)).await.map(drop)
    }
}

/// A lease in whole seconds, never less than asked for; -1 is one without an end.
fn seconds(lease: Option<Duration>) -> i32 {
    let Some(lease) = lease else { return -1 };
    i32::try_from(lease.as_secs() + u64::from(lease.subsec_nanos() > 0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_have_whole_seconds() {
        assert_eq!(seconds(None), -1);
        assert_eq!(seconds(Some(Duration::from_secs(15))), 15);
        assert_eq!(seconds(Some(Duration::from_millis(15_001))), 16);
        assert_eq!(seconds(Some(Duration::MAX - Duration::from_secs(1))), i32::MAX);
    }

    #[test]
    fn only_an_empty_blob_that_was_made_for_a_lock_is_removed() {
        let facts = |names: &[&str], size| Facts {
            metadata: names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect(),
            size,
            etag: "\"0x1\"".to_owned(),
            ..Facts::default()
        };
        assert!(facts(&["__distributedlock", OWNER], 0).is_disposable());
        let untagged = Facts { etag: String::new(), ..facts(&[MARK], 0) };
        assert!(!untagged.is_disposable(), "it could be another blob by then");
        assert!(!facts(&[MARK], 1).is_disposable() && !facts(&[MARK, TOKEN], 0).is_disposable());
        assert!(!facts(&[OWNER], 0).is_disposable() && facts(&["Pilotman_Token"], 0).is_lock());
        assert!(!facts(&["x"], 0).is_lock() && facts(&["__DISTRIBUTEDLOCK"], 0).is_lock());
    }
}
