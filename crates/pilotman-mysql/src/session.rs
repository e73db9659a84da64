//! One session of ours.

use std::future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use pilotman_core::backend::BoxFuture;
use pilotman_core::{Error, ErrorKind, LossReason, Result};
use pilotman_session::{Attempted, Granted, Session, Stop};

use crate::calm::calmly;
use crate::connect::{Connector, Identity};
use crate::control::{self, Control};
use crate::options::{Host, MySql};
use crate::request::MySqlRequest;
use crate::statements::{self, OURS, READ_ONLY, text};
use crate::{failure, tokens};

/// So many locks are released by one statement.
const RELEASED_AT_ONCE: usize = 200;
/// A session that was killed is told within a second, with time to spare on a busy machine.
const SILENCE: Duration = Duration::from_millis(250);

/// See the [module](self).
pub(crate) struct MySqlSession {
    connector: Arc<Connector>,
    host: Host,
    conn: Conn,
    identity: Identity,
    /// What is held here is not known any more.
    is_lost: bool,
}

/// How a wait at the server has ended.
struct Waited {
    answer: mysql_async::Result<Option<String>>,
    /// The server was asked to end it.
    was_ended: bool,
}

impl MySqlSession {
    pub(crate) fn new(connector: Arc<Connector>, host: Host, conn: Conn, identity: Identity) -> Self {
        Self { connector, host, conn, identity, is_lost: false }
    }

    pub(crate) fn mysql(&self) -> &MySql {
        &self.connector.mysql
    }

    pub(crate) fn id(&self) -> u64 {
        self.identity.id
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        self.identity.is_mariadb
    }

    /// What is held here is not known any more.
    pub(crate) fn give_up(&mut self) {
        self.is_lost = true;
    }

    fn seen<T>(&mut self, answer: mysql_async::Result<T>) -> mysql_async::Result<T> {
        answer.inspect_err(|error| self.is_lost |= failure::is_end(error))
    }

    /// Runs one statement.
    pub(crate) async fn rows(&mut self, sql: &str) -> mysql_async::Result<Vec<Row>> {
        let answer = calmly(self.conn.query(sql)).await;
        self.seen(answer)
    }

    /// Runs one statement, for the text of its first column.
    pub(crate) async fn value(&mut self, sql: &str) -> mysql_async::Result<Option<String>> {
        Ok(self.rows(sql).await?.first().and_then(|row| text(row, 0)))
    }

    /// Runs one statement that makes a number.
    pub(crate) async fn insert(&mut self, sql: &str) -> mysql_async::Result<Option<u64>> {
        let answer = calmly(self.conn.query_drop(sql)).await;
        self.seen(answer)?;
        Ok(self.conn.last_insert_id())
    }

    fn name<'a>(&self, request: &'a MySqlRequest) -> &'a str {
        request.name.on(self.is_mariadb())
    }

    /// Waits, and has that ended when nobody wants it any longer.
    async fn wait_until(&mut self, sql: &str, stop: &mut Stop) -> Waited {
        let (connector, host, identity) = (self.connector.clone(), self.host.clone(), self.identity.clone());
        let (answer, was_ended) = {
            let mut work = pin!(calmly(self.conn.query_first::<Row, _>(sql)));
            let asked = async {
                stop.requested().await;
                Control::open(&connector, &host).await
            };
            tokio::select! {
                biased;
                answer = &mut work => (answer, false),
                () = control::session_is_silent(&connector, &host, &identity) => {
                    let error = "nothing is heard any more of a session that waits";
                    // Not an error of the server's, so that the session is given up.
                    (Err(mysql_async::Error::Other(error.into())), false)
                }
                control = asked => match control {
                    Ok(control) => {
                        let (answer, ended) = tokio::join!(work, control.end_statement(&identity));
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a wait could not be ended");
                        }
                        (answer, true)
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a wait could not be ended");
                        // Whoever asked bounds the time.
                        (work.await, false)
                    }
                },
            }
        };
        let answer = self.seen(answer).map(|row| row.and_then(|row| text(&row, 0)));
        Waited { answer, was_ended }
    }

    /// After a wait that ended without an answer: the grant may have come first, and then this session has the lock.
    async fn undo(&mut self, name: &str) {
        if self.is_lost {
            return;
        }
        match self.rows(&statements::undo(name)).await {
            Err(error) if !failure::is_bad_name(&error) => {
                tracing::debug!(%error, "nothing more can be known of this session");
                self.is_lost = true;
            }
            // Nobody has a lock of a name that the server refuses.
            _ => {}
        }
    }

    /// Whether the lock was had before the wait was stopped.
    async fn wait(&mut self, name: &str, stop: &mut Stop) -> Result<bool> {
        let sql = statements::wait(name);
        loop {
            let Waited { answer, was_ended } = self.wait_until(&sql, stop).await;
            match answer {
                Ok(Some(answer)) if answer == "1" => {
                    // What was sent to end the wait would end the next statement instead, or has done nothing: who knows.
                    self.is_lost |= was_ended;
                    return Ok(!was_ended);
                }
                Ok(Some(answer)) if answer == READ_ONLY => {
                    // It holds nothing; another one may reach the primary.
                    self.is_lost = true;
                    return Err(failure::is_read_only(&self.host.to_string()));
                }
                // A year has passed.
                Ok(Some(answer)) if answer == "0" && !was_ended => {}
                Ok(_) => {
                    self.undo(name).await;
                    return match was_ended {
                        true => Ok(false),
                        false => {
                            Err(Error::unavailable("somebody at the server ended a wait for a lock").no_effect(true))
                        }
                    };
                }
                Err(error) => {
                    let stopped = was_ended && failure::is_interrupted(&error);
                    let error = failure::of_statement(error);
                    self.undo(name).await;
                    return if stopped { Ok(false) } else { Err(error) };
                }
            }
            if stop.is_requested() {
                return Ok(false);
            }
        }
    }

    /// Adds the token that was asked for; without one there is no hold.
    async fn with_token(&mut self, request: &MySqlRequest) -> Result<Granted<()>> {
        if !request.token {
            return Ok(Granted { cookie: (), token: None });
        }
        match tokens::next(self, request.name.as_str()).await {
            Ok(token) => Ok(Granted { cookie: (), token: Some(token) }),
            Err(error) => {
                let name = self.name(request);
                self.undo(name).await;
                Err(error)
            }
        }
    }
}

