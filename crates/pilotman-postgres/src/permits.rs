//! Semaphores: one key for each permit, and a gate before which those who wait stand in line.
//!
//! Who tries passes the gate beside others who try (it is shared between them), and not while somebody waits, who has it alone:
//! so nobody overtakes. Who waits has the gate alone and takes the first permit that is released, of which it is told on a
//! channel; a permit that came free with a process that died is found within a second.
//!
//! Programs that ask for different numbers of permits under one name share those that both count: with 2 and 5 there are never
//! more than 5 holders, of whom those who asked for 2 are at most 2.

use std::time::Duration;

use pilotman_core::{Error, Result};
use pilotman_session::{Attempted, Granted, Stop};

use crate::failure;
use crate::key::PostgresKey;
use crate::options::Scope;
use crate::request::{Mode, PostgresRequest};
use crate::session::{Cookie, Ended, PostgresSession, number};
use crate::statements;

/// Who waits for a permit looks again after this time without word, and up to half as long again.
const LOOK_AGAIN: Duration = Duration::from_millis(700);
/// In transactions nothing is told: the pauses between attempts begin with this one, and double.
const POLL_FIRST: Duration = Duration::from_millis(10);
const POLL_LONGEST: Duration = Duration::from_millis(500);

fn start(session: &PostgresSession, permits: u32) -> u32 {
    (session.random() % u64::from(permits)) as u32
}

/// A permit may have been granted before the error; which, nobody knows.
fn unknown(session: &PostgresSession, error: tokio_postgres::Error) -> Error {
    session.give_up();
    failure::of_statement(error)
}

/// Attempts to get one of `permits` without waiting.
pub(crate) async fn attempt(
    session: &mut PostgresSession,
    gate: PostgresKey,
    permits: u32,
    held: &[Cookie],
) -> Result<Attempted<Cookie>> {
    let any = statements::any_permit(gate, permits, start(session, permits), held, Scope::Session);
    let sql = format!(
        "select case when {} then (select p from (select {any} as p offset 0) s where {} is not null) end",
        statements::attempt(gate, Scope::Session, Mode::Shared),
        statements::unlock(gate, Mode::Shared),
    );
    match session.value(&sql).await {
        Ok(None) => Ok(Attempted::Contended),
        Ok(Some(value)) => {
            let cookie = number(Some(&value))? as Cookie;
            Ok(Attempted::Granted(Granted { cookie, token: None }))
        }
        Err(error) => Err(unknown(session, error)),
    }
}

/// Waits for one of `permits`. `None`: stopped.
pub(crate) async fn wait(
    session: &mut PostgresSession,
    gate: PostgresKey,
    permits: u32,
    stop: &mut Stop,
) -> Result<Option<Cookie>> {
    let leave = PostgresSession::give_back_gate(gate, Mode::Exclusive);
    let enter = format!("select {}", statements::wait(gate, Scope::Session, Mode::Exclusive));
    match session.query_until(&enter, stop).await {
        Ended::Done => {}
        Ended::Failed(error) => {
            let stopped = failure::is_cancelled(&error) && stop.is_requested();
            let error = session.after(error, &leave).await;
            return if stopped { Ok(None) } else { Err(error) };
        }
    }
    let found = before_the_gate(session, gate, permits, stop).await;
    let channel = statements::channel(gate);
    match session.query(&format!("{leave};unlisten \"{channel}\"")).await {
        Ok(_) => found,
        Err(error) => Err(unknown(session, error)),
    }
}

/// With the gate.
async fn before_the_gate(
    session: &mut PostgresSession,
    gate: PostgresKey,
    permits: u32,
    stop: &mut Stop,
) -> Result<Option<Cookie>> {
    let channel = statements::channel(gate);
    // Done, not just sent, before the first look: only from then on is anything told.
    if let Err(error) = session.query(&format!("listen \"{channel}\"")).await {
        return Err(unknown(session, error));
    }
    loop {
        if stop.is_requested() {
            return Ok(None);
        }
        let any = statements::any_permit(gate, permits, start(session, permits), &[], Scope::Session);
        match session.value(&format!("select {any}")).await {
            Ok(Some(value)) => return Ok(Some(number(Some(&value))? as Cookie)),
            Ok(None) => {}
            Err(error) => return Err(unknown(session, error)),
        }
        let pause = LOOK_AGAIN + Duration::from_nanos(session.random() % (LOOK_AGAIN.as_nanos() as u64 / 2));
        let notified = session.notified();
        tokio::select! {
            () = notified.notified() => {}
            () = stop.requested() => {}
            paused = session.pause(pause) => paused?,
        }
    }
}

/// Tries again and again, in a transaction each time.
pub(crate) async fn poll(session: &mut PostgresSession, request: &PostgresRequest, stop: &mut Stop) -> Result<bool> {
    let mut pause = POLL_FIRST;
    while !stop.is_requested() {
        if session.try_once(request).await? {
            return Ok(true);
        }
        let jitter = Duration::from_nanos(session.random() % (pause.as_nanos() as u64));
        tokio::select! {
            () = stop.requested() => {}
            paused = session.pause(pause / 2 + jitter) => paused?,
        }
        pause = (pause * 2).min(POLL_LONGEST);
    }
    Ok(false)
}
