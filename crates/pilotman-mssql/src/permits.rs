//! Semaphores: one lock for each permit, and a gate before which those who wait stand in line.
//!
//! Who tries passes the gate beside others who try (it is shared between them), and not while somebody waits, who has it alone:
//! so nobody overtakes. Who waits has the gate alone, waits at the server for one of the permits, and looks from time to time
//! whether another one has come free: the server can't be asked to wait for several.
//!
//! Programs that ask for different numbers of permits under one name share those that both count: with 2 and 5 there are never
//! more than 5 holders, of whom those who asked for 2 are at most 2.

use pilotman_core::Result;
use pilotman_session::Stop;

use crate::driver::Value;
use crate::failure::{self, Failure};
use crate::names::Resource;
use crate::request::{Cookie, Mode};
use crate::session::{Asked, Millis, MsSqlSession};
use crate::statements::{ANY_PERMIT, ANY_PERMIT_INSIDE};

/// Who waits for one of several permits looks again for the others after this time.
const LOOK_AGAIN: Millis = Millis(50);

fn start(session: &MsSqlSession, permits: u32) -> i64 {
    (session.random() % u64::from(permits)) as i64
}

fn gate(resource: &Resource) -> &str {
    // Every semaphore has one.
    resource.gate.as_deref().unwrap_or_default()
}

/// One of `permits`, without waiting.
pub(crate) async fn attempt(session: &mut MsSqlSession, resource: &Resource, permits: u32) -> Result<Option<Cookie>> {
    let start = start(session, permits);
    let parameters =
        [gate(resource).into(), (&*resource.name).into(), Value::Big(i64::from(permits)), Value::Big(start)];
    let answer = session.value(ANY_PERMIT, &parameters).await;
    number(session, answer, permits)
}

/// What was had. After anything else it is not known which permit was granted.
fn number(session: &mut MsSqlSession, answer: Result<Option<Value>, Failure>, permits: u32) -> Result<Option<Cookie>> {
    match answer {
        Ok(Some(Value::Big(-1))) => Ok(None),
        Ok(Some(Value::Big(number))) if (0..i64::from(permits)).contains(&number) => Ok(Some(number)),
        Ok(_) => {
            session.give_up();
            Err(failure::lost(Failure::nonsense("the server answers with something that is no permit")))
        }
        Err(failure) => {
            session.give_up();
            Err(failure::of_statement(failure))
        }
    }
}

/// Waits for one of `permits`. `None`: stopped.
pub(crate) async fn wait(
    session: &mut MsSqlSession,
    resource: &Resource,
    permits: u32,
    stop: &mut Stop,
) -> Result<Option<Cookie>> {
    let gate = gate(resource);
    if session.ask(gate, Mode::Exclusive.name(), Millis::FOREVER, Some(stop)).await? != Asked::Granted {
        session.undo(gate).await;
        return Ok(None);
    }
    let found = before_the_gate(session, resource, permits, stop).await;
    session.undo(gate).await;
    found
}

/// With the gate.
async fn before_the_gate(
    session: &mut MsSqlSession,
    resource: &Resource,
    permits: u32,
    stop: &mut Stop,
) -> Result<Option<Cookie>> {
    while !stop.is_requested() {
        let start = start(session, permits);
        let parameters = [(&*resource.name).into(), Value::Big(i64::from(permits)), Value::Big(start)];
        let answer = session.value(ANY_PERMIT_INSIDE, &parameters).await;
        if let Some(permit) = number(session, answer, permits)? {
            return Ok(Some(permit));
        }
        let waited = resource.permit(start);
        // A single one is waited for as long as it takes; of several, one for a moment, which nobody need cut short.
        let asked = match permits {
            1 => session.ask(&waited, Mode::Exclusive.name(), Millis::FOREVER, Some(stop)).await?,
            _ => session.ask(&waited, Mode::Exclusive.name(), LOOK_AGAIN, None).await?,
        };
        match asked {
            Asked::Granted => return Ok(Some(start)),
            Asked::Refused => {}
            Asked::Stopped => session.undo(&waited).await,
        }
    }
    Ok(None)
}
