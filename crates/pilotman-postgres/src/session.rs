//! One session of ours.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, LossReason, Result};
use pilotman_session::{Attempted, Driver, Granted, Session, Stop};
use tokio::sync::Notify;
use tokio_postgres::SimpleQueryMessage;

use crate::connect::{Connection, Connector, Identity, PostgresDriver};
use crate::failure;
use crate::key::PostgresKey;
use crate::options::{Host, Scope};
use crate::request::{Mode, PostgresRequest};
use crate::wire;
use crate::{permits, statements};

/// Asking for a cancellation, or to end another session, may take this long.
const CONTROL: Duration = Duration::from_secs(2);
/// A session that could not be told that it is over is told so this often.
const END_TRIES: u32 = 5;

/// See the [module](self).
pub(crate) struct PostgresSession {
    connector: Arc<Connector>,
    host: Host,
    connection: Connection,
    identity: Identity,
    /// What is held here, or what the next statement would find, is not known any more.
    is_lost: AtomicBool,
}

/// What tells which of a semaphore's permits it is; 0 for other locks.
pub(crate) type Cookie = u32;

/// How a statement that could be cancelled has ended.
pub(crate) enum Ended {
    Done,
    Failed(tokio_postgres::Error),
}

impl PostgresSession {
    pub(crate) fn new(connector: Arc<Connector>, host: Host, connection: Connection, identity: Identity) -> Self {
        Self { connector, host, connection, identity, is_lost: AtomicBool::new(false) }
    }

    /// Nothing can be said any more of what this session holds: it must end.
    pub(crate) fn give_up(&self) {
        self.is_lost.store(true, Ordering::Release);
    }

    pub(crate) fn notified(&self) -> Arc<Notify> {
        self.connection.notified.clone()
    }

    fn scope(&self) -> Scope {
        self.connector.postgres.scope
    }

    pub(crate) fn random(&self) -> u64 {
        self.connector.environment.get().map_or(0, |environment| environment.random.next())
    }

    pub(crate) async fn pause(&self, time: Duration) -> Result<()> {
        Sleep::new(self.connector.environment()?.clock.clone(), time).await;
        Ok(())
    }

