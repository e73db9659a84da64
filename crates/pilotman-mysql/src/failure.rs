//! What an error of the server or the network means for the caller.

use mysql_async::{DriverError, Error as DriversError, IoError};
use pilotman_core::{Error, ErrorKind};

const ACCESS_DENIED: u16 = 1045;
const DATABASE_DENIED: u16 = 1044;
const NO_DATABASE: u16 = 1046;
const UNKNOWN_DATABASE: u16 = 1049;
const UNKNOWN_TABLE: u16 = 1146;
const INTERRUPTED: u16 = 1317;
const NEEDS_TLS: u16 = 3159;

/// The number of a server's error.
pub(crate) fn code(error: &DriversError) -> Option<u16> {
    match error {
        DriversError::Server(error) => Some(error.code),
        _ => None,
    }
}

/// Whether a statement was ended by `KILL QUERY`.
pub(crate) fn is_interrupted(error: &DriversError) -> bool {
    code(error) == Some(INTERRUPTED)
}

/// Whether a table is not there.
pub(crate) fn is_missing(error: &DriversError) -> bool {
    code(error) == Some(UNKNOWN_TABLE)
}

/// Whether no lock can have this name.
pub(crate) fn is_bad_name(error: &DriversError) -> bool {
    matches!(code(error), Some(1059 | 3057 | 4163))
}

/// Whether the session has ended with this.
pub(crate) fn is_end(error: &DriversError) -> bool {
    match code(error) {
        // Shutting down; killed; idle for too long; packets that can't be read or written.
        Some(code) => [1053, 1079, 1080, 1927, 4031].contains(&code) || (1152..=1161).contains(&code),
        None => true,
    }
}

/// Whether the server has no TLS.
pub(crate) fn has_no_tls(error: &DriversError) -> bool {
    matches!(error, DriversError::Driver(DriverError::NoClientSslFlagFromServer))
}

/// An error of a statement.
pub(crate) fn of_statement(error: DriversError) -> Error {
    let DriversError::Server(said) = &error else { return lost(error) };
    let text = |what: &str| format!("{what}: {} ({})", shown(&said.message), said.code);
    match said.code {
        1213 | 3058 => Error::new(ErrorKind::Deadlock, text("the server found a deadlock"))
            .with_advice("take locks in the same order everywhere"),
        _ if is_bad_name(&error) => Error::invalid_name(text("the server can't have a lock of this name"))
            .with_advice("let names be mapped (names=dotnet or names=strict)"),
        INTERRUPTED => Error::unavailable(text("somebody ended the statement")),
        DATABASE_DENIED | 1095 | 1142 | 1227 | 1370 => Error::misconfigured(text("the user may not do this"))
            .with_advice("grant what the page of the backend lists"),
        NO_DATABASE => Error::misconfigured(text("no database is named"))
            .with_advice("name the database that the table of the fencing tokens is in"),
        1290 | 1792 | 1836 => {
            Error::misconfigured(text("the server takes no writes")).with_advice("connect to the primary")
        }
        _ if is_end(&error) => return lost(error),
        _ => Error::unavailable(text("the server refused the statement")),
    }
    .no_effect(true)
}

/// The server takes no writes, or has ceased to.
pub(crate) fn is_read_only(host: &str) -> Error {
    Error::misconfigured(format!(
        "{host} is read-only, as a replica is: locks there keep out nobody who locks at the primary"
    ))
    .with_advice("connect to the primary; with several hosts the read-only ones are passed over")
    .no_effect(true)
}

/// The connection has failed.
pub(crate) fn lost(error: DriversError) -> Error {
    Error::unavailable("the connection to the server has failed").with_source(error).no_effect(false)
}

/// An error of connecting to this host.
pub(crate) fn of_connecting(host: &str, user: &str, error: DriversError) -> Error {
    let misconfigured = |what: &str| Error::misconfigured(format!("{host} {what}"));
    let DriversError::Server(said) = &error else {
        return match &error {
            error if has_no_tls(error) => misconfigured("doesn't speak TLS, which is demanded here")
                .with_advice("set it up at the server, or allow connections without it (tls=prefer)"),
            DriversError::Driver(
                DriverError::UnknownAuthPlugin { .. }
                | DriverError::CleartextPluginDisabled
                | DriverError::MysqlOldPasswordDisabled,
            ) => misconfigured("asks for a way to log in that is not known here")
                .with_advice("let the user log in by caching_sha2_password or mysql_native_password"),
            DriversError::Io(IoError::Tls(_)) => misconfigured("has a certificate or asks for one that can't be used"),
            DriversError::Io(IoError::Io(io)) if is_certificate(io) => {
                misconfigured("has a certificate that is not to be trusted")
                    .with_advice("give its certificate authority (ca), and connect by the name in the certificate")
            }
            _ => Error::unavailable(format!("{host} did not begin a session")),
        }
        .with_source(error)
        .no_effect(true);
    };
    let text = |what: &str| format!("{host} {what}: {} ({})", shown(&said.message), said.code);
    match said.code {
        ACCESS_DENIED | 1698 => Error::misconfigured(text(&format!("refuses the user {user:?}")))
            .with_advice("see whether user, password and the hosts that he may come from are right"),
        DATABASE_DENIED => Error::misconfigured(text("keeps the user from the database")),
        UNKNOWN_DATABASE => Error::misconfigured(text("has no such database"))
            .with_advice("name one that is there; locks need none, fencing tokens do"),
        1129 | 1130 => Error::misconfigured(text("refuses this machine")),
        NEEDS_TLS => Error::misconfigured(text("takes no connection without TLS"))
            .with_advice("allow it (tls=prefer) or demand it (tls=require)"),
        1040 | 1203 | 1226 => Error::unavailable(text("has no connection left"))
            .with_advice("raise max_connections at the server, or allow fewer sessions here (max-sessions)"),
        1053 => Error::unavailable(text("is shutting down")),
        1158..=1161 => Error::unavailable(text("takes no sessions at the moment")),
        _ => Error::misconfigured(text("refuses the session")),
    }
    .no_effect(true)
}

fn is_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// What a server says, shortened: it may quote whole statements.
fn shown(message: &str) -> String {
    message.chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> DriversError {
        DriversError::Server(mysql_async::ServerError { code, message: "so\n".into(), state: "HY000".into() })
    }

    #[test]
    fn errors_say_what_can_be_done() {
        for (code, kind) in [
            (1213, ErrorKind::Deadlock),
            (3058, ErrorKind::Deadlock),
            (1059, ErrorKind::InvalidName),
            (4163, ErrorKind::InvalidName),
            (1227, ErrorKind::Misconfigured),
            (1317, ErrorKind::Unavailable),
            (1205, ErrorKind::Unavailable),
        ] {
            let error = of_statement(server(code));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.has_no_effect());
        }
        let killed = of_statement(server(1927));
        assert!(!killed.has_no_effect() && killed.kind() == ErrorKind::Unavailable, "{killed}");
    }

    #[test]
    fn errors_of_connecting_name_the_host() {
        for (code, kind) in
            [(1045, ErrorKind::Misconfigured), (1049, ErrorKind::Misconfigured), (1040, ErrorKind::Unavailable)]
        {
            let error = of_connecting("db:3306", "app", server(code));
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("db:3306"), "{error}");
        }
    }
}
