//! Whether a container is set up safely for locks. Nothing is changed: where a right is tried, it is on a blob that isn't there.

use std::time::{Duration, SystemTime};

use azure_core::http::headers::{HeaderName, Headers};
use azure_core::time::{OffsetDateTime, parse_rfc7231};
use azure_storage_blob::models::BlobContainerClientListBlobsOptions;
use futures_util::TryStreamExt;
use pilotman_core::backend::Finding;
use pilotman_core::{ErrorKind, Result};

use crate::blob::{Blob, Metadata};
use crate::failure;
use crate::hold::lease_id;
use crate::inspect;
use crate::options::{Access, Place};
use crate::sas::Sas;
use crate::store::{Store, asked};

/// The tag of no blob.
const NO_TAG: &str = "\"0x0\"";
const HAS_POLICY: HeaderName = HeaderName::from_static("x-ms-has-immutability-policy");
const HAS_LEGAL_HOLD: HeaderName = HeaderName::from_static("x-ms-has-legal-hold");
const HAS_POLICIES_OF_VERSIONS: HeaderName = HeaderName::from_static("x-ms-immutable-storage-with-versioning-enabled");
/// When the service answered, by its own clock.
const DATE: HeaderName = HeaderName::from_static("date");
/// Who gives no answer at first is not asked for more.
const FIRST: Duration = Duration::from_secs(10);
/// Azure refuses a signature that is older than this, in seconds.
const REFUSED: i64 = 15 * 60;
/// From here on a clock is wrong.
const WRONG: i64 = 60;
/// A SAS that ends within so many seconds is soon of no use.
const SOON: i64 = 7 * 24 * 60 * 60;

/// See the [module](self).
pub(crate) async fn diagnose(store: &Store) -> Result<Vec<Finding>> {
    asked(store, FIRST, inspect::check(store)).await?;
    let mut findings = vec![Finding::fine("use", "the container can be reached and used")];
    findings.push(transport(store));
    findings.extend(signature(store));
    container(store, &mut findings).await;
    findings.push(soft_delete(store).await);
    findings.push(rights(store).await?);
    findings.extend(lists(store).await);
    findings.push(ends(store));
    findings.push(Finding::note(
        "failover",
        "after a failover of the account to another region leases may be gone, and tokens go on from what had been copied",
    ));
    Ok(findings)
}

fn transport(store: &Store) -> Finding {
    let Place::Endpoint { endpoint, .. } = &store.options.place else {
        return Finding::note("client", "the client was handed in: its retries and time-outs are not known here")
            .advice("let it give up within a few seconds: a lease is 15 s to 60 s");
    };
    match endpoint.scheme() {
        "https" => Finding::fine("transport", "requests go by TLS"),
        _ => Finding::warning("transport", "requests go without TLS: whoever sees them may break locks")
            .advice("use an endpoint with https://, but for an emulator on this machine"),
    }
}

/// What the signature says about itself.
fn signature(store: &Store) -> Vec<Finding> {
    match &store.options.access {
        Access::Sas(sas) => of_sas(sas, OffsetDateTime::now_utc()),
        Access::Key(_) => vec![
            Finding::note("access", "the account key allows everything in the account")
                .advice("a SAS for the container or Entra ID is safer"),
        ],
        Access::Identity(_) => vec![Finding::fine("access", "tokens of Entra ID are renewed by themselves")],
        Access::None => Vec::new(),
    }
}

fn of_sas(sas: &Sas, now: OffsetDateTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match sas.expires().map(|end| (end - now).whole_seconds()) {
        None => Finding::note("sas", "when the SAS ends is left to a stored access policy"),
        Some(left) if left <= 0 => Finding::problem("sas", "the SAS is past its end").advice("give a new one"),
        Some(left) if left < SOON => Finding::warning("sas", format!("the SAS ends in {} hours", left / 3600))
            .advice("give a new one in time: when it ends, holds are lost with their leases"),
        Some(left) => Finding::fine("sas", format!("the SAS ends in {} days", left / 86_400)),
    });
    if sas.starts().is_some_and(|start| start > now) {
        findings.push(Finding::problem("sas", "the SAS has not begun yet").advice("see whether the clocks agree"));
    }
    match sas.lacks("rwd") {
        Some(missing) if missing.contains(['r', 'w']) => findings.push(
            Finding::problem("rights", format!("the SAS lacks the rights '{missing}'")).advice("give one with rwdl"),
        ),
        _ => {}
    }
    if sas.is_for_one_blob() {
        findings.push(Finding::warning("sas", "the SAS is for one blob: there are no locks of other names"));
    }
    findings
}