    /// Runs statements, for the rows of all of them.
    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        self.connection.client.simple_query(sql).await
    }

    /// Runs one statement, for the text of its first column.
    pub(crate) async fn value(&self, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let messages = self.query(sql).await?;
        Ok(statements::rows(&messages).last().and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// Runs statements that may wait for long, and has them cancelled when nobody wants them any longer.
    pub(crate) async fn query_until(&self, sql: &str, stop: &mut Stop) -> Ended {
        let mut work = pin!(self.connection.client.simple_query(sql));
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            () = stop.requested() => {
                if let Err(error) = self.cancel().await {
                    tracing::debug!(%error, "a wait could not be cancelled");
                    // It may come late, and hit whatever runs then.
                    self.give_up();
                }
                // Whoever asked bounds the time.
                work.await
            }
        };
        done.map_or_else(Ended::Failed, |_| Ended::Done)
    }

    /// Asks the server, over a connection of its own, to cancel what runs here; when this has ended, it was done.
    async fn cancel(&self) -> Result<()> {
        let Some(key) = self.identity.key else {
            return Err(Error::unsupported("the server has told no key to cancel by"));
        };
        let work = wire::cancel(&self.connector.postgres, &self.host, self.identity.address, key);
        let late = Sleep::new(self.connector.environment()?.clock.clone(), CONTROL);
        tokio::select! {
            biased;
            done = work => done,
            () = late => Err(Error::unavailable(format!("the server took no cancellation within {CONTROL:?}"))),
        }
    }

    /// After an error: whatever the server may have granted before it is given back, and the error says what it means.
    pub(crate) async fn after(&mut self, error: tokio_postgres::Error, give_back: &str) -> Error {
        let error = if error.as_db_error().is_some() { failure::of_statement(error) } else { failure::lost(error) };
        if let Err(again) = self.query(give_back).await {
            tracing::debug!(error = %again, "nothing more can be known of this session");
            self.give_up();
        }
        error
    }

    fn sequence(&self) -> String {
        // In a string: what is in quotes there is a name.
        self.connector.postgres.quoted_sequence().replace('\'', "''")
    }

    fn next_token(&self) -> String {
        format!("pg_catalog.nextval('{}')", self.sequence())
    }

    /// Makes the sequence. Several may do so at the same time, of whom all but one fail.
    async fn make_sequence(&self) -> Result<()> {
        let sql = format!("create sequence if not exists {}", self.connector.postgres.quoted_sequence());
        let Err(error) = self.query(&sql).await else { return Ok(()) };
        let exists = ["23505", "42P07"].contains(&error.code().map_or("", |code| code.code()));
        match exists {
            true => Ok(()),
            false => Err(failure::of_statement(error).with_advice(format!(
                "fencing tokens come from a sequence: have it made by somebody who may ({sql}), and grant usage on it"
            ))),
        }
    }

    /// Makes sure, once, that the sequence is there and that its numbers increase from session to session.
    async fn ensure_sequence(&self) -> Result<()> {
        if !self.needs_sequence() {
            return Ok(());
        }
        let sql = format!(
            "select seqincrement>0 and seqcache=1 and not seqcycle and seqmin>=0 from pg_catalog.pg_sequence \
             where seqrelid=pg_catalog.to_regclass('{}')",
            self.sequence()
        );
        let mut is_good = self.value(&sql).await.map_err(failure::of_statement)?;
        if is_good.is_none() {
            self.make_sequence().await?;
            is_good = self.value(&sql).await.map_err(failure::of_statement)?;
        }
        if is_good.as_deref() != Some("t") {
            return Err(Error::misconfigured(format!(
                "the sequence {} can't be what fencing tokens come from",
                self.connector.postgres.quoted_sequence()
            ))
            .with_advice("it must increase, from 0 or more, without a cycle and with a cache of 1"));
        }
        self.connector.has_sequence.store(true, Ordering::Release);
        Ok(())
    }

    fn needs_sequence(&self) -> bool {
        !self.connector.has_sequence.load(Ordering::Acquire)
    }

    /// A token for a hold of this session.
    async fn token(&self) -> Result<u64> {
        let value = self.value(&format!("select {}", self.next_token())).await.map_err(|error| {
            // One that was dropped is not made anew: its numbers would begin again.
            self.connector.has_sequence.store(false, Ordering::Release);
            failure::of_statement(error)
        })?;
        number(value.as_deref())
    }

    async fn try_exclusive(&mut self, request: &PostgresRequest, token: bool) -> Result<Attempted<Cookie>> {
        let PostgresRequest { key, mode, .. } = *request;
        let attempt = statements::attempt(key, Scope::Session, mode);
        let sql = match token {
            true => format!("select case when {attempt} then {} end", self.next_token()),
            false => format!("select case when {attempt} then 0 end"),
        };
        match self.value(&sql).await {
            Ok(None) => Ok(Attempted::Contended),
            Ok(Some(value)) => {
                let token = match token.then(|| number(Some(&value))).transpose() {
                    Ok(token) => token,
                    Err(error) => {
                        self.give_up();
                        return Err(error);
                    }
                };
                Ok(Attempted::Granted(Granted { cookie: 0, token }))
            }
            Err(error) => Err(self.after(error, &format!("select {}", statements::unlock(key, mode))).await),
        }
    }

    async fn try_in_session(&mut self, request: &PostgresRequest, held: &[Cookie]) -> Result<Attempted<Cookie>> {
        let PostgresRequest { key, mode, .. } = *request;
        if let Mode::Permit(permits) = mode {
            return permits::attempt(self, key, permits, held).await;
        }
        if !held.is_empty() && mode == Mode::Shared {
            // Once more what this session has.
            let sql = format!(
                "select case when {} then {} end",
                statements::nobody_waits(key),
                statements::attempt(key, Scope::Session, mode)
            );
            return match self.value(&sql).await {
                Ok(value) if value.as_deref() == Some("t") => {
                    Ok(Attempted::Granted(Granted { cookie: 0, token: None }))
                }
                Ok(_) => Ok(Attempted::Contended),
                Err(error) => {
                    // How often it is held is not known.
                    self.give_up();
                    Err(failure::of_statement(error))
                }
            };
        }
        self.try_exclusive(request, request.token).await
    }

    async fn try_in_transaction(&mut self, request: &PostgresRequest) -> Result<Attempted<Cookie>> {
        let PostgresRequest { key, mode, .. } = *request;
        let attempt = match mode {
            Mode::Permit(permits) => {
                let from = (self.random() % u64::from(permits)) as u32;
                statements::any_permit(key, permits, from, &[], Scope::Transaction)
            }
            mode => format!("case when {} then 0 end", statements::attempt(key, Scope::Transaction, mode)),
        };
        match self.value(&format!("{};select {attempt}", statements::begin(self.identity.version))).await {
            Ok(Some(_)) => Ok(Attempted::Granted(Granted { cookie: 0, token: None })),
            Ok(None) => match self.query("rollback").await {
                Ok(_) => Ok(Attempted::Contended),
                Err(error) => Err(self.after(error, "rollback").await),
            },
            Err(error) => Err(self.after(error, "rollback").await),
        }
    }

    async fn wait_in_session(&mut self, request: &PostgresRequest, stop: &mut Stop) -> Result<bool> {
        let PostgresRequest { key, mode, .. } = *request;
        let wait = format!("select {}", statements::wait(key, Scope::Session, mode));
        match self.query_until(&wait, stop).await {
            Ended::Done => Ok(true),
            Ended::Failed(error) => {
                let stopped = failure::is_cancelled(&error) && stop.is_requested();
                // The grant may have come first: the session has the lock then, although the statement failed.
                let error = self.after(error, &format!("select {}", statements::unlock(key, mode))).await;
                if stopped { Ok(false) } else { Err(error) }
            }
        }
    }

    async fn wait_in_transaction(&mut self, request: &PostgresRequest, stop: &mut Stop) -> Result<bool> {
        let PostgresRequest { key, mode, .. } = *request;
        if let Mode::Permit(_) = mode {
            return permits::poll(self, request, stop).await;
        }
        let begin = statements::begin(self.identity.version);
        let wait = format!("{begin};select {}", statements::wait(key, Scope::Transaction, mode));
        match self.query_until(&wait, stop).await {
            Ended::Done => Ok(true),
            Ended::Failed(error) => {
                let stopped = failure::is_cancelled(&error) && stop.is_requested();
                let error = self.after(error, "rollback").await;
                if stopped { Ok(false) } else { Err(error) }
            }
        }
    }

    /// One attempt in a transaction, for whoever tries again and again.
    pub(crate) async fn try_once(&mut self, request: &PostgresRequest) -> Result<bool> {
        Ok(matches!(self.try_in_transaction(request).await?, Attempted::Granted(_)))
    }

    /// Adds the token that was asked for; without one there is no hold.
    async fn with_token(&mut self, request: &PostgresRequest, cookie: Cookie) -> Result<Granted<Cookie>> {
        if !request.token {
            return Ok(Granted { cookie, token: None });
        }
        match self.token().await {
            Ok(token) => Ok(Granted { cookie, token: Some(token) }),
            Err(error) => {
                if self.unlock(&[(*request, cookie)]).await.is_err() {
                    self.give_up();
                }
                Err(error)
            }
        }
    }

    /// Ends another session of ours that is known by its process.
    pub(crate) async fn end_other(&self, process: i32, started: &str) -> Result<(), tokio_postgres::Error> {
        let started = started.replace('\'', "''");
        let sql = format!(
            "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
             where pid={process} and backend_start::text='{started}'"
        );
        self.query(&sql).await.map(drop)
    }
}

