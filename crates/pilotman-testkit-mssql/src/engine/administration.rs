//! Settings of a session, the database in use, and `KILL`.

use std::sync::atomic::Ordering;

use super::run::Run;
use crate::wire::tokens::SqlError;

impl Run<'_> {
    pub(super) fn option(&mut self, option: &str, values: &[String]) -> Result<(), SqlError> {
        let on = values.first().is_some_and(|value| value == "ON");
        let number = values.first().and_then(|value| value.parse::<i64>().ok());
        match option {
            "LOCK_TIMEOUT" => {
                let timeout = number.filter(|timeout| *timeout >= -1);
                self.state.lock_timeout =
                    timeout.ok_or_else(|| SqlError::new(102, "Incorrect syntax near 'LOCK_TIMEOUT'."))?;
                let timeout = self.state.lock_timeout;
                self.session.change(|activity| activity.lock_timeout = timeout);
            }
            "XACT_ABORT" => self.state.xact_abort = on,
            "DEADLOCK_PRIORITY" => {
                let named = match values[0].as_str() {
                    "LOW" => Some(-5),
                    "NORMAL" => Some(0),
                    "HIGH" => Some(5),
                    _ => number.and_then(|number| i32::try_from(number).ok()),
                };
                let priority = named.ok_or_else(|| SqlError::new(102, "Incorrect syntax near 'DEADLOCK_PRIORITY'."))?;
                self.session.deadlock_priority.store(priority, Ordering::SeqCst);
            }
            "IMPLICIT_TRANSACTIONS" if on => {
                self.server.log_unknown("SET IMPLICIT_TRANSACTIONS ON".to_owned());
                return Err(SqlError::new(102, "The stand-in has no implicit transactions."));
            }
            // What concerns the shape of results and tables has no effect on locks.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn use_database(&mut self, database: &str) -> Result<(), SqlError> {
        let known = self.server.settings().databases;
        let Some(found) = known.into_iter().find(|known| known.eq_ignore_ascii_case(database)) else {
            let message =
                format!("Database '{database}' does not exist. Make sure that the name is entered correctly.");
            return Err(SqlError::new(911, message));
        };
        self.reply.database(&found, &self.state.database);
        self.session.change(|activity| activity.database.clone_from(&found));
        self.state.database = found;
        Ok(())
    }

    pub(super) fn kill(&mut self, target: i64) -> Result<(), SqlError> {
        let kill = "KILL".to_owned();
        if !self.server.settings().permissions.kill {
            return Err(
                SqlError::new(6102, format!("User does not have permission to use the {kill} statement.")).class(14)
            );
        }
        if self.state.transactions > 0 {
            return Err(SqlError::new(6115, "KILL command cannot be used inside user transactions."));
        }
        if target == self.session.id.into() {
            return Err(SqlError::new(6104, "Cannot use KILL to kill your own process."));
        }
        if (0..=50).contains(&target) {
            return Err(SqlError::new(6107, "Only user processes can be killed.").class(14));
        }
        let found = i32::try_from(target).is_ok_and(|target| self.server.kill(target));
        if found {
            Ok(())
        } else {
            Err(SqlError::new(6106, format!("Process ID {target} is not an active process ID.")))
        }
    }
}
