//! Fencing tokens: a counter in the metadata of the blob, written under the lease.

use pilotman_core::{Error, ErrorKind, LossReason, Result};

use crate::blob::{Blob, Facts, MARK, OWNER, TOKEN};
use crate::failure;
use crate::hold::BlobLease;
use crate::store::Store;
use crate::tries::{Tried, try_again};

/// A holder's own writes under the lease may come in between as often as this.
const ROUNDS: u32 = 3;

/// The next token for a lease that is held; one request, or two if what stands in the blob isn't known.
pub(crate) async fn next(store: &Store, blob: &Blob, id: &str, lease: &BlobLease) -> Result<u64> {
    let mut known = lease.facts().clone();
    for _ in 0..ROUNDS {
        let mut facts = match known.take() {
            Some(facts) => facts,
            None => look(store, blob).await?,
        };
        let token = after(&facts)?;
        let is_other = |name: &String| ![MARK, TOKEN, OWNER].iter().any(|ours| name.eq_ignore_ascii_case(ours));
        facts.metadata.retain(|name, _| is_other(name));
        facts.metadata.insert(TOKEN.to_owned(), token.to_string());
        facts.metadata.insert(OWNER.to_owned(), store.owner().to_owned());
        let Tried { answer, unsure } =
            try_again(store.environment(), || blob.write(id, &facts.etag, &facts.metadata)).await;
        match answer {
            Ok(etag) => {
                let facts = Facts { etag, ..facts };
                store.learn(&blob.name, &facts);
                *lease.facts() = Some(facts);
                return Ok(token);
            }
            Err(error) if failure::is_not_ours(&error) => return Err(Error::lost(LossReason::Gone)),
            // A first try of ours, or a write of the holder. What was not given to anybody is passed over.
            Err(error) if failure::is_changed(&error) => {
                tracing::trace!(unsure, "the blob was changed under the lease")
            }
            Err(error) => return Err(store.failed("the fencing token can't be written", &error)),
        }
    }
    Err(Error::unavailable("the fencing token can't be written: the blob is changed all the time under the lease"))
}

async fn look(store: &Store, blob: &Blob) -> Result<Facts> {
    match try_again(store.environment(), || blob.look()).await.answer {
        Ok(facts) => Ok(facts),
        Err(error) if failure::is_missing_blob(&error) => Err(Error::lost(LossReason::Gone)),
        Err(error) => Err(store.failed("the fencing token can't be read", &error)),
    }
}

/// What comes after the counter's value.
fn after(facts: &Facts) -> Result<u64> {
    let Some(text) = facts.value(TOKEN) else { return Ok(1) };
    let last: Option<u64> = text.parse().ok();
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| {
        Error::new(ErrorKind::Misconfigured, format!("the metadata {TOKEN} of the blob is no counter that can go on"))
            .with_advice("find out who changed it, and set it to a number above all tokens that were given out")
    })
}

/// The last token of a lock, if there is one.
pub(crate) fn last(facts: &Facts) -> Option<u64> {
    facts.value(TOKEN)?.parse().ok().filter(|token| *token > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> Facts {
        Facts { metadata: [("PILOTMAN_token".to_owned(), value.to_owned())].into(), ..Facts::default() }
    }

    #[test]
    fn tokens_count_up() {
        assert_eq!(after(&Facts::default()).unwrap(), 1);
        assert_eq!(after(&with("41")).unwrap(), 42);
        assert_eq!(last(&with("41")), Some(41));
        assert_eq!((last(&with("0")), last(&Facts::default())), (None, None));
        for bad in ["", "x", "-1", &u64::MAX.to_string(), "1 2"] {
            assert_eq!(after(&with(bad)).unwrap_err().kind(), ErrorKind::Misconfigured, "{bad}");
        }
    }
}
