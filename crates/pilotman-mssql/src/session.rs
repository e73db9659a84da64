//! One session of ours.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::backend::BoxFuture;
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, LossReason, Result};
use pilotman_session::{Attempted, Granted, Session, Stop};

use crate::connect::{Connector, Identity};
use crate::driver::{Client, Row, Value};
use crate::failure::{self, Failure, NOT_HELD};
use crate::options::MsSql;
use crate::request::{Cookie, Mode, MsSqlRequest};
use crate::statements::{GET, MODE, PING, RELEASE, release_all};
use crate::wire::Tiberius;
use crate::{permits, tokens};

/// The server may take so long to acknowledge that a wait was cancelled.
const CANCEL: Duration = Duration::from_secs(2);
/// So many locks are released by one statement.
const RELEASES: usize = 32;
/// An upgrade waits for so long at a time.
const SLICE: Duration = Duration::from_millis(250);
/// As the server takes it for ever.
const FOREVER: i32 = -1;

/// See the [module](self).
pub(crate) struct MsSqlSession {
    connector: Arc<Connector>,
    client: Tiberius,
    identity: Identity,
    /// What this session holds: the server would give it the same again.
    held: HashSet<String>,
    /// So often its upgradeable read was upgraded, and has to be released beside that.
    upgrades: usize,
    /// What is held here, or what comes next on its connection, is not known any more.
    is_lost: bool,
}

/// How a call has ended that asked for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Granted,
    /// Not within the time that was given.
    Refused,
    /// It was stopped, and nothing came of it.
    Stopped,
}

/// As the server knows how long to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Millis(pub(crate) i32);

impl Millis {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const FOREVER: Self = Self(FOREVER);
}

impl MsSqlSession {
    pub(crate) fn new(connector: Arc<Connector>, client: Tiberius, identity: Identity) -> Self {
        Self { connector, client, identity, held: HashSet::new(), upgrades: 0, is_lost: false }
    }

    pub(crate) fn mssql(&self) -> &MsSql {
        &self.connector.mssql
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn random(&self) -> u64 {
        self.connector.environment.get().map_or(0, |environment| environment.random.next())
    }

    /// Whether nobody has looked yet whether the sequence of the tokens is fit for them.
    pub(crate) fn needs_sequence(&self) -> bool {
        !self.connector.has_sequence.load(Ordering::Acquire)
    }

    pub(crate) fn has_sequence(&self) {
        self.connector.has_sequence.store(true, Ordering::Release);
    }

    /// Nothing can be said any more of what this session holds: it must end.
    pub(crate) fn give_up(&mut self) {
        self.is_lost = true;
    }

    fn seen<T>(&mut self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.inspect_err(|failure| self.is_lost |= failure.is_end())
    }

    /// Runs a statement, for its rows.
    pub(crate) async fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let answer = self.client.rows(sql, parameters).await;
        self.seen(answer)
    }

    /// Runs a statement, for its only value.
    pub(crate) async fn value(&mut self, sql: &str, parameters: &[Value]) -> Result<Option<Value>, Failure> {
        Ok(self.rows(sql, parameters).await?.into_iter().next().and_then(|row| row.into_iter().next()))
    }

    /// Asks for a lock. Without `stop` it is not to wait for long.
    pub(crate) async fn ask(
        &mut self,
        resource: &str,
        mode: &'static str,
        limit: Millis,
        stop: Option<&mut Stop>,
    ) -> Result<Asked> {
        let arguments = [
            ("@Resource", resource.into()),
            ("@LockMode", mode.into()),
            ("@LockOwner", "Session".into()),
            ("@LockTimeout", Value::Int(limit.0)),
        ];
        let (status, was_stopped) = match stop {
            None => (self.client.call(GET, &arguments).await.map(Some), false),
            Some(stop) => (self.client.call_until(GET, &arguments, stop).await, stop.is_requested()),
        };
        match self.seen(status) {
            Ok(Some(-1)) => Ok(Asked::Refused),
            Ok(Some(code)) if code >= 0 => Ok(Asked::Granted),
            // Somebody else's attention, or ours by another way: in both cases it is not known what came first.
            Ok(Some(code)) => {
                self.undo(resource).await;
                if code == -2 && was_stopped { Ok(Asked::Stopped) } else { Err(failure::of_code(code)) }
            }
            Ok(None) => {
                self.cancel().await;
                Ok(Asked::Stopped)
            }
            Err(failure) => {
                let error = failure::of_statement(failure);
                self.undo(resource).await;
                Err(error)
            }
        }
    }