pub(crate) fn number(value: Option<&str>) -> Result<u64> {
    value.and_then(|value| value.parse().ok()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "the server answers with something that is no number").no_effect(false)
    })
}

impl Session for PostgresSession {
    type Request = PostgresRequest;
    type Cookie = Cookie;

    async fn try_lock(&mut self, request: &PostgresRequest, held: &[Cookie]) -> Result<Attempted<Cookie>> {
        if request.token {
            self.ensure_sequence().await?;
        }
        let attempted = match self.scope() {
            Scope::Session => self.try_in_session(request, held).await?,
            Scope::Transaction => self.try_in_transaction(request).await?,
        };
        match attempted {
            Attempted::Granted(Granted { cookie, token: None }) => {
                self.with_token(request, cookie).await.map(Attempted::Granted)
            }
            attempted => Ok(attempted),
        }
    }

    async fn lock(&mut self, request: &PostgresRequest, mut stop: Stop) -> Result<Option<Granted<Cookie>>> {
        if request.token {
            self.ensure_sequence().await?;
        }
        let cookie = match (self.scope(), request.mode) {
            (Scope::Session, Mode::Permit(permits)) => permits::wait(self, request.key, permits, &mut stop).await?,
            (Scope::Session, _) => self.wait_in_session(request, &mut stop).await?.then_some(0),
            (Scope::Transaction, _) => self.wait_in_transaction(request, &mut stop).await?.then_some(0),
        };
        match cookie {
            Some(cookie) => self.with_token(request, cookie).await.map(Some),
            None => Ok(None),
        }
    }

