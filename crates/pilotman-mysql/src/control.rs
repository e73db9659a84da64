//! Connections that end statements and sessions of others.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, Result};

use crate::calm::calmly;
use crate::connect::{Connector, Identity};
use crate::failure;
use crate::options::Host;
use crate::statements::text;

/// Ending a statement or a session may take this long.
const CONTROL: Duration = Duration::from_secs(2);
/// A session that could not be ended is tried to be ended so often whatever happens, and further while there is a backend.
const TRIES: u32 = 5;
/// So often in all: for an hour. A server that is away for longer has noticed by itself, or never will.
const MOST: u32 = 125;
/// The longest pause between two of them.
const PAUSE: Duration = Duration::from_secs(30);

/// A session that waits is looked for after so many heartbeats, and again and again.
const WATCHED: u32 = 6;
/// And is given up when so often in a row nothing good was seen.
const SILENT: u32 = 3;

/// See the [module](self).
pub(crate) struct Control {
    connector: Arc<Connector>,
    conn: Conn,
}

impl Control {
    /// Connects to the server of this host.
    pub(crate) async fn open(connector: &Arc<Connector>, host: &Host) -> Result<Self> {
        let limit = connector.mysql.connect_timeout;
        let late = || Error::unavailable(format!("{host} took no second connection within {limit:?}"));
        let conn = connector.within(limit, connector.log_in(host), late).await?;
        Ok(Self { connector: connector.clone(), conn })
    }

    /// Ends the statement that this session runs. When this has succeeded, the server has told the session so: not later.
    pub(crate) async fn end_statement(self, identity: &Identity) -> Result<()> {
        let gone = || Err(Error::unavailable("the session is not there: another server may have answered to its name"));
        self.kill("QUERY", identity).await?.then_some(()).map_or_else(gone, Ok)
    }

    /// Ends a session, if it is still there.
    async fn end_session(self, identity: &Identity) -> Result<()> {
        self.kill("CONNECTION", identity).await.map(drop)
    }

    /// What the session does: `None` if it is not there.
    async fn look(mut self, identity: &Identity) -> Result<Option<String>> {
        let connector = self.connector.clone();
        let late = || Error::unavailable(format!("the server did not answer within {CONTROL:?}"));
        connector.within(CONTROL, self.does(identity), late).await
    }

    async fn does(&mut self, identity: &Identity) -> Result<Option<String>> {
        let sql = format!("SELECT HOST, COMMAND FROM information_schema.PROCESSLIST WHERE ID={}", identity.id);
        let row: Option<Row> = calmly(self.conn.query_first(sql)).await.map_err(failure::of_statement)?;
        // Numbers come again: on a server that was restarted since, or on another one of the same name.
        let row = row.filter(|row| text(row, 0).as_ref() == Some(&identity.client));
        Ok(row.map(|row| text(&row, 1).unwrap_or_default()))
    }

    /// Whether the session was there to be told.
    async fn kill(mut self, what: &str, identity: &Identity) -> Result<bool> {
        let connector = self.connector.clone();
        let late = || Error::unavailable(format!("the server did not act on KILL {what} within {CONTROL:?}"));
        let id = identity.id;
        let work = async {
            if self.does(identity).await?.is_none() {
                return Ok(false);
            }
            calmly(self.conn.query_drop(format!("KILL {what} {id}"))).await.map_err(failure::of_statement)?;
            Ok(true)
        };
        connector.within(CONTROL, work, late).await
    }
}

/// Completes when a session that waits is not there any more, when its answer doesn't come, or when its server can't be asked: a
/// wait sends nothing by which an end of its connection would be noticed.
pub(crate) async fn session_is_silent(connector: &Arc<Connector>, host: &Host, identity: &Identity) {
    let Ok(clock) = connector.environment().map(|environment| environment.clock.clone()) else {
        return std::future::pending().await;
    };
    let pause = connector.mysql.sessions.heartbeat * WATCHED;
    let mut silent = 0;
    while silent < SILENT {
        Sleep::new(clock.clone(), pause).await;
        let looked = async { Control::open(connector, host).await?.look(identity).await };
        match looked.await {
            Ok(None) => return,
            // It has answered, and nothing has come here: it may be on its way.
            Ok(Some(command)) if command == "Sleep" => silent += 1,
            Ok(Some(_)) => silent = 0,
            // The server may have too many connections for one more.
            Err(error) => {
                tracing::debug!(%error, "whether a wait goes on could not be asked");
                silent += 1;
            }
        }
    }
}

/// Has the server end its side of a session, of which nothing is known any more.
pub(crate) async fn end_session(connector: Arc<Connector>, host: Host, identity: Identity) {
    let Ok(clock) = connector.environment().map(|environment| environment.clock.clone()) else { return };
    let backend = Arc::downgrade(&connector);
    let mut kept = Some(connector);
    let mut pause = Duration::from_millis(250);
    for nth in 1..=MOST {
        let Some(connector) = kept.clone().or_else(|| backend.upgrade()) else { return };
        let ended = async { Control::open(&connector, &host).await?.end_session(&identity).await };
        match ended.await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "a session could not be ended"),
        }
        drop(connector);
        if nth == TRIES {
            kept = None;
            tracing::warn!(
                lock.backend = "mysql",
                connection = identity.id,
                "the server could not be told yet to end a session; its locks stay until it is, or notices that the \
                 connection is gone"
            );
        }
        Sleep::new(clock.clone(), pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}
