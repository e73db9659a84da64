//! What an error of the server or the network means for the caller.

use std::fmt;

use pilotman_core::{Error, ErrorKind};
use tiberius::error::Error as DriversError;

/// A class from which on the server ends the connection.
const FATAL: u8 = 20;
/// The transaction was chosen as a deadlock's victim.
pub(crate) const DEADLOCK: u32 = 1205;
/// An application lock was to be released that this session does not hold.
pub(crate) const NOT_HELD: u32 = 1223;
const OBJECT_EXISTS: u32 = 2714;
const NO_OBJECT: u32 = 208;

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server said so; the connection goes on, mostly.
    Said {
        /// The number of the error.
        number: u32,
        /// How severe it is.
        class: u8,
        /// In words.
        message: String,
    },
    /// The server is to be had at another address.
    Routed(String, u16),
    /// The connection can't be used any more.
    Broken(DriversError),
}

impl From<DriversError> for Failure {
    fn from(error: DriversError) -> Self {
        match error {
            DriversError::Server(said) => {
                Self::Said { number: said.code(), class: said.class(), message: shown(said.message()) }
            }
            DriversError::Routing { host, port } => Self::Routed(host, port),
            error => Self::Broken(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said { number, message, .. } => write!(f, "{message} ({number})"),
            Self::Routed(host, port) => write!(f, "the server is to be had at {}:{port}", shown(host)),
            Self::Broken(error) => f.write_str(&shown(&error.to_string())),
        }
    }
}

impl Failure {
    /// An answer that makes no sense.
    pub(crate) fn nonsense(what: &'static str) -> Self {
        Self::Broken(DriversError::Protocol(what.into()))
    }

    /// The number of a server's error.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Self::Said { number, .. } => Some(*number),
            _ => None,
        }
    }

    /// Whether the session has ended with this.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            // Killed; its state can't be had back; shutting down.
            Self::Said { number, class, .. } => *class >= FATAL || [596, 3980, 6005, 18456].contains(number),
            _ => true,
        }
    }

    /// Whether something is there already.
    pub(crate) fn exists(&self) -> bool {
        self.number() == Some(OBJECT_EXISTS)
    }

    /// Whether something is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.number() == Some(NO_OBJECT)
    }

    /// Whether the login may not do or see this.
    pub(crate) fn is_denied(&self) -> bool {
        // EXECUTE or SELECT; CREATE; the state of the server or the database; the schema; KILL; something that is not to be seen.
        matches!(self.number(), Some(229 | 262 | 297 | 300 | 371 | 2760 | 6102 | 15151 | 15247))
    }
}

/// An error of a statement.
pub(crate) fn of_statement(failure: Failure) -> Error {
    if failure.is_end() {
        return lost(failure);
    }
    let text = |what: &str| format!("{what}: {failure}");
    match failure.number() {
        Some(DEADLOCK) => Error::new(ErrorKind::Deadlock, text("the server found a deadlock"))
            .with_advice("take locks in the same order everywhere"),
        Some(_) if failure.is_denied() => Error::misconfigured(text("the login may not do this"))
            .with_advice("grant what the page of the backend lists"),
        Some(3906) => Error::misconfigured(text("the database takes no writes"))
            .with_advice("connect to the primary, or name another database"),
        // Cancelled by an attention, or a lock time-out that somebody set.
        Some(0 | 1222 | 3617) => Error::unavailable(text("somebody ended the statement")),
        _ => Error::unavailable(text("the server refused the statement")),
    }
    .no_effect(true)
}

/// What `sp_getapplock` returned, other than a grant or that others have the lock.
pub(crate) fn of_code(code: i32) -> Error {
    match code {
        -2 => Error::unavailable("somebody at the server ended a wait for a lock (-2)"),
        -3 => Error::new(ErrorKind::Deadlock, "the server found a deadlock (-3)")
            .with_advice("take locks in the same order everywhere"),
        -999 => Error::misconfigured("the server refuses the arguments of sp_getapplock, or the call (-999)")
            .with_advice(
                "see whether the login may use the database, and whether the name is one that the server takes",
            ),
        code => Error::unavailable(format!("sp_getapplock returned {code}, which is not documented")).retryable(false),
    }
    .no_effect(true)
}

/// The sequence of the tokens was there, and isn't any more.
pub(crate) fn is_gone(sequence: &str, failure: &Failure) -> Error {
    Error::misconfigured(format!("the sequence {sequence} of the fencing tokens is gone: {failure}"))
        .with_advice("have it made again, with a START above all tokens that it has given, or start the programs anew")
        .no_effect(true)
}

/// The database takes no writes, as that of a secondary replica.
pub(crate) fn is_read_only(host: &str, database: &str) -> Error {
    Error::misconfigured(format!(
        "the database {} on {host} is read-only, as a secondary replica is: locks there keep out nobody who locks at the \
         primary",
        shown(database)
    ))
    .with_advice("connect to the primary, or through the listener of the availability group")
    .no_effect(true)
}

/// The connection has failed.
pub(crate) fn lost(failure: Failure) -> Error {
    let error = Error::unavailable(match &failure {
        Failure::Said { .. } => format!("the server ended the session: {failure}"),
        _ => "the connection to the server has failed".to_owned(),
    });
    match failure {
        Failure::Broken(source) => error.with_source(source),
        _ => error,
    }
    .no_effect(false)
}