    async fn unlock(&mut self, holds: &[(PostgresRequest, Cookie)]) -> Result<Vec<bool>> {
        if self.scope() == Scope::Transaction {
            // It holds but one. A transaction that has failed refuses the statement, and has given the lock back before.
            self.query("select 1;commit").await.map_err(failure::of_statement)?;
            return Ok(vec![true; holds.len()]);
        }
        let release = |(request, number): &(PostgresRequest, Cookie)| match request.mode {
            Mode::Permit(_) => format!("select {}", statements::unlock_permit(request.key, *number)),
            mode => format!("select {}", statements::unlock(request.key, mode)),
        };
        let sql: Vec<_> = holds.iter().map(release).collect();
        let messages = self.query(&sql.join(";")).await.map_err(failure::of_statement)?;
        Ok(statements::rows(&messages).map(|row| row.get(0) == Some("t")).collect())
    }

    async fn mint(&mut self, _: &PostgresRequest) -> Result<u64> {
        if !self.is_usable() {
            return Err(Error::lost(LossReason::SessionEnded));
        }
        let token = self.token().await;
        if token.is_err() && self.scope() == Scope::Transaction {
            // The failed transaction has given the lock back.
            self.give_up();
        }
        token
    }

    async fn ping(&mut self) -> Result<()> {
        self.query("select 1").await.map(drop).map_err(failure::lost)
    }

    fn is_usable(&self) -> bool {
        !self.is_lost.load(Ordering::Acquire) && !self.connection.client.is_closed()
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        let mut closed = self.connection.closed.clone();
        Box::pin(async move {
            // A sender that is gone has told all it could.
            let _ = closed.wait_for(|closed| *closed).await;
        })
    }

    fn end_remotely(&self) -> BoxFuture<'static, ()> {
        let Identity { process, started, .. } = &self.identity;
        let (connector, process, started) = (self.connector.clone(), *process, started.clone());
        if self.scope() == Scope::Transaction && self.identity.is_pooled() {
            // Who served the session at first may serve others now; the pooler ends the transaction when its client is gone.
            return Box::pin(async {});
        }
        Box::pin(async move {
            let mut pause = Duration::from_millis(250);
            for _ in 0..END_TRIES {
                if let Ok(other) = PostgresDriver(connector.clone()).connect().await
                    && other.end_other(process, &started).await.is_ok()
                {
                    return;
                }
                let Ok(environment) = connector.environment() else { return };
                Sleep::new(environment.clock.clone(), pause).await;
                pause *= 2;
            }
            tracing::warn!(
                lock.backend = "postgres",
                process,
                "the server could not be told to end a session; it does so when it notices that the connection is gone"
            );
        })
    }

    async fn end(self) {
        let Connection { client, driving, mut closed, .. } = self.connection;
        // It says good-bye when nobody can ask it anything any more.
        drop(client);
        let _ = closed.wait_for(|closed| *closed).await;
        drop(driving);
    }
}

impl PostgresSession {
    pub(crate) fn give_back_gate(gate: PostgresKey, mode: Mode) -> String {
        format!("select {}", statements::unlock(gate, mode))
    }
}
