//! Transactions of a session.

use super::run::Run;
use crate::wire::request::TransactionRequest;
use crate::wire::tokens::SqlError;

impl Run<'_> {
    pub(super) fn begin(&mut self) {
        self.state.transactions += 1;
        if self.state.transactions == 1 {
            let transaction = self.server.number();
            self.state.transaction = Some(transaction);
            self.reply.began(transaction);
        }
        self.show_transactions();
    }

    pub(super) fn commit(&mut self) -> Result<(), SqlError> {
        if self.state.transactions == 0 {
            let message = "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.";
            return Err(SqlError::new(3902, message));
        }
        self.state.transactions -= 1;
        if self.state.transactions == 0 {
            self.end(true);
        }
        self.show_transactions();
        Ok(())
    }

    pub(super) fn rollback(&mut self) -> Result<(), SqlError> {
        if self.state.transactions == 0 {
            let message = "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.";
            return Err(SqlError::new(3903, message));
        }
        self.state.transactions = 0;
        self.end(false);
        self.show_transactions();
        Ok(())
    }

    /// The locks of the transaction go with it.
    fn end(&mut self, committed: bool) {
        if let Some(owner) = self.state.transaction_owner(self.session.id) {
            self.server.end_transaction(owner);
        }
        if let Some(transaction) = self.state.transaction.take() {
            self.reply.ended(transaction, committed);
        }
    }

    fn show_transactions(&self) {
        let count = self.state.transactions;
        self.session.change(|activity| activity.transactions = count);
    }

    /// What a client wants of its transaction, not in SQL.
    pub(super) fn transaction_request(&mut self, request: &TransactionRequest) -> Result<(), SqlError> {
        match request {
            TransactionRequest::Begin => self.begin(),
            TransactionRequest::Commit { begin_again } => {
                self.commit()?;
                if *begin_again {
                    self.begin();
                }
            }
            TransactionRequest::Rollback { savepoint, begin_again } => {
                if !savepoint.is_empty() {
                    let message =
                        format!("Cannot roll back {savepoint}. No transaction or savepoint of that name was found.");
                    return Err(SqlError::new(6401, message));
                }
                self.rollback()?;
                if *begin_again {
                    self.begin();
                }
            }
            // A savepoint keeps locks: rolling back to one is not served.
            TransactionRequest::Save => {}
        }
        Ok(())
    }

    /// Whether the transaction that the request names is the session's.
    pub(super) fn check_transaction(&self, named: u64) -> Result<(), SqlError> {
        match (named, self.state.transaction) {
            (0, None) => Ok(()),
            (named, Some(open)) if named == open => Ok(()),
            (0, Some(_)) => {
                let message =
                    "New request is not allowed to start because it should come with valid transaction descriptor.";
                Err(SqlError::new(3989, message))
            }
            (named, _) => {
                let message = format!("The server failed to resume the transaction. Desc:{named:x}.");
                Err(SqlError::new(3971, message))
            }
        }
    }
}
