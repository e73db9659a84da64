//! What an error of the service, the network or a credential means for the caller.

use std::error::Error as StdError;

use azure_core::Error as SdkError;
use azure_core::error::ErrorKind as SdkKind;
use azure_core::http::StatusCode;
use pilotman_core::Error;

/// Most of what a credential says about itself.
const LONGEST: usize = 300;

/// The status of an answer, and what the service calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) status: u16,
    pub(crate) code: &'a str,
}

/// What the service said, if it is that which said something.
pub(crate) fn said(error: &SdkError) -> Option<Said<'_>> {
    match error.kind() {
        SdkKind::HttpResponse { status, error_code, .. } => {
            Some(Said { status: u16::from(*status), code: error_code.as_deref().unwrap_or_default() })
        }
        _ => None,
    }
}

/// Whether the service said this.
pub(crate) fn is(error: &SdkError, codes: &[&str]) -> bool {
    said(error).is_some_and(|said| codes.contains(&said.code))
}

/// Whether the blob is not there. An answer to `HEAD` has no body, and may have no code.
pub(crate) fn is_missing_blob(error: &SdkError) -> bool {
    said(error)
        .is_some_and(|said| said.status == 404 && !matches!(said.code, "ContainerNotFound" | "ContainerBeingDeleted"))
}

/// Whether a request that failed for the moment may have been carried out.
pub(crate) fn may_be_done(error: &SdkError) -> bool {
    !matches!(error.kind(), SdkKind::Connection) && said(error).is_none_or(|said| said.status != 429)
}

/// Whether somebody has the blob leased.
pub(crate) fn is_leased(error: &SdkError) -> bool {
    is(error, &["LeaseAlreadyPresent", "LeaseIsBreakingAndCannotBeAcquired", "LeaseIsBreakingAndCannotBeChanged"])
}

/// Whether a lease that was named is no longer the blob's.
pub(crate) fn is_not_ours(error: &SdkError) -> bool {
    let lease = [
        "LeaseIdMismatchWithLeaseOperation",
        "LeaseIdMismatchWithBlobOperation",
        "LeaseNotPresentWithLeaseOperation",
        "LeaseNotPresentWithBlobOperation",
        "LeaseIsBrokenAndCannotBeRenewed",
        "LeaseIsBreakingAndCannotBeChanged",
        "LeaseLost",
    ];
    // With its code: a 404 without one is of something between here and the service, and nothing is asked by HEAD here.
    is(error, &lease) || is(error, &["BlobNotFound", "ResourceNotFound", "ContainerNotFound", "ContainerBeingDeleted"])
}

/// Whether the blob was changed since it was looked at.
pub(crate) fn is_changed(error: &SdkError) -> bool {
    said(error).is_some_and(|said| said.status == 412 && matches!(said.code, "ConditionNotMet" | ""))
}

/// Whether the same request may well succeed a moment later.
pub(crate) fn is_transient(error: &SdkError) -> bool {
    match error.kind() {
        SdkKind::HttpResponse { status, .. } => {
            matches!(u16::from(*status), 408 | 429 | 500 | 502 | 503 | 504)
        }
        SdkKind::Connection => certificate(error).is_none(),
        SdkKind::Io => true,
        _ => false,
    }
}

/// Whether a credential that fails so may well succeed a moment later: it is the way to where it asks that failed.
pub(crate) fn is_passing(error: &SdkError) -> bool {
    let inner = || error.get_ref().and_then(|inner| inner.downcast_ref::<SdkError>());
    is_transient(error) || inner().is_some_and(is_passing)
}

/// Whether it may be a matter of the credential, which others may mend: they grant a right, they renew a secret.
pub(crate) fn is_refusal(error: &SdkError) -> bool {
    matches!(error.kind(), SdkKind::Credential) || said(error).is_some_and(|said| matches!(said.status, 401 | 403))
}

/// What to tell the caller. `what` is what was done, as in "the lease can't be taken".
pub(crate) fn error(what: &str, error: &SdkError) -> Error {
    match error.kind() {
        SdkKind::HttpResponse { status, .. } => answer(what, *status, said(error).map_or("", |said| said.code)),
        SdkKind::Connection => match certificate(error) {
            Some(why) => {
                Error::misconfigured(format!("{what}: the certificate of the service is not to be trusted: {why}"))
                    .with_advice("give its certificate authority (ca-file), and connect by the name in the certificate")
            }
            None => Error::unavailable(format!("{what}: the service can't be reached{}", cause(error))).no_effect(true),
        },
        SdkKind::Io => Error::unavailable(format!("{what}: the connection has failed{}", cause(error))),
        SdkKind::Credential if is_passing(error) => {
            let why = shown(&error.to_string());
            // It is asked for before anything is sent.
            Error::unavailable(format!("{what}: there is no token of Entra ID at the moment: {why}")).no_effect(true)
        }
        SdkKind::Credential => {
            Error::misconfigured(format!("{what}: there is no token of Entra ID: {}", shown(&error.to_string())))
                .with_advice("see whether this machine or its user has an identity that may use the container")
        }
        _ => Error::unavailable(format!("{what}: the answer can't be used{}", cause(error))).retryable(false),
    }
}

