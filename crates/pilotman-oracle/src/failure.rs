//! What an error of the database or the network means for the caller.

use pilotman_core::{Error, ErrorKind, Result};

use crate::driver::{After, Failure};
use crate::options::Oracle;
use crate::request::Mode;

/// What `DBMS_LOCK` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The lock is had, or was released.
    Done,
    /// Others have it.
    TimedOut,
    /// The session has it already; or, where it is released or converted, has it not.
    Owned,
    /// The handle is none.
    IllegalHandle,
}

/// Reads an answer of `DBMS_LOCK`.
pub(crate) fn answer(number: Option<i64>) -> Result<Answer> {
    match number {
        Some(0) => Ok(Answer::Done),
        Some(1) => Ok(Answer::TimedOut),
        Some(2) => Err(Error::new(ErrorKind::Deadlock, "the database found a deadlock (DBMS_LOCK: 2)").with_advice(
            "take locks in the same order everywhere, and upgrade only where nobody waits for what you hold",
        )),
        Some(3) => {
            Err(Error::new(ErrorKind::Internal, "the database refused a parameter (DBMS_LOCK: 3)").no_effect(true))
        }
        Some(4) => Ok(Answer::Owned),
        Some(5) => Ok(Answer::IllegalHandle),
        other => {
            let what = other.map_or_else(|| "nothing".to_owned(), |number| number.to_string());
            Err(Error::new(ErrorKind::Internal, format!("DBMS_LOCK answered {what}, which means nothing")))
        }
    }
}

/// Whether a sequence or a view is not there, or not for this user.
pub(crate) fn is_missing(failure: &Failure) -> bool {
    matches!(failure.code, Some(942 | 2289))
}

/// Whether the user may not do this.
pub(crate) fn is_forbidden(failure: &Failure) -> bool {
    matches!(failure.code, Some(1031))
}

/// Whether the package of the locks can't be seen or used by this user.
pub(crate) fn lacks_grant(failure: &Failure) -> bool {
    let of_package = failure.message.contains("DBMS_LOCK");
    failure.code == Some(6550)
        && of_package
        && ["PLS-00201", "PLS-00904"].iter().any(|code| failure.message.contains(code))
}

/// The statement that a database administrator has to run.
pub(crate) fn missing_grant(user: Option<&str>) -> Error {
    let user = user.unwrap_or("the user");
    Error::misconfigured(format!("the user {user} may not use the package of the locks"))
        .with_advice(format!("have a database administrator run: GRANT EXECUTE ON SYS.DBMS_LOCK TO {user}"))
}

/// An error of a statement.
pub(crate) fn of_statement(oracle: &Oracle, failure: Failure) -> Error {
    if lacks_grant(&failure) {
        return missing_grant(oracle.user.as_deref());
    }
    match (failure.after, failure.code) {
        (After::Late, _) => Error::unavailable("the database did not answer in time").no_effect(false),
        (After::Over, _) => {
            Error::unavailable("the connection to the database has failed").with_source(failure).no_effect(false)
        }
        (After::Usable, Some(60 | 4020)) => Error::new(ErrorKind::Deadlock, "the database found a deadlock")
            .with_source(failure)
            .with_advice("take locks in the same order everywhere"),
        (After::Usable, Some(942 | 1031)) => Error::misconfigured("the user may not do this")
            .with_source(failure)
            .with_advice("grant what the page of the backend lists"),
        (After::Usable, Some(16_000)) => Error::misconfigured("the database takes no writes, as a standby does")
            .with_source(failure)
            .with_advice("connect to the primary"),
        (After::Usable, _) => {
            Error::unavailable("the database refused the statement").with_source(failure).no_effect(true)
        }
    }
}

