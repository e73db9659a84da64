//! Taking a lease, making the blob that it needs, and giving both back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_core::time::{OffsetDateTime, to_rfc3339};
use pilotman_core::Result;
use pilotman_core::backend::AttemptId;

use crate::blob::{Blob, Facts, MARK, Metadata, OWNER, TOKEN};
use crate::failure;
use crate::store::Store;
use crate::tokens;
use crate::tries::{Tried, try_again};

/// A blob may be removed as often as this before it is leased; then others are at work.
const ROUNDS: u32 = 3;

/// What an attempt that succeeded leads to.
pub(crate) struct Taken {
    pub(crate) token: Option<u64>,
    pub(crate) lease: BlobLease,
}

/// What is kept with a hold.
#[derive(Debug, Default)]
pub(crate) struct BlobLease {
    /// What stands in the blob, as far as it is known: whoever has the lease is the only one to write.
    facts: Mutex<Option<Facts>>,
}

impl BlobLease {
    pub(crate) fn facts(&self) -> MutexGuard<'_, Option<Facts>> {
        // Nothing that is done under it can fail.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of the lease of an attempt: a GUID, as Azure wants it.
pub(crate) fn lease_id(id: AttemptId) -> String {
    azure_core::Uuid::from_u128(id.0).to_string()
}

/// What is asked of a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) lease: Option<Duration>,
    pub(crate) token: bool,
    /// Nothing shows that the blob is there.
    pub(crate) fresh: bool,
}

/// Takes the lease, unless somebody has it.
pub(crate) async fn take(store: &Store, blob: &Blob, id: &str, wanted: Wanted) -> Result<Option<Taken>> {
    let environment = store.environment();
    let (mut made, mut rounds) = (None, 0);
    // Where blobs come and go with their holders, a free lock has none. Those that stay are there but for the first time.
    if wanted.fresh && !wanted.token && !store.keeps_blobs() && store.known(&blob.name).is_none() {
        made = create(store, blob, false).await?;
    }
    loop {
        let Tried { answer, unsure } = try_again(environment, || blob.acquire(id, wanted.lease)).await;
        match answer {
            Ok(etag) => {
                let facts = made
                    .or_else(|| store.known(&blob.name))
                    .filter(|facts: &Facts| !etag.is_empty() && facts.etag == etag);
                let lease = BlobLease { facts: Mutex::new(facts) };
                if !wanted.token {
                    return Ok(Some(Taken { token: None, lease }));
                }
                return match tokens::next(store, blob, id, &lease).await {
                    Ok(token) => Ok(Some(Taken { token: Some(token), lease })),
                    // It was broken at once, so that others have it.
                    Err(error) if error.loss().is_some() => Ok(None),
                    Err(error) => Err(error.no_effect(false)),
                };
            }
            Err(error) if failure::is_leased(&error) => return Ok(None),
            // Others make and remove it faster than we can lease it.
            Err(error) if failure::is_missing_blob(&error) && rounds == ROUNDS => return Ok(None),
            Err(error) if failure::is_missing_blob(&error) => {
                made = create(store, blob, wanted.token).await?;
                rounds += 1;
            }
            Err(error) => {
                let failed = store.failed("the lease can't be taken", &error);
                // What was made for it must go, and what an earlier try may have been granted.
                return Err(if unsure || made.is_some() { failed.no_effect(false) } else { failed });
            }
        }
    }
}

/// Makes the blob, unless somebody else was faster.
async fn create(store: &Store, blob: &Blob, token: bool) -> Result<Option<Facts>> {
    let mut metadata = Metadata::from([(OWNER.to_owned(), store.owner().to_owned())]);
    match token {
        // Whoever finds the mark removes the blob, and the counter with it.
        true => drop(metadata.insert(TOKEN.to_owned(), "0".to_owned())),
        false if store.keeps_blobs() => {}
        false => drop(metadata.insert(MARK.to_owned(), to_rfc3339(&OffsetDateTime::now_utc()))),
    }
    let Tried { answer, unsure } = try_again(store.environment(), || blob.create(metadata.clone())).await;
    match answer {
        Ok(facts) => Ok(Some(facts)),
        // Made by somebody else, or by a first try of ours whose answer was lost; leased or about to be removed.
        Err(error) if failure::is(&error, &["BlobAlreadyExists", "LeaseIdMissing", "ConditionNotMet"]) => {
            tracing::trace!(unsure, "the blob of a lock was made by somebody else");
            Ok(None)
        }
        Err(error) => {
            let failed = store.failed("the blob of the lock can't be made", &error);
            Err(if unsure { failed.no_effect(false) } else { failed })
        }
    }
}