impl Session for MySqlSession {
    type Request = MySqlRequest;
    type Cookie = ();

    /// Where somebody ended the attempt in the middle, nobody can tell whether it was granted: what the session has may be another
    /// hold, whose name the server takes for the same. So the session is given up.
    async fn try_lock(&mut self, request: &MySqlRequest, _: &[()]) -> Result<Attempted<()>> {
        let name = self.name(request);
        let answer = match self.value(&statements::attempt(name)).await {
            Ok(answer) => answer,
            Err(error) => {
                self.is_lost |= failure::is_interrupted(&error);
                let error = failure::of_statement(error);
                self.undo(name).await;
                return Err(error);
            }
        };
        match answer.as_deref() {
            Some("1") => self.with_token(request).await.map(Attempted::Granted),
            Some("0" | OURS) => Ok(Attempted::Contended),
            // A new one reaches the primary, or says what is wrong; this one keeps what it has.
            Some(READ_ONLY) => Ok(Attempted::Elsewhere),
            _ => {
                self.is_lost = true;
                Err(Error::unavailable("the server could not give or refuse the lock").no_effect(true))
            }
        }
    }

    async fn lock(&mut self, request: &MySqlRequest, mut stop: Stop) -> Result<Option<Granted<()>>> {
        let name = self.name(request);
        match self.wait(name, &mut stop).await? {
            true => self.with_token(request).await.map(Some),
            false => Ok(None),
        }
    }

    async fn unlock(&mut self, holds: &[(MySqlRequest, ())]) -> Result<Vec<bool>> {
        let mut found = Vec::with_capacity(holds.len());
        for part in holds.chunks(RELEASED_AT_ONCE) {
            let sql = statements::release(part.iter().map(|(request, ())| self.name(request)));
            let rows = self.rows(&sql).await.map_err(failure::of_statement)?;
            let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Internal, "a release was not answered"))?;
            found.extend((0..part.len()).map(|at| text(row, at).as_deref() == Some("1")));
        }
        Ok(found)
    }

    async fn mint(&mut self, request: &MySqlRequest) -> Result<u64> {
        match self.is_usable() {
            true => tokens::next(self, request.name.as_str()).await,
            false => Err(Error::lost(LossReason::SessionEnded)),
        }
    }

    async fn ping(&mut self) -> Result<()> {
        let answer = calmly(self.conn.ping()).await;
        self.seen(answer).map_err(failure::lost)
    }

    fn is_usable(&self) -> bool {
        !self.is_lost && !self.conn.is_disconnected()
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        // The driver keeps its socket to itself.
        Box::pin(future::pending())
    }

    fn longest_silence(&self) -> Option<Duration> {
        Some(SILENCE)
    }

    fn end_remotely(&self) -> BoxFuture<'static, ()> {
        Box::pin(control::end_session(self.connector.clone(), self.host.clone(), self.identity.clone()))
    }

    async fn end(self) {
        if self.is_usable()
            && let Err(error) = calmly(self.conn.disconnect()).await
        {
            tracing::debug!(%error, "a session did not end well");
        }
    }
}
