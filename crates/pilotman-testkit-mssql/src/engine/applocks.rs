//! Asking for an application lock and waiting for it, in time.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::server::Server;
use super::session::{Interrupt, Session};
use crate::locks::{Asked, Key, Mode, Owner, Waiting};

/// What `sp_getapplock` returns.
pub(crate) const GRANTED: i32 = 0;
pub(crate) const GRANTED_AFTER_WAITING: i32 = 1;
pub(crate) const TIMED_OUT: i32 = -1;
pub(crate) const DEADLOCK_VICTIM: i32 = -3;
pub(crate) const BAD_CALL: i32 = -999;

impl Server {
    /// Asks, and waits for at most `timeout`: `None` is without limit, zero doesn't wait.
    pub(crate) fn acquire(
        &self,
        session: &Session,
        owner: Owner,
        key: &Key,
        mode: Mode,
        timeout: Option<Duration>,
    ) -> Result<i32, Interrupt> {
        // What is too long for a clock is as good as without limit.
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut table = self.locks();
        if let Some(interrupt) = session.interrupted() {
            return Err(interrupt);
        }
        let ticket = match table.ask(owner, key, mode, timeout != Some(Duration::ZERO)) {
            Asked::Granted => return Ok(GRANTED),
            Asked::Refused => return Ok(TIMED_OUT),
            Asked::Waits(ticket) => ticket,
        };
        loop {
            // A lock that came counts, whatever else came: the client can't know, and has to look.
            let over = until.is_some_and(|until| Instant::now() >= until);
            let interrupt = session.interrupted();
            if table.look(ticket) != Waiting::Still || over || interrupt.is_some() {
                let became = table.end_wait(key, ticket);
                self.wake(&mut table);
                return match (became, interrupt) {
                    (Waiting::Granted, _) => Ok(GRANTED_AFTER_WAITING),
                    (Waiting::Victim, _) => Ok(DEADLOCK_VICTIM),
                    (Waiting::Still, Some(interrupt)) => Err(interrupt),
                    (Waiting::Still, None) => Ok(TIMED_OUT),
                };
            }
            table = match until {
                None => session.woken.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    session.woken.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Gives back once. `false` if the owner doesn't hold it.
    pub(crate) fn release(&self, owner: Owner, key: &Key) -> bool {
        let mut table = self.locks();
        let released = table.release(owner, key).is_ok();
        self.wake(&mut table);
        released
    }

    /// The end of a transaction.
    pub(crate) fn end_transaction(&self, owner: Owner) {
        let mut table = self.locks();
        table.forget(|other| other == owner);
        self.wake(&mut table);
    }

    /// A session as new: its own locks are given back.
    pub(crate) fn reset_session(&self, session: i32) {
        let mut table = self.locks();
        table.forget(|owner| owner.session == session);
        self.wake(&mut table);
    }
}
