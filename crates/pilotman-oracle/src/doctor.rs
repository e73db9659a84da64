//! Whether a database is set up safely for locks. Nothing is changed.

use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::session::OracleSession;
use crate::statements::{self, number, text};
use crate::{failure, inspect};

/// See the [module](self).
pub(crate) async fn diagnose(session: &mut OracleSession, wanted: usize) -> Result<Vec<Finding>> {
    let mut findings = vec![driver(session), version(session).await];
    findings.push(grant(session).await?);
    findings.push(Finding::fine("primary", "the database is no standby"));
    findings.push(failover(session).await);
    findings.extend(limits(session, wanted).await);
    findings.push(character_set(session).await);
    findings.push(tokens(session).await);
    findings.push(views(session).await);
    findings.push(Finding::note(
        "verified",
        "this backend was never run on a real Oracle Database; it was tested on stand-ins that keep what is documented",
    ));
    Ok(findings)
}

fn driver(session: &OracleSession) -> Finding {
    match session.driver() {
        "thin" => Finding::note("driver", "Oracle's driver in Rust, of which there are only beta versions"),
        other => Finding::fine("driver", format!("{other}: Oracle's client library")),
    }
}

async fn version(session: &mut OracleSession) -> Finding {
    let rows = session.query(statements::version()).await.unwrap_or_default();
    match rows.first().and_then(|row| text(row, 0)) {
        Some(version) => Finding::fine("version", format!("Oracle Database {version}")),
        None => Finding::note("version", "the version is not told to this user"),
    }
}

async fn grant(session: &mut OracleSession) -> Result<Finding> {
    match inspect::check(session).await {
        Ok(()) => Ok(Finding::fine("grant", "the user may use SYS.DBMS_LOCK")),
        Err(error) if session_is_fine(session) => {
            let advice = error.advice().unwrap_or_default().to_owned();
            Ok(Finding::problem("grant", "the user can't use SYS.DBMS_LOCK").advice(advice))
        }
        Err(error) => Err(error),
    }
}

fn session_is_fine(session: &OracleSession) -> bool {
    pilotman_session::Session::is_usable(session)
}

/// Failover that goes on with another session, as if nothing had happened.
async fn failover(session: &mut OracleSession) -> Finding {
    let rows = match session.query(statements::failover()).await {
        Ok(rows) => rows,
        Err(_) if session.driver() == "thin" => {
            return Finding::fine("failover", "the driver in Rust knows no transparent failover");
        }
        Err(_) => {
            return Finding::note(
                "failover",
                "V$SESSION can't be read, so that transparent failover (TAF) can't be seen",
            )
            .advice("see that the service has none: a session that fails over has lost its locks without a word");
        }
    };
    let kind = rows.first().and_then(|row| text(row, 0)).unwrap_or_else(|| "NONE".to_owned());
    match kind.as_str() {
        "NONE" => Finding::fine("failover", "no transparent failover: a session that ends is told as a loss"),
        kind => Finding::problem(
            "failover",
            format!("transparent failover is on ({kind}): after it the session is another one, and its locks are gone"),
        )
        .advice("use a service without it (srvctl modify service … -failovertype NONE)"),
    }
}

async fn limits(session: &mut OracleSession, wanted: usize) -> Vec<Finding> {
    let Ok(rows) = session.query(statements::limits()).await else {
        return vec![Finding::note("profile", "the limits of the user's profile can't be read")];
    };
    let limit = |name: &str| {
        let row = rows.iter().find(|row| text(row, 0).as_deref() == Some(name))?;
        // What is no number is UNLIMITED.
        number(row, 1)
    };
    let connected = match limit("CONNECT_TIME") {
        Some(minutes) => Finding::warning(
            "connect time",
            format!("the profile ends each session {minutes} minutes after its start, with all that it holds"),
        )
        .advice("give the user a profile with CONNECT_TIME UNLIMITED"),
        None => Finding::fine("connect time", "the profile does not end sessions however long they last"),
    };
    let idle = match limit("IDLE_TIME") {
        Some(minutes) if minutes < 2 => Finding::warning(
            "idle time",
            format!("the profile ends sessions that are idle for {minutes} minutes; ours with holds ask several times a second"),
        )
        .advice("give the user a profile with a longer IDLE_TIME"),
        Some(minutes) => Finding::fine(
            "idle time",
            format!("the profile ends sessions that are idle for {minutes} minutes; ours with holds never are"),
        ),
        None => Finding::fine("idle time", "the profile does not end idle sessions"),
    };
    let sessions = match limit("SESSIONS_PER_USER") {
        Some(most) if usize::try_from(most).is_ok_and(|most| most < wanted) => Finding::warning(
            "sessions",
            format!("the profile allows {most} sessions for all processes of this user, and up to {wanted} may be opened here"),
        )
        .advice("raise SESSIONS_PER_USER, or allow fewer sessions here (max-sessions)"),
        _ => Finding::fine("sessions", format!("the profile allows as many sessions as are opened here ({wanted} at most)")),
    };
    vec![connected, idle, sessions]
}

async fn character_set(session: &mut OracleSession) -> Finding {
    let rows = session.query(statements::character_set()).await.unwrap_or_default();
    match rows.first().and_then(|row| text(row, 0)) {
        Some(set) if set.contains("UTF8") => Finding::fine("names", format!("the database has all signs ({set})")),
        Some(set) => Finding::warning(
            "names",
            format!("the database's character set ({set}) lacks signs: names that differ in those may become one"),
        )
        .advice("use names in ASCII, or names=strict, which sends no others"),
        None => Finding::note("names", "the character set of the database can't be read"),
    }
}

async fn tokens(session: &mut OracleSession) -> Finding {
    let sequence = session.oracle().token_sequence.clone();
    let rows = session.query(statements::sequence(&sequence)).await.unwrap_or_default();
    match rows.first().and_then(|row| text(row, 0)).as_deref() {
        None => Finding::note(
            "tokens",
            format!("the sequence {sequence} is made when the first fencing token is asked for"),
        ),
        Some("Y") => Finding::fine("tokens", "the sequence of the fencing tokens is there, and is in order everywhere"),
        Some(_) => Finding::warning(
            "tokens",
            format!("the sequence {sequence} gives no order between the instances of a cluster (RAC)"),
        )
        .advice(format!("ALTER SEQUENCE {sequence} ORDER, unless there is one instance only")),
    }
}

async fn views(session: &mut OracleSession) -> Finding {
    match session.query(statements::holders(Some("pilotman doctor"))).await {
        Ok(_) => Finding::fine("rights", "the user may look who holds locks"),
        Err(error) if failure::is_missing(&error) || failure::is_forbidden(&error) => Finding::note(
            "rights",
            "the user may not look who holds locks: there is no status and no list, and nothing can be broken",
        )
        .advice("GRANT SELECT ON SYS.DBMS_LOCK_ALLOCATED, SYS.GV_$LOCK and SYS.GV_$SESSION if you want that"),
        Err(error) => {
            Finding::note("rights", format!("whether the user may look who holds locks is not known: {error}"))
        }
    }
}
