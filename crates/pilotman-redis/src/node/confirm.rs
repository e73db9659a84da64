//! Waits until replicas, or the disk, have what was written.
//!
//! `WAIT` holds up the connection that asks, so it has one of its own. It answers for all that the server had written
//! when the command before it ran, so one question serves all who asked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pilotman_core::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use tokio::sync::{mpsc, oneshot};

use super::exchange;
use crate::failure::{failed, is_broken};
use crate::options::Confirm;

type Reply = oneshot::Sender<Result<()>>;

/// Asks on a connection of its own, which ends with this.
pub(super) struct Confirmer {
    ask: mpsc::UnboundedSender<Reply>,
    broken: Arc<AtomicBool>,
}

impl Confirmer {
    pub(super) fn start(connection: MultiplexedConnection, wanted: Confirm) -> Self {
        let (sender, mut asked) = mpsc::unbounded_channel::<Reply>();
        let broken = Arc::<AtomicBool>::default();
        let notice = broken.clone();
        tokio::spawn(async move {
            while let Some(first) = asked.recv().await {
                let mut waiting = vec![first];
                while let Ok(next) = asked.try_recv() {
                    waiting.push(next);
                }
                let result = ask(&connection, wanted, &notice).await;
                for reply in waiting {
                    // Who has left doesn't want to know.
                    let _ = reply.send(result.clone());
                }
            }
        });
        Self { ask: sender, broken }
    }

    /// Whether the connection has ended.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) async fn confirm(&self) -> Result<()> {
        let (reply, result) = oneshot::channel();
        let ended = || Error::unavailable("the connection that asks for replicas has ended").no_effect(false);
        self.ask.send(reply).map_err(|_| ended())?;
        result.await.unwrap_or_else(|_| Err(ended()))
    }
}

async fn ask(connection: &MultiplexedConnection, wanted: Confirm, broken: &AtomicBool) -> Result<()> {
    let failed = |error: RedisError| {
        broken.fetch_or(is_broken(&error), Ordering::Relaxed);
        failed(error)
    };
    let millis = u64::try_from(wanted.within.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut wait = redis::cmd(if wanted.on_disk { "WAITAOF" } else { "WAIT" });
    if wanted.on_disk {
        wait.arg(1);
    }
    wait.arg(wanted.replicas).arg(millis);
    let ping = redis::cmd("PING");
    // The first makes this connection's place in the replication the present one.
    let (ping, answer) = tokio::join!(exchange(connection, &ping), exchange(connection, &wait));
    ping.map_err(failed)?;
    let (on_disk, replicas) = match answer.map_err(failed)? {
        Value::Int(replicas) => (1, replicas),
        Value::Array(parts) => match parts[..] {
            [Value::Int(local), Value::Int(replicas)] => (local, replicas),
            _ => (0, 0),
        },
        _ => (0, 0),
    };
    if on_disk >= 1 && replicas >= i64::from(wanted.replicas) {
        return Ok(());
    }
    let what = match on_disk {
        0 => "it is not on disk yet".to_owned(),
        _ => format!("{replicas} of {} replicas have it", wanted.replicas),
    };
    Err(Error::unavailable(format!("not confirmed within {:?}: {what}", wanted.within))
        .with_advice("look at the replication, or allow it more time")
        .no_effect(false))
}
