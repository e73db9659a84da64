//! What a refusal of the server or the network means for the caller.

use pilotman_core::{Error, ErrorKind};
use redis::RedisError;

/// Codes of refusals after which nothing has been done.
const REFUSALS: [&str; 12] = [
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGPASS",
    "WRONGTYPE",
];

/// The code of a server's refusal, also where an old server has wrapped it as an error of the script.
pub(crate) fn code(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    if code != "ERR" {
        return Some(code);
    }
    let detail = error.detail().unwrap_or_default();
    REFUSALS.into_iter().chain(["NOPERM"]).find(|known| detail.contains(known)).or(Some(code))
}

/// Whether the connection is of no further use.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_connection_dropped() || (error.is_io_error() && !error.is_timeout())
}

/// Whether this server is not, or no longer, the one to ask.
pub(crate) fn is_misdirected(error: &RedisError) -> bool {
    matches!(code(error), Some("READONLY" | "MASTERDOWN"))
}

/// Whether the cluster says that it will be able to answer in a moment.
pub(crate) fn is_momentary(error: &RedisError) -> bool {
    matches!(code(error), Some("TRYAGAIN" | "CLUSTERDOWN"))
}

/// The error of a command that was sent.
pub(crate) fn failed(error: RedisError) -> Error {
    use ErrorKind::{Misconfigured, Unavailable};
    let known = match code(&error) {
        // Redis 5 doesn't even know how to be asked for RESP3.
        Some("ERR") if error.detail().is_some_and(|detail| detail.contains("unknown command 'HELLO'")) => "NOPROTO",
        known => known.unwrap_or_default(),
    };
    let (kind, message, advice) = match known {
        "WRONGPASS" | "NOAUTH" => (
            Misconfigured,
            "the Redis refuses the user name or password",
            "set the right ones; a password alone is that of the user 'default'",
        ),
        "NOPERM" => (
            Misconfigured,
            "the Redis user may not do all that a lock needs",
            "allow it the keys and channels that begin with the key format's prefix, and reading, writing, scripts and \
             publishing",
        ),
        "READONLY" => (
            Unavailable,
            "this Redis is a read-only replica",
            "connect to the primary, or name all servers of the set so that the primary is found",
        ),
        "OOM" => (
            Unavailable,
            "the Redis has no memory left for writes",
            "raise maxmemory, or give locks a Redis of their own with the policy noeviction",
        ),
        "MISCONF" => {
            (Unavailable, "the Redis refuses writes because it can't save its data", "look at its log and its disk")
        }
        "LOADING" => (Unavailable, "the Redis is still loading its data", "try again in a moment"),
        "MASTERDOWN" | "NOREPLICAS" => {
            (Unavailable, "the Redis has lost touch with its primary or replicas", "look at the replication")
        }
        "CLUSTERDOWN" | "TRYAGAIN" => {
            (Unavailable, "the Redis Cluster can't serve this key at the moment", "see CLUSTER INFO if it goes on")
        }
        "WRONGTYPE" => (
            Misconfigured,
            "the key of this lock holds something that is no lock of this kind",
            "use another name or key format; Redisson, for one, keeps hashes where others keep strings",
        ),
        "NOPROTO" => (Misconfigured, "this server does not speak RESP3", "use Redis 6 or newer, or Valkey"),
        "BUSY" => (Unavailable, "the Redis is busy with a script that does not end", "see SCRIPT KILL"),
        _ => return unknown(error),
    };
    let refused = REFUSALS.contains(&known);
    with_source(Error::new(kind, message).with_advice(advice), error).no_effect(refused)
}

fn unknown(error: RedisError) -> Error {
    use redis::ErrorKind::{AuthenticationFailed, InvalidClientConfig, Parse, RESP3NotSupported, Server};
    let (kind, message, advice) = match error.kind() {
        AuthenticationFailed => (
            ErrorKind::Misconfigured,
            "the Redis refuses the user name or password",
            "set the right ones; a password alone is that of the user 'default'",
        ),
        RESP3NotSupported => {
            (ErrorKind::Misconfigured, "this server does not speak RESP3", "use Redis 6 or newer, or Valkey")
        }
        InvalidClientConfig => {
            (ErrorKind::Misconfigured, "the connection can't be set up like this", "check the TLS settings")
        }
        Parse => (
            ErrorKind::Unavailable,
            "the answer is not that of a Redis",
            "check host and port, and whether the port speaks TLS (then use rediss://)",
        ),
        Server(_) => (ErrorKind::Unavailable, "the Redis refused a command", "look at its log"),
        _ if is_broken(&error) => {
            (ErrorKind::Unavailable, "the connection to the Redis ended", "look whether the server runs")
        }
        _ => (ErrorKind::Unavailable, "the Redis could not be asked", "look whether the server runs"),
    };
    with_source(Error::new(kind, message).with_advice(advice), error).no_effect(false)
}

/// The error of a connection that could not be made; nothing has been asked of the server yet.
pub(crate) fn unconnected(error: RedisError, server: &str, tls: bool) -> Error {
    let text = error.to_string();
    let broken = is_broken(&error) || error.is_io_error();
    let handshake = ["handshake", "InvalidContentType", "corrupt message", "certificate", "UnknownIssuer", "tls"]
        .iter()
        .any(|telling| text.contains(telling));
    if tls && handshake && !error.is_connection_refusal() {
        let refused = Error::misconfigured(format!("no TLS connection to the Redis at {server}"))
            .with_advice("check that the port speaks TLS, the authority that is trusted, and the server's name");
        return with_source(refused, error);
    }
    let code = code(&error).is_some();
    if !broken || code || error.kind() == redis::ErrorKind::Parse {
        return failed(error).no_effect(true);
    }
    let advice = match tls {
        false if !error.is_connection_refusal() => {
            "look whether the server runs, and whether this port speaks TLS (then use rediss://)"
        }
        _ => "look whether the server runs and can be reached from here",
    };
    let refused = Error::unavailable(format!("can't connect to the Redis at {server}")).with_advice(advice);
    with_source(refused, error).no_effect(true)
}

/// Keeps the cause, unless it may hold a secret: a server that doesn't know a command repeats its arguments, the password
/// among them.
fn with_source(error: Error, cause: RedisError) -> Error {
    if echoes(&cause) { error } else { error.with_source(cause) }
}

fn echoes(error: &RedisError) -> bool {
    error.to_string().contains("with args beginning with")
}

/// The error of an answer that the scripts never give.
pub(crate) fn nonsense(what: &str, answer: &redis::Value) -> Error {
    tracing::debug!(?answer, "an answer to {what} that makes no sense");
    Error::new(ErrorKind::Internal, format!("the Redis answered {what} with something else than the script gives"))
        .with_advice("something between this process and the Redis may alter answers")
}