/// Policies of the container, and by the way how far the service's clock is from ours.
async fn container(store: &Store, findings: &mut Vec<Finding>) {
    let Some(container) = store.container() else {
        return findings
            .push(Finding::note("container", "only a blob's client was handed in: the container is not looked at"));
    };
    let found = match container.get_properties(None).await {
        Ok(found) => found,
        Err(error) => {
            let why = failure::error("the container's properties can't be read", &error);
            return findings.push(Finding::note(
                "immutability",
                format!("whether policies keep blobs from being changed is not known: {why}"),
            ));
        }
    };
    findings.push(immutability(found.headers()));
    findings.push(clock(found.headers(), matches!(store.options.access, Access::Key(_))));
}

/// Whether policies keep blobs as they are. Those of single blobs, and of versions, are not told with the container.
fn immutability(headers: &Headers) -> Finding {
    let on = |name| headers.get_optional_str(&name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let what = match (on(HAS_POLICY), on(HAS_LEGAL_HOLD)) {
        (true, _) => "an immutability policy",
        (false, true) => "a legal hold",
        (false, false) if on(HAS_POLICIES_OF_VERSIONS) => {
            return Finding::warning(
                "immutability",
                "the container may have policies for each version of a blob: where one applies, blobs that are made for locks \
                 can't be removed, nor fencing tokens be counted",
            )
            .advice("use a container without");
        }
        (false, false) => {
            return Finding::fine("immutability", "no policy keeps the container's blobs from being changed");
        }
    };
    Finding::problem(
        "immutability",
        format!(
            "the container has {what}: blobs that are made for locks can't be removed, nor fencing tokens be counted"
        ),
    )
    .advice("use a container without")
}

fn clock(headers: &Headers, is_signed: bool) -> Finding {
    let served = headers.get_optional_str(&DATE).and_then(|date| parse_rfc7231(date).ok());
    let Some(served) = served else { return Finding::note("clock", "the service doesn't tell its time") };
    let ahead = (served - OffsetDateTime::from(SystemTime::now())).whole_seconds();
    // It tells whole seconds.
    let apart = ahead.abs() - 1;
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    let what = format!("the clock of this machine is {} s {side} the service's", ahead.abs());
    match apart {
        ..=2 => Finding::fine("clock", "the clock of this machine agrees with the service's"),
        _ if apart >= REFUSED && is_signed => {
            Finding::problem("clock", what + ", which refuses signatures by it").advice("set it right")
        }
        _ if apart >= WRONG => Finding::warning("clock", what).advice(
            "set it right: from 15 minutes on signatures are refused, and a SAS begins or ends at another time",
        ),
        _ => Finding::note("clock", what),
    }
}

/// Whether blobs that are removed stay for a while.
async fn soft_delete(store: &Store) -> Finding {
    const ADVICE: &str = "let blobs stay (keep-blobs=true), or switch soft delete off for this account";
    if store.keeps_blobs() {
        return Finding::fine("soft delete", "blobs of locks stay, so that there is nothing to keep of them");
    }
    let Some(service) = store.service() else {
        return Finding::note("soft delete", "whether the account has it is not known of a client that was handed in")
            .advice(ADVICE);
    };
    let policy = match service.get_properties(None).await.and_then(|found| found.into_model()) {
        Ok(properties) => properties.delete_retention_policy,
        Err(error) => {
            let why = failure::error("the service's properties can't be read", &error);
            return Finding::note("soft delete", format!("whether the account has it is not known: {why}"))
                .advice(ADVICE);
        }
    };
    match policy.filter(|policy| policy.enabled == Some(true)) {
        None => Finding::fine("soft delete", "blobs that are removed are gone"),
        Some(policy) => Finding::warning(
            "soft delete",
            format!("each release leaves a deleted blob behind for {} days, which costs", policy.days.unwrap_or(0)),
        )
        .advice(ADVICE),
    }
}

/// Tries what locks do on a blob that is not there: who may do it is told that, who may not is refused.
async fn rights(store: &Store) -> Result<Finding> {
    let random = store.environment().map_or(0, |environment| environment.random.next());
    let Some(blob) = store.blob_itself(format!("{}pilotman-doctor-{random:016x}", store.naming.prefix())) else {
        return Ok(Finding::note("rights", "what may be done to the blob is not tried"));
    };
    let id = lease_id(pilotman_core::backend::AttemptId(u128::from(random)));
    let asked = [
        ("read blobs", blob.look().await.map(drop)),
        ("lease blobs", blob.release(&id).await),
        ("write blobs", create_nothing(&blob, &id).await),
        ("remove blobs", blob.delete(Some(&id), NO_TAG).await),
    ];
    let mut denied = Vec::new();
    for (right, answer) in asked {
        if let Err(error) = answer
            && failure::said(&error).is_none_or(|said| matches!(said.status, 401 | 403))
        {
            let error = failure::error("a right can't be tried", &error);
            match error.kind() {
                ErrorKind::Misconfigured => denied.push(right),
                _ => return Err(error),
            }
        }
    }
    Ok(match denied.as_slice() {
        [] => Finding::fine("rights", "blobs may be read, written, leased and removed"),
        ["remove blobs"] => Finding::warning("rights", "blobs may not be removed: those that are made for locks stay")
            .advice("grant the right to delete, or say so (keep-blobs=true)"),
        denied => Finding::problem("rights", format!("this program may not {}", denied.join(", ")))
            .advice("grant the role Storage Blob Data Contributor, or give a SAS with rwdl"),
    })
}

/// A write that can't succeed, since there is no blob to be as it says.
async fn create_nothing(blob: &Blob, id: &str) -> azure_core::Result<()> {
    blob.write(id, NO_TAG, &Metadata::new()).await.map(drop)
}

/// Whether locks can be listed.
async fn lists(store: &Store) -> Option<Finding> {
    let options = BlobContainerClientListBlobsOptions { maxresults: Some(1), ..Default::default() };
    let mut pages = store.container()?.list_blobs(Some(options)).ok()?.into_pages();
    match pages.try_next().await {
        Ok(_) => Some(Finding::fine("list", "blobs may be listed")),
        Err(_) => Some(Finding::note("list", "blobs may not be listed, so that locks can't be either")),
    }
}

fn ends(store: &Store) -> Finding {
    match store.options.lease {
        Some(lease) => {
            Finding::fine("lease", format!("the lock of a process that dies is free after {} s", lease.as_secs()))
        }
        None => Finding::warning("lease", "leases have no end: the lock of a process that dies stays taken")
            .advice("break it (pilotman release --force), or use leases with an end"),
    }
}

#[cfg(test)]
mod tests {
    use azure_core::time::to_rfc7231;
    use pilotman_core::backend::Severity;

    use super::*;

    #[test]
    fn clocks_are_compared() {
        for (off, is_signed, severity) in [
            (0, true, Severity::Fine),
            (30, true, Severity::Note),
            (-120, true, Severity::Warning),
            (3600, true, Severity::Problem),
            (-3600, false, Severity::Warning),
        ] {
            let mut headers = Headers::new();
            headers.insert(DATE, to_rfc7231(&(OffsetDateTime::now_utc() + azure_core::time::Duration::seconds(off))));
            let finding = clock(&headers, is_signed);
            assert_eq!(finding.severity, severity, "{off}: {finding}");
            assert!(off <= 1 || finding.what.contains("behind"), "{finding}");
        }
        assert_eq!(clock(&Headers::new(), true).severity, Severity::Note);
    }

    #[test]
    fn policies_are_looked_at() {
        for (name, severity) in [
            ("x-ms-has-immutability-policy", Severity::Problem),
            ("x-ms-has-legal-hold", Severity::Problem),
            ("x-ms-immutable-storage-with-versioning-enabled", Severity::Warning),
        ] {
            for (value, severity) in [("true", severity), ("false", Severity::Fine)] {
                let mut headers = Headers::new();
                headers.insert(name, value);
                let finding = immutability(&headers);
                assert_eq!(finding.severity, severity, "{name}: {finding}");
            }
        }
        assert_eq!(immutability(&Headers::new()).severity, Severity::Fine);
    }

    #[test]
    fn a_sas_is_looked_at() {
        let now = azure_core::time::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        for (text, severity) in [
            ("se=2025-12-31", Severity::Problem),
            ("se=2026-01-03&sp=rwd", Severity::Warning),
            ("se=2027-01-01&sp=rwd", Severity::Fine),
            ("si=policy", Severity::Note),
            ("se=2027-01-01&sp=r", Severity::Problem),
            ("se=2027-01-01&sp=rwd&st=2026-06-01", Severity::Problem),
            ("se=2027-01-01&sp=rwd&sr=b", Severity::Warning),
        ] {
            let sas = Sas::parse(&format!("sv=1&sig=x&{text}")).unwrap();
            let worst = of_sas(&sas, now).into_iter().map(|finding| finding.severity).max();
            assert_eq!(worst, Some(severity), "{text}");
        }
    }
}