/// Gives back what a hold has. Whether it was still ours.
pub(crate) async fn release(store: &Store, blob: &Blob, id: &str, lease: &BlobLease) -> Result<bool> {
    let known = lease.facts().clone();
    let facts = match known {
        // Nothing is to be removed, so that nothing needs to be known.
        _ if store.keeps_blobs() => None,
        Some(facts) => Some(facts),
        None => match look(store, blob).await? {
            Some(facts) => Some(facts),
            None => return Ok(false),
        },
    };
    give_back(store, blob, id, facts).await
}

/// Gives back what an attempt of unknown outcome may have been granted, and the blob that it may have made.
pub(crate) async fn undo(store: &Store, blob: &Blob, id: &str) -> Result<()> {
    let Some(facts) = look(store, blob).await? else { return Ok(()) };
    if facts.is_leased() {
        return give_back(store, blob, id, Some(facts)).await.map(drop);
    }
    if !facts.is_disposable() || store.keeps_blobs() {
        return Ok(());
    }
    // If somebody takes or changes it now, it stays.
    match try_again(store.environment(), || blob.delete(None, &facts.etag)).await.answer {
        Err(error) if failure::is_transient(&error) => Err(store.kept("the blob of the lock can't be removed", &error)),
        _ => Ok(()),
    }
}

async fn look(store: &Store, blob: &Blob) -> Result<Option<Facts>> {
    match try_again(store.environment(), || blob.look()).await.answer {
        Ok(facts) => {
            store.learn(&blob.name, &facts);
            Ok(Some(facts))
        }
        Err(error) if failure::is_missing_blob(&error) => Ok(None),
        Err(error) => Err(store.kept("the lock can't be given back", &error)),
    }
}

async fn give_back(store: &Store, blob: &Blob, id: &str, facts: Option<Facts>) -> Result<bool> {
    // If something was asked for twice, it may be the first time that took away what the second one didn't find.
    let (mut twice, mut refused) = (false, None);
    if let Some(facts) = facts.filter(Facts::is_disposable).filter(|_| store.removes_blobs()) {
        let Tried { answer, unsure } = try_again(store.environment(), || blob.delete(Some(id), &facts.etag)).await;
        match answer {
            Ok(()) => return Ok(true),
            Err(error) if failure::is_not_ours(&error) => return Ok(unsure),
            Err(error) if failure::is_transient(&error) => {
                return Err(store.kept("the blob of the lock can't be removed", &error));
            }
            Err(error) if failure::is_refusal(&error) => refused = Some(error),
            // Somebody wrote into it under our lease, and what he wrote stays; or it has a snapshot, or a policy that keeps it.
            Err(error) => tracing::trace!(%error, "the blob of a lock stays"),
        }
        twice = unsure;
    }
    let Tried { answer, unsure } = try_again(store.environment(), || blob.release(id)).await;
    match answer {
        Ok(()) => {
            if let Some(refused) = refused {
                store.may_not_remove(&refused);
            }
            Ok(true)
        }
        Err(error) if failure::is_not_ours(&error) => Ok(unsure || twice),
        Err(error) => Err(store.kept("the lease can't be given back", &error)),
    }
}

/// Renews the lease. Whether it was still ours.
pub(crate) async fn renew(store: &Store, blob: &Blob, id: &str) -> Result<bool> {
    match blob.renew(id).await {
        Ok(()) => Ok(true),
        Err(error) if failure::is_not_ours(&error) => Ok(false),
        Err(error) => Err(store.failed("the lease can't be renewed", &error)),
    }
}

/// So that tasks can hold on to both.
#[derive(Clone)]
pub(crate) struct Lock {
    pub(crate) blob: Arc<Blob>,
    pub(crate) token: bool,
}

impl Lock {
    pub(crate) fn wanted(&self, lease: Option<Duration>, fresh: bool) -> Wanted {
        Wanted { lease, token: self.token, fresh }
    }
}