/// An error of connecting.
pub(crate) fn of_connecting(oracle: &Oracle, failure: Failure) -> Error {
    let user = oracle.user.as_deref().unwrap_or_default();
    let error = match failure.code {
        Some(1017 | 28_000 | 28_001 | 1005) => Error::misconfigured(format!("the database refuses the user {user:?}"))
            .with_advice("see whether user and password are right, and whether the account is open"),
        Some(1045) => Error::misconfigured(format!("the user {user:?} may not log in"))
            .with_advice(format!("have a database administrator run: GRANT CREATE SESSION TO {user}")),
        Some(18 | 20 | 2391) => Error::unavailable("the database has no session left for this user").with_advice(
            "raise SESSIONS, PROCESSES or SESSIONS_PER_USER there, or allow fewer sessions here (max-sessions)",
        ),
        Some(1033 | 1034 | 1089 | 1090 | 12_514 | 12_528) => Error::unavailable("the database is not open, or not yet"),
        _ if failure.is_permanent => Error::misconfigured("no session could be opened")
            .with_advice("see whether connect string, user, password and wallet are right"),
        // It may be one that passes: a limit of the host, a trigger at log-on, a switch-over.
        Some(_) if failure.after == After::Usable => Error::unavailable("the database refuses the session")
            .with_advice("see what the database says, and whether it passes"),
        _ => Error::unavailable("no session could be opened")
            .with_advice("see whether the host can be reached, and whether the listener knows the service"),
    };
    error.with_source(failure).no_effect(true)
}

/// A session that holds nothing was told that it has the lock.
pub(crate) fn has_it_already(mode: Mode) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the session has the lock already ({mode:?}), though it should hold nothing"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle() -> Oracle {
        Oracle::new("h/S").unwrap().user("APP").password("hunter2")
    }

    #[test]
    fn each_answer_has_its_meaning() {
        assert_eq!(answer(Some(0)).unwrap(), Answer::Done);
        assert_eq!(answer(Some(1)).unwrap(), Answer::TimedOut);
        assert_eq!(answer(Some(2)).unwrap_err().kind(), ErrorKind::Deadlock);
        assert_eq!(answer(Some(3)).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(answer(Some(4)).unwrap(), Answer::Owned);
        assert_eq!(answer(Some(5)).unwrap(), Answer::IllegalHandle);
        for none in [None, Some(6), Some(-1)] {
            assert!(answer(none).unwrap_err().to_string().contains("means nothing"));
        }
    }

    #[test]
    fn a_missing_grant_is_told_with_the_statement_to_run() {
        for code in [
            "PLS-00201: identifier 'SYS.DBMS_LOCK' must be declared",
            "PLS-00904: insufficient privilege to access object SYS.DBMS_LOCK",
        ] {
            let said = format!("ORA-06550: line 1, column 18:\n{code}\nORA-06550: line 1");
            let error = of_statement(&oracle(), Failure::server(6550, said));
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains("GRANT EXECUTE ON SYS.DBMS_LOCK TO APP"), "{error}");
        }
        let other = Failure::server(6550, "PLS-00201: identifier 'X' must be declared");
        assert!(!of_statement(&oracle(), other).to_string().contains("GRANT"));
    }

    #[test]
    fn errors_say_what_can_be_done() {
        for (code, kind, effect) in [
            (60, ErrorKind::Deadlock, true),
            (1031, ErrorKind::Misconfigured, true),
            (16_000, ErrorKind::Misconfigured, true),
            (28, ErrorKind::Unavailable, false),
            (3113, ErrorKind::Unavailable, false),
            (12_537, ErrorKind::Unavailable, false),
            (603, ErrorKind::Unavailable, false),
            (25_401, ErrorKind::Unavailable, false),
            (25_409, ErrorKind::Unavailable, false),
            (20_001, ErrorKind::Unavailable, true),
        ] {
            let error = of_statement(&oracle(), Failure::server(code, "so"));
            assert_eq!((error.kind(), error.has_no_effect()), (kind, effect), "{code}: {error}");
        }
    }

    #[test]
    fn errors_of_connecting_have_no_secret() {
        for (code, kind) in [
            (1017, ErrorKind::Misconfigured),
            (28_000, ErrorKind::Misconfigured),
            (1045, ErrorKind::Misconfigured),
            (2391, ErrorKind::Unavailable),
            (1034, ErrorKind::Unavailable),
            (12_541, ErrorKind::Unavailable),
            // What is not known passes, or it doesn't: it is not for us to say that it can't.
            (4088, ErrorKind::Unavailable),
            (603, ErrorKind::Unavailable),
            (25_404, ErrorKind::Unavailable),
        ] {
            let error = of_connecting(&oracle(), Failure::server(code, "so"));
            assert_eq!(error.kind(), kind, "{code}: {error}");
            assert!(error.has_no_effect() && !error.to_string().contains("hunter2"));
        }
    }
}
