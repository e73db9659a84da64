//! Notices what happens to a server: that it restarted, was promoted, was flushed, or had its clock set.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotman_core::clock::Time;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use super::{Conn, LOOK, Live, Node, Notice, exchange, lock};
use crate::failure;
use crate::incident::{Incident, IncidentKind};

/// A clock that differs by more than this from what it was expected to show has been set.
const STEP: Duration = Duration::from_millis(100);

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) run_id: String,
    replication: String,
    /// The replication that this one goes on from, after a promotion.
    former: String,
    pub(super) primary: bool,
}

/// What is known about the server from before.
#[derive(Default)]
pub(super) struct Health(Mutex<Known>);

#[derive(Default)]
struct Known {
    server: String,
    seen: Option<Seen>,
    /// What we left on the server, which goes when its data does.
    mark: Option<Vec<u8>>,
    clock: Option<Reading>,
}

/// A server's clock at a moment of ours.
#[derive(Clone, Copy)]
struct Reading {
    /// Microseconds since the epoch, by the server.
    server: i128,
    sent: Time,
    received: Time,
}

/// Asks a server who it is. `None`: this user may not ask.
pub(super) async fn look(connection: &MultiplexedConnection) -> RedisResult<Option<Seen>> {
    let section = |name: &str| {
        let mut cmd = redis::cmd("INFO");
        cmd.arg(name);
        async move { exchange(connection, &cmd).await }
    };
    let (server, replication) = tokio::join!(section("server"), section("replication"));
    let (server, replication) = match (server, replication) {
        (Err(error), _) | (_, Err(error)) if failure::code(&error) == Some("NOPERM") => {
            tracing::debug!(%error, "can't ask this server about restarts and promotions");
            return Ok(None);
        }
        (server, replication) => (text(server?), text(replication?)),
    };
    let field = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    Ok(Some(Seen {
        run_id: field(&server, "run_id"),
        replication: field(&replication, "master_replid"),
        former: field(&replication, "master_replid2"),
        primary: field(&replication, "role") != "slave",
    }))
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => String::new(),
    }
}

impl Node {
    pub(super) fn report(&self, server: &str, kind: IncidentKind) {
        let incident = Incident { server: server.to_owned(), kind };
        match incident.kind {
            IncidentKind::Disconnected => tracing::info!(lock.backend = "redis", server, "{incident}"),
            _ => tracing::warn!(
                lock.backend = "redis",
                server,
                incident = incident.kind.as_str(),
                "{incident}; locks may have been lost"
            ),
        }
        if let Some(observer) = &self.spec.observer {
            (observer.0)(&incident);
        }
        self.notice(Notice::Incident(incident.kind));
    }

    /// Compares what a newly connected server says with what was known.
    pub(super) fn noticed(&self, server: &str, seen: Option<&Seen>) {
        let Some(seen) = seen else { return };
        let incident = {
            let mut known = lock(&self.health.0);
            let before = known.seen.replace(seen.clone());
            let moved = std::mem::replace(&mut known.server, server.to_owned()) != server;
            if moved {
                known.clock = None;
            }
            match before {
                None => None,
                Some(before) if before.run_id == seen.run_id && !moved => {
                    // A primary also begins a new replication with its first replica.
                    let promoted = before.replication != seen.replication && seen.former == before.replication;
                    (promoted || !before.primary).then_some(IncidentKind::Promoted)
                }
                Some(_) if moved => Some(IncidentKind::Promoted),
                Some(_) => {
                    // Its data came from a file, or is gone; the mark tells nothing more.
                    known.mark = None;
                    Some(IncidentKind::Restarted)
                }
            }
        };
        if let Some(kind) = incident {
            self.report(server, kind);
        }
    }

    /// Leaves a mark that goes when the server's data does, or learns the one that is there.
    pub(super) async fn mark(&self, connection: &MultiplexedConnection) {
        let key = format!("{}mark", self.spec.key_format.own());
        let (mut set, mut get) = (redis::cmd("SET"), redis::cmd("GET"));
        set.arg(&key).arg(format!("{:016x}", self.random())).arg("NX");
        get.arg(&key);
        let (set, get) = tokio::join!(exchange(connection, &set), exchange(connection, &get));
        if let Err(error) = set {
            // A full server, say. Then a flush is not noticed until the next look.
            tracing::debug!(%error, "no mark could be left");
        }
        if let Ok(Value::BulkString(mark)) = get {
            lock(&self.health.0).mark = Some(mark);
        }
    }