fn answer(what: &str, status: StatusCode, code: &str) -> Error {
    let status = u16::from(status);
    let name = if code.is_empty() { "no code" } else { code };
    let text = |why: &str| format!("{what}: {why} ({status} {})", shown(name));
    let error = match (status, code) {
        (404, "ContainerNotFound") => Error::misconfigured(text("the container is not there"))
            .with_advice("make it, or have it made (create-container=true)"),
        (409, "ContainerBeingDeleted") => Error::unavailable(text("the container is being deleted"))
            .with_advice("wait for half a minute, or use another one"),
        (_, "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions" | "AuthorizationResourceTypeMismatch") => {
            Error::misconfigured(text("the SAS or identity has no right to do this"))
                .with_advice("grant what the page of the backend lists: read, write and delete on the blobs")
        }
        (_, "AuthorizationProtocolMismatch" | "AccountRequiresHttps") => {
            Error::misconfigured(text("the service wants TLS")).with_advice("use an endpoint with https://")
        }
        (401 | 403, _) => Error::misconfigured(text("the service refuses this account, key, SAS or identity")).with_advice(
            "see whether it is the right one, is not past its end and has the rights that the page of the backend lists; for \
             a shared key the clock of this machine must be right to within 15 minutes (pilotman doctor looks)",
        ),
        (400, "InvalidResourceName" | "InvalidUri" | "OutOfRangeInput") => {
            Error::invalid_name(text("the service can't have a blob of this name"))
                .with_advice("let names be mapped (names=dotnet or names=strict)")
        }
        (409, "BlobImmutableDueToPolicy" | "BlobImmutableDueToLegalHold") => {
            Error::misconfigured(text("a policy keeps the blob from being changed"))
                .with_advice("use a container without immutability policies and legal holds")
        }
        (503, _) | (429, _) => Error::unavailable(text("the service is busy")),
        (408 | 500..=599, _) => Error::unavailable(text("the service has failed")),
        _ => Error::unavailable(text("the service refuses the request")).retryable(false),
    };
    // What was refused was not done. What was cut short may have been.
    let is_done = (400..=499).contains(&status) && status != 408;
    error.no_effect(is_done)
}

/// What lies beneath an error, without URLs: they may hold a SAS.
fn cause(error: &SdkError) -> String {
    innermost(error).map_or_else(String::new, |cause| format!(": {}", shown(&cause)))
}

fn innermost(error: &SdkError) -> Option<String> {
    let mut inner: &(dyn StdError + 'static) = error.get_ref()?;
    while let Some(next) = inner.source() {
        inner = next;
    }
    match inner.is::<reqwest::Error>() {
        true => None,
        false => Some(inner.to_string()),
    }
}

/// What is wrong with a certificate, if that is it.
fn certificate(error: &SdkError) -> Option<String> {
    error.get_ref().and_then(|inner| invalid(inner)).map(|why| shown(&why))
}

fn invalid(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why.to_string());
    }
    // What an error of the system wraps is not among its sources.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
    wrapped.and_then(|wrapped| invalid(wrapped)).or_else(|| error.source().and_then(invalid))
}

/// A stranger's words, shortened and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use pilotman_core::ErrorKind;

    use super::*;

    fn http(status: u16, code: &str) -> SdkError {
        let status = StatusCode::from(status);
        let error_code = Some(code.to_owned()).filter(|code| !code.is_empty());
        SdkKind::HttpResponse { status, error_code, raw_response: None }.into_error()
    }

    #[test]
    fn errors_say_what_can_be_done() {
        for (status, code, kind, has_no_effect) in [
            (403, "AuthenticationFailed", ErrorKind::Misconfigured, true),
            (401, "", ErrorKind::Misconfigured, true),
            (404, "ContainerNotFound", ErrorKind::Misconfigured, true),
            (409, "ContainerBeingDeleted", ErrorKind::Unavailable, true),
            (400, "InvalidResourceName", ErrorKind::InvalidName, true),
            (503, "ServerBusy", ErrorKind::Unavailable, false),
            (500, "OperationTimedOut", ErrorKind::Unavailable, false),
            (418, "Teapot", ErrorKind::Unavailable, true),
        ] {
            let error = error("it can't be", &http(status, code));
            assert_eq!((error.kind(), error.has_no_effect()), (kind, has_no_effect), "{error}");
            assert!(error.to_string().contains(code), "{error}");
        }
        assert!(!error("it can't be", &http(418, "")).is_retryable());
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(is_leased(&http(409, "LeaseAlreadyPresent")));
        assert!(
            is_not_ours(&http(409, "LeaseIdMismatchWithLeaseOperation")) && is_not_ours(&http(404, "BlobNotFound"))
        );
        assert!(is_missing_blob(&http(404, "")) && !is_missing_blob(&http(404, "ContainerNotFound")));
        assert!(is_changed(&http(412, "ConditionNotMet")) && !is_changed(&http(412, "LeaseLost")));
        assert!(is_transient(&http(503, "")) && !is_transient(&http(409, "")));
        assert!(is_transient(&SdkKind::Io.into_error()) && !is_transient(&SdkKind::Credential.into_error()));
    }

    #[test]
    fn a_url_with_a_signature_is_not_shown() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        // Nobody listens on port 1 of this machine.
        let refused = runtime.block_on(client.get("http://127.0.0.1:1/x?sig=hunter2").send()).unwrap_err();
        assert!(refused.to_string().contains("hunter2"), "it would be: {refused}");
        let error = error("it can't be", &SdkError::with_error(SdkKind::Connection, refused, "failed"));
        assert!(!error.to_string().contains("hunter2") && error.has_no_effect(), "{error}");
    }
}
