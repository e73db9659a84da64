//! Attempts under way. An attempt goes on when nobody waits for it any longer: a request that is dropped may be carried out all
//! the same, and what it takes would be held until its lease ends. So each is seen through, and what nobody wants is given back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pilotman_core::backend::{Attempt, AttemptId};
use pilotman_core::clock::Sleep;
use pilotman_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::hold::{self, Lock, Taken, Wanted, lease_id};
use crate::store::Store;

/// How much longer than its lease an attempt is waited for: what it takes later than that has to be given back by nobody.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Flights {
    open: Mutex<HashMap<AttemptId, Flight>>,
    /// Where they are made.
    runtime: OnceLock<Handle>,
}

/// What is known of an attempt.
#[derive(Clone)]
enum Flight {
    /// It is under way, or it is not known what it led to; and whether it has ended.
    Open(watch::Receiver<bool>),
    /// It led to nothing.
    Refused,
}

impl Flights {
    fn open(&self) -> MutexGuard<'_, HashMap<AttemptId, Flight>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an attempt. Dropping the future leaves it to [`Self::settle`].
    pub(crate) async fn attempt(&self, store: &Arc<Store>, attempt: &Attempt) -> Result<Option<Taken>> {
        let (lock, id): (&Lock, _) = (attempt.spec.prepared(), attempt.id);
        let (ended, has_ended) = watch::channel(false);
        // Whoever was refused once knows that the blob is there.
        let before = self.open().insert(id, Flight::Open(has_ended));
        let wanted = lock.wanted(attempt.spec.lease, !matches!(before, Some(Flight::Refused)));
        let (reply, answer) = oneshot::channel();
        let runtime = self.runtime.get_or_init(Handle::current);
        runtime.spawn(see_through(store.clone(), lock.clone(), id, wanted, reply, ended));
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the runtime that drives the backend has ended").no_effect(false))
        });
        let nothing = match &answer {
            Ok(taken) => taken.is_none(),
            Err(error) => error.has_no_effect(),
        };
        match nothing {
            // Who waits tries again, and tells when he no longer does.
            true if attempt.waits => drop(self.open().insert(id, Flight::Refused)),
            true => drop(self.open().remove(&id)),
            false if answer.is_ok() => drop(self.open().remove(&id)),
            false => {}
        }
        answer
    }

    /// Runs something where attempts are made. Whoever has a hold has made one.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(task);
        }
    }

    /// Gives back what an attempt was granted, once it has ended.
    pub(crate) async fn settle(&self, store: &Store, attempt: &Attempt) -> Result<()> {
        let (lock, id): (&Lock, _) = (attempt.spec.prepared(), attempt.id);
        let flight = self.open().get(&id).cloned();
        match flight {
            Some(Flight::Refused) => {}
            Some(Flight::Open(mut ended)) => {
                // A task that is gone without a word has ended, too.
                let _ = ended.wait_for(|ended| *ended).await;
                // Whether it can be given back or not: without it, another one does the same.
                self.open().remove(&id);
                hold::undo(store, &lock.blob, &lease_id(id)).await?;
            }
            None => hold::undo(store, &lock.blob, &lease_id(id)).await?,
        }
        self.open().remove(&id);
        Ok(())
    }
}

async fn see_through(
    store: Arc<Store>,
    lock: Lock,
    id: AttemptId,
    wanted: Wanted,
    reply: oneshot::Sender<Result<Option<Taken>>>,
    ended: watch::Sender<bool>,
) {
    let id = lease_id(id);
    let take = hold::take(&store, &lock.blob, &id, wanted);
    // What has no end must be given back whenever it comes.
    let answer = match (wanted.lease, store.environment()) {
        (Some(lease), Some(environment)) => {
            let patience = Sleep::new(environment.clock.clone(), lease + PATIENCE);
            tokio::select! {
                answer = take => answer,
                () = patience => Err(Error::unavailable("the service gave no answer in time")),
            }
        }
        _ => take.await,
    };
    // Whoever gives it back at the same time is as good.
    let is_open = match reply.send(answer).err() {
        Some(Ok(taken)) => taken.is_some(),
        Some(Err(error)) => !error.has_no_effect(),
        None => false,
    };
    ended.send_replace(true);
    while is_open && let Err(error) = hold::undo(&store, &lock.blob, &id).await {
        tracing::debug!(%error, "what nobody waits for any longer could not be given back yet");
        // What has an end goes by itself.
        let (None, Some(environment)) = (wanted.lease, store.environment()) else { break };
        Sleep::new(environment.clock.clone(), PATIENCE).await;
    }
}