    /// Has a look at the server if the last one was a while ago. Costs nothing otherwise.
    pub(super) fn look_if_due(self: &Arc<Self>, live: &Arc<Live>) {
        let Conn::One(connection) = &live.conn else { return };
        let now = self.now();
        let looked = live.looked.load(Ordering::Relaxed);
        if now < Time::from_nanos(looked).after(LOOK)
            || live.looked.compare_exchange(looked, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let (node, live, connection) = (self.clone(), live.clone(), connection.clone());
        tokio::spawn(async move {
            if tokio::time::timeout(LOOK, node.look_again(&live, &connection)).await.is_err() {
                tracing::debug!(server = live.server, "no answer to a look");
            }
        });
    }

    async fn look_again(self: &Arc<Self>, live: &Live, connection: &MultiplexedConnection) {
        let mut get = redis::cmd("GET");
        get.arg(format!("{}mark", self.spec.key_format.own()));
        let clock = redis::cmd("TIME");
        let sent = self.now();
        let (seen, mark, time) =
            tokio::join!(look(connection), exchange(connection, &get), exchange(connection, &clock));
        if let Ok(Value::Array(parts)) = time {
            self.read_clock(&live.server, &parts, sent);
        }
        match seen {
            Ok(Some(seen)) => {
                self.noticed(&live.server, Some(&seen));
                if !seen.primary {
                    // It was demoted on a living connection.
                    self.invalidate(live.generation);
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, server = live.server, "no look at the server");
                return;
            }
        }
        let gone = match (&lock(&self.health.0).mark, &mark) {
            (Some(_), Ok(Value::Nil)) => true,
            (Some(ours), Ok(Value::BulkString(now))) => ours != now,
            _ => false,
        };
        if gone {
            self.report(&live.server, IncidentKind::Flushed);
        }
        if gone || matches!(mark, Ok(Value::Nil)) {
            self.mark(connection).await;
        }
    }

    /// Compares a server's clock with ours. `parts` is the answer of `TIME`, to a question sent at `sent`.
    pub(crate) fn read_clock(&self, server: &str, parts: &[Value], sent: Time) {
        let number = |at: usize| match parts.get(at)? {
            Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<i128>().ok(),
            Value::Int(number) => Some(i128::from(*number)),
            _ => None,
        };
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else { return };
        let now = Reading { server: seconds * 1_000_000 + micros, sent, received: self.now() };
        let step = {
            let mut known = lock(&self.health.0);
            let current = known.server == server;
            if !current {
                return;
            }
            known.clock.replace(now).and_then(|before| before.step_to(now))
        };
        if let Some((by, forward)) = step {
            self.report(server, IncidentKind::ClockStepped { by, forward });
        }
    }

    /// As [`Self::read_clock`], of the server that is connected now.
    pub(crate) fn read_current_clock(&self, parts: &[Value], sent: Time) {
        let Some(live) = self.current() else { return };
        if matches!(live.conn, Conn::One(_)) {
            self.read_clock(&live.server, parts, sent);
        }
    }
}

impl Reading {
    /// By how much the server's clock was set since, if so, and whether forward.
    fn step_to(self, later: Self) -> Option<(Duration, bool)> {
        let micros = |time: Time| i128::from(time.as_nanos() / 1000);
        let server = later.server - self.server;
        // The server read its clocks somewhere between sending and receiving.
        let least = micros(later.sent) - micros(self.received);
        let most = micros(later.received) - micros(self.sent);
        // Clocks run at slightly different speeds: slewed ones by half a thousandth.
        let slack = STEP.as_micros() as i128 + most.max(0) / 1000;
        let (by, forward) = match server {
            _ if server > most + slack => (server - most, true),
            _ if server < least - slack => (least - server, false),
            _ => return None,
        };
        Some((Duration::from_micros(u64::try_from(by).unwrap_or(u64::MAX)), forward))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(server_ms: i128, sent_ms: u64, received_ms: u64) -> Reading {
        let time = |ms: u64| Time::from_nanos(ms * 1_000_000);
        Reading { server: server_ms * 1000, sent: time(sent_ms), received: time(received_ms) }
    }

    #[test]
    fn only_a_clock_that_was_set_is_a_step() {
        let first = reading(1_000_000, 10, 12);
        assert_eq!(first.step_to(reading(1_001_000, 1010, 1012)), None);
        assert_eq!(first.step_to(reading(1_001_050, 1010, 1012)), None, "within the slack");
        assert_eq!(first.step_to(reading(1_001_000, 1010, 5000)), None, "a slow answer");
        let (by, forward) = first.step_to(reading(1_061_000, 1010, 1012)).unwrap();
        assert!(forward && by > Duration::from_secs(59));
        let (by, forward) = first.step_to(reading(941_000, 1010, 1012)).unwrap();
        assert!(!forward && by > Duration::from_secs(59));
    }
}