/// An error of connecting to this host. `was_there`: a session was begun there before, with the same login and database.
pub(crate) fn of_connecting(host: &str, failure: Failure, was_there: bool) -> Error {
    let text = |what: &str| format!("{host} {what}: {failure}");
    let Some(number) = failure.number() else { return without_a_word(host, failure).no_effect(true) };
    match number {
        18452 | 18456 | 18470 | 33147..=33156 | 40532 => Error::misconfigured(text("refuses the login")).with_advice(
            "see whether user and password (or the token) are right, and whether the server allows this way to log in",
        ),
        // Starting, ending, being upgraded; databases that are being recovered, restored or moved; Azure's reconfigurations.
        615
        | 921
        | 922
        | 926
        | 927
        | 952
        | 4221
        | 6005
        | 17187
        | 17197
        | 18401
        | 18451
        | 40197
        | 40501
        | 40613
        | 42108
        | 42109
        | 49918..=49920 => Error::unavailable(text("takes no sessions at the moment")),
        // There is one error for a database that isn't there and one that can't be opened yet.
        4060 if was_there => Error::unavailable(text("does not open the database at the moment")),
        18486..=18488 => Error::misconfigured(text("refuses the login, whose password or account needs attention")),
        4060 | 4064 | 40532..=40544 => Error::misconfigured(text("does not let the login use the database"))
            .with_advice("name a database that is there, in which the login has a user"),
        40615 | 40914 | 47073 => Error::misconfigured(text("refuses this machine"))
            .with_advice("allow its address in the firewall of the server"),
        976 | 978 | 979 | 983 => Error::unavailable(text("serves a secondary replica"))
            .with_advice("connect to the primary, or through the listener of the availability group"),
        10928 | 10929 | 17300 | 17809 | 17830 => Error::unavailable(text("has no session left"))
            .with_advice("allow more sessions at the server, or fewer here (max-sessions)"),
        _ => Error::misconfigured(text("refuses the session")),
    }
    .no_effect(true)
}

fn without_a_word(host: &str, failure: Failure) -> Error {
    let misconfigured = |what: &str| Error::misconfigured(format!("{host} {what}"));
    let Failure::Broken(source) = failure else {
        return Error::unavailable(format!("{host} sends its clients to another host again and again"));
    };
    match &source {
        DriversError::Tls(why) if why.contains("certificate") => {
            misconfigured("has a certificate that is not to be trusted").with_advice(
                "give its certificate authority (ca) and connect by the name in the certificate, or encrypt without \
                 looking at it (tls=require)",
            )
        }
        DriversError::Tls(_) => misconfigured("and this side found no way to encrypt the connection"),
        DriversError::Protocol(why) if why.contains("ncrypt") => {
            misconfigured("and this side don't agree on encryption").with_advice("see what the server demands (tls)")
        }
        _ => Error::unavailable(format!("{host} did not begin a session")),
    }
    .with_source(source)
}

/// What a server says, shortened: it may quote whole statements.
pub(crate) fn shown(message: &str) -> String {
    message.chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(number: u32) -> Failure {
        Failure::Said { number, class: 16, message: "so".into() }
    }

    #[test]
    fn errors_say_what_can_be_done() {
        for (number, kind) in [
            (1205, ErrorKind::Deadlock),
            (229, ErrorKind::Misconfigured),
            (300, ErrorKind::Misconfigured),
            (3906, ErrorKind::Misconfigured),
            (8152, ErrorKind::Unavailable),
        ] {
            let error = of_statement(said(number));
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.has_no_effect());
        }
        for ended in [said(596), Failure::Said { number: 1, class: 20, message: String::new() }] {
            let error = of_statement(ended);
            assert!(!error.has_no_effect() && error.kind() == ErrorKind::Unavailable, "{error}");
        }
    }

    #[test]
    fn every_code_of_the_procedure_has_its_meaning() {
        for (code, kind) in [
            (-2, ErrorKind::Unavailable),
            (-3, ErrorKind::Deadlock),
            (-999, ErrorKind::Misconfigured),
            (-7, ErrorKind::Unavailable),
        ] {
            let error = of_code(code);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.has_no_effect() && error.to_string().contains(&code.to_string()), "{error}");
        }
    }

    #[test]
    fn errors_of_connecting_name_the_host() {
        for (number, kind) in [
            (18456, ErrorKind::Misconfigured),
            (18487, ErrorKind::Misconfigured),
            (4060, ErrorKind::Misconfigured),
            (40532, ErrorKind::Misconfigured),
            (40544, ErrorKind::Misconfigured),
            (40615, ErrorKind::Misconfigured),
        ] {
            let error = of_connecting("db:1433", said(number), false);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("db:1433"), "{error}");
        }
    }

    #[test]
    fn what_passes_is_no_misconfiguration() {
        for number in [
            615, 921, 922, 926, 927, 952, 976, 4221, 6005, 10928, 17187, 17197, 18401, 18451, 40197, 40501, 40613,
            42108, 42109, 49918, 49919, 49920,
        ] {
            let error = of_connecting("db:1433", said(number), false);
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.has_no_effect() && error.to_string().contains("db:1433"), "{error}");
        }
        // The database was there before.
        assert_eq!(of_connecting("db:1433", said(4060), true).kind(), ErrorKind::Unavailable);
        assert_eq!(of_connecting("db:1433", said(18456), true).kind(), ErrorKind::Misconfigured);
    }

    #[test]
    fn who_may_not_is_told_so() {
        for number in [229, 262, 297, 300, 371, 2760, 6102, 15151, 15247] {
            let error = of_statement(said(number));
            assert!(error.to_string().contains("the login may not do this"), "{error}");
        }
    }
}