    /// Has a wait cancelled that was stopped. If the server's answer to that is not known in whole, this session is lost.
    async fn cancel(&mut self) {
        let Ok(environment) = self.connector.environment() else { return self.give_up() };
        let late = Sleep::new(environment.clock.clone(), CANCEL);
        let cancelled = tokio::select! {
            biased;
            cancelled = self.client.cancel() => cancelled,
            () = late => Err(Failure::nonsense("the server did not acknowledge a cancellation")),
        };
        if let Err(failure) = cancelled {
            tracing::debug!(%failure, "a wait could not be cancelled; its session is ended");
            self.give_up();
        }
    }

    /// How this session has a resource; `None`: it hasn't, or nothing can be known any more.
    async fn mode_of(&mut self, resource: &str) -> Option<String> {
        if self.is_lost {
            return None;
        }
        match self.value(MODE, &[resource.into()]).await {
            Ok(Some(Value::Text(mode))) => (mode != "NoLock").then_some(mode),
            answer => {
                tracing::debug!(?answer, "nothing more can be known of this session");
                self.give_up();
                None
            }
        }
    }

    /// After a call that ended without a grant: the grant may have come first, and then this session has the lock.
    pub(crate) async fn undo(&mut self, resource: &str) {
        if !self.held.contains(resource) && self.mode_of(resource).await.is_some() && self.free(resource).await.is_err()
        {
            self.give_up();
        }
    }

    /// Releases a lock once; whether it was there.
    pub(crate) async fn free(&mut self, resource: &str) -> Result<bool> {
        let arguments = [("@Resource", resource.into()), ("@LockOwner", "Session".into())];
        let status = self.client.call(RELEASE, &arguments).await;
        match self.seen(status) {
            Ok(0) => Ok(true),
            Ok(code) => {
                self.give_up();
                Err(Error::unavailable(format!("sp_releaseapplock returned {code}")).no_effect(false))
            }
            Err(failure) if failure.number() == Some(NOT_HELD) => Ok(false),
            Err(failure) => {
                self.give_up();
                Err(failure::of_statement(failure))
            }
        }
    }

    /// Releases several locks once, in one round trip; whether each was there.
    async fn free_all(&mut self, resources: &[String]) -> Result<Vec<bool>> {
        let parameters: Vec<Value> = resources.iter().map(|resource| resource.as_str().into()).collect();
        let answer = self.value(&release_all(resources.len()), &parameters).await;
        let found = match &answer {
            Ok(Some(Value::Text(found))) if found.len() == resources.len() => found.as_str(),
            _ => "",
        };
        let found: Option<Vec<bool>> = found.chars().map(was_there).collect();
        match (answer, found) {
            (Ok(_), Some(found)) if !found.is_empty() => Ok(found),
            (answer, _) => {
                self.give_up();
                let failure =
                    answer.err().unwrap_or_else(|| Failure::nonsense("the server did not say what it released"));
                Err(failure::of_statement(failure).no_effect(false))
            }
        }
    }

