//! What an error of the driver means for the caller.

use pilotman_core::{Error, ErrorKind, LossReason};
use zookeeper_client::Error as DriverError;

/// Whether the session has ended with this: its nodes are gone, or will be.
pub(crate) fn ends_session(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::SessionExpired
            | DriverError::SessionMoved
            | DriverError::AuthFailed
            | DriverError::ClientClosed
            | DriverError::NoHosts
            | DriverError::Timeout
    )
}

/// Whether a request may or may not have been carried out.
pub(crate) fn is_open(error: &DriverError) -> bool {
    match error {
        DriverError::ConnectionLoss | DriverError::UnmarshalError { .. } | DriverError::UnexpectedError(_) => true,
        DriverError::Custom(_) => true,
        other => ends_session(other),
    }
}

/// The session has ended while something was asked of it.
pub(crate) fn session_ended() -> Error {
    Error::unavailable("the session has ended").no_effect(false)
}

/// Whether the error is [`session_ended`].
pub(crate) fn is_session_end(error: &Error) -> bool {
    error.loss() == Some(&LossReason::SessionEnded)
}

/// The session has ended, for callers that go on in another one.
pub(crate) fn lost_session() -> Error {
    Error::lost(LossReason::SessionEnded)
}

/// An error of a request about this node.
pub(crate) fn of_request(error: DriverError, path: &str) -> Error {
    let path = shown(path);
    match error {
        DriverError::NoAuth => Error::misconfigured(format!("ZooKeeper does not allow this at the node {path}"))
            .with_advice(
                "authenticate as somebody who may create, read and delete there, or change its access control list",
            ),
        DriverError::InvalidAcl => Error::misconfigured(
            "ZooKeeper refuses the access control list of the locks' nodes",
        )
        .with_advice("its schemes and ids must be known to the servers; the scheme auth needs authentication (digest)"),
        DriverError::NoChildrenForEphemerals => {
            Error::misconfigured(format!("the node {path} is ephemeral, so no lock can be below it"))
                .with_advice("use another directory")
        }
        DriverError::QuotaExceeded => Error::unavailable(format!("the quota of the node {path} is used up")),
        DriverError::NotReadOnly => {
            Error::unavailable("the server takes no writes: it has lost the others of its ensemble")
        }
        DriverError::Throttled => Error::unavailable("the server refuses requests since it has too many"),
        DriverError::Unimplemented => {
            Error::misconfigured("the server is too old").with_advice("ZooKeeper 3.5 or newer is needed")
        }
        DriverError::MarshallingError => Error::invalid_name("the name is longer than the servers take in a packet"),
        DriverError::BadArguments(why) => Error::invalid_name(format!("ZooKeeper can't have this node: {why}")),
        DriverError::ConnectionLoss => {
            return Error::unavailable("the connection to ZooKeeper was lost").no_effect(false);
        }
        error if ends_session(&error) => return session_ended(),
        error @ (DriverError::NoNode | DriverError::NodeExists | DriverError::NotEmpty | DriverError::BadVersion) => {
            Error::unavailable(format!("the node {path} was changed by others: {error}"))
        }
        error => {
            return Error::new(ErrorKind::Unavailable, format!("ZooKeeper refused a request about {path}"))
                .with_source(error)
                .no_effect(false);
        }
    }
    .no_effect(true)
}

/// A path short enough for a message.
pub(crate) fn shown(path: &str) -> String {
    let mut shown: String = path.chars().take(120).flat_map(char::escape_debug).collect();
    if path.chars().nth(120).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_can_be_done() {
        for (error, kind, no_effect) in [
            (DriverError::NoAuth, ErrorKind::Misconfigured, true),
            (DriverError::InvalidAcl, ErrorKind::Misconfigured, true),
            (DriverError::QuotaExceeded, ErrorKind::Unavailable, true),
            (DriverError::ConnectionLoss, ErrorKind::Unavailable, false),
            (DriverError::SessionExpired, ErrorKind::Unavailable, false),
            (DriverError::UnexpectedErrorCode(-7), ErrorKind::Unavailable, false),
        ] {
            let mapped = of_request(error.clone(), "/a");
            assert_eq!((mapped.kind(), mapped.has_no_effect()), (kind, no_effect), "{error}: {mapped}");
        }
        assert!(is_open(&DriverError::ConnectionLoss) && !is_open(&DriverError::NoAuth));
        assert!(is_session_end(&lost_session()) && !is_session_end(&session_ended()));
    }
}