    /// Waits for an upgrade by many short waits, each of which ends by itself: so a server that is gone is noticed, for the hold is
    /// to be told of that, and nothing has to be cancelled, after which the hold might be lost. Where a grant comes as the upgrade
    /// is stopped, it stays: the server knows no way back but to release all.
    async fn upgrade_in_slices(&mut self, name: &str, stop: &Stop) -> Result<bool> {
        let (clock, beat) = (self.connector.environment()?.clock.clone(), self.mssql().sessions.heartbeat);
        let slice = SLICE.min(beat / 4);
        let limit = Millis(i32::try_from(slice.as_millis()).unwrap_or(i32::MAX).max(1));
        while !stop.is_requested() {
            let late = Sleep::new(clock.clone(), beat.saturating_add(slice));
            let asked = tokio::select! {
                biased;
                asked = self.ask(name, Mode::Exclusive.name(), limit, None) => asked?,
                () = late => {
                    self.give_up();
                    return Err(failure::lost(Failure::nonsense("the server did not answer an upgrade in time")));
                }
            };
            if asked == Asked::Granted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the token that was asked for; without one there is no hold.
    async fn with_token(&mut self, request: &MsSqlRequest, cookie: Cookie) -> Result<Granted<Cookie>> {
        let resource = request.held(cookie);
        let token = match request.token {
            false => None,
            true => match tokens::next(self).await {
                Ok(token) => Some(token),
                Err(error) => {
                    self.undo(&resource).await;
                    return Err(error);
                }
            },
        };
        self.held.insert(resource);
        Ok(Granted { cookie, token })
    }
}

/// What [`release_all`] says of each.
fn was_there(sign: char) -> Option<bool> {
    match sign {
        '1' => Some(true),
        '0' => Some(false),
        _ => None,
    }
}

impl Session for MsSqlSession {
    type Request = MsSqlRequest;
    type Cookie = Cookie;

    async fn try_lock(&mut self, request: &MsSqlRequest, _: &[Cookie]) -> Result<Attempted<Cookie>> {
        let name = &request.resource.name;
        let had = match request.mode {
            Mode::Permit(permits) => permits::attempt(self, &request.resource, permits).await?,
            // By another kind of request: to the server it would be the same.
            _ if self.held.contains(&**name) => return Ok(Attempted::Elsewhere),
            mode => match self.ask(name, mode.name(), Millis::NONE, None).await? {
                Asked::Granted => Some(0),
                Asked::Refused | Asked::Stopped => None,
            },
        };
        match had {
            Some(cookie) => self.with_token(request, cookie).await.map(Attempted::Granted),
            None => Ok(Attempted::Contended),
        }
    }

    async fn lock(&mut self, request: &MsSqlRequest, mut stop: Stop) -> Result<Option<Granted<Cookie>>> {
        let had = match request.mode {
            Mode::Permit(permits) => permits::wait(self, &request.resource, permits, &mut stop).await?,
            mode => {
                let name = &request.resource.name;
                let asked = self.ask(name, mode.name(), Millis::FOREVER, Some(&mut stop)).await?;
                if asked == Asked::Stopped {
                    self.undo(name).await;
                }
                if asked == Asked::Refused {
                    return Err(Error::unavailable("the server ended a wait that has no end").no_effect(true));
                }
                (asked == Asked::Granted).then_some(0)
            }
        };
        match had {
            Some(cookie) => self.with_token(request, cookie).await.map(Some),
            None => Ok(None),
        }
    }

    async fn upgrade(&mut self, request: &MsSqlRequest, _: &Cookie, stop: Option<Stop>) -> Result<bool> {
        let name = &request.resource.name;
        let is_upgraded = match stop {
            None => self.ask(name, Mode::Exclusive.name(), Millis::NONE, None).await? == Asked::Granted,
            Some(stop) => self.upgrade_in_slices(name, &stop).await?,
        };
        self.upgrades += usize::from(is_upgraded);
        Ok(is_upgraded)
    }

    async fn unlock(&mut self, holds: &[(MsSqlRequest, Cookie)]) -> Result<Vec<bool>> {
        let resources: Vec<_> = holds.iter().map(|(request, cookie)| request.held(*cookie)).collect();
        for resource in &resources {
            self.held.remove(resource);
        }
        let [resource] = &resources[..] else { return self.free_all(&resources).await };
        let mut was_there = self.free(resource).await?;
        // There are upgrades only where the hold is alone in its session.
        for _ in 0..std::mem::take(&mut self.upgrades) {
            was_there &= self.free(resource).await?;
        }
        Ok(vec![was_there])
    }

    fn releases_at_once(&self) -> usize {
        RELEASES
    }

    async fn mint(&mut self, _: &MsSqlRequest) -> Result<u64> {
        match self.is_usable() {
            true => tokens::next(self).await,
            false => Err(Error::lost(LossReason::SessionEnded)),
        }
    }

    async fn ping(&mut self) -> Result<()> {
        self.rows(PING, &[]).await.map(drop).map_err(failure::lost)
    }

    fn is_usable(&self) -> bool {
        !self.is_lost
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        self.client.closed()
    }

    fn end_remotely(&self) -> BoxFuture<'static, ()> {
        // The server ends a session whose connection is closed, whatever it does. To end it by its number could hit another one,
        // which has got that number meanwhile.
        Box::pin(async {})
    }

    async fn end(self) {
        if self.is_usable() {
            self.client.end().await;
        }
    }
}
