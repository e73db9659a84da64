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

type Open = HashMap<AttemptId, Flight>;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Flights {
    open: Arc<Mutex<Open>>,
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

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
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
        runtime.spawn(see_through(self.open.clone(), store.clone(), lock.clone(), id, wanted, reply, ended));
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the runtime that drives the backend has ended").no_effect(false))
        });
        let nothing = match &answer {
            Ok(taken) => taken.is_none(),
            Err(error) => error.has_no_effect(),
        };
        match nothing && attempt.waits {
            // Who waits tries again, and tells when he no longer does.
            true => drop(self.open().insert(id, Flight::Refused)),
            // It has ended: there is nothing to wait for before it is given back, if it has to be.
            false => drop(self.open().remove(&id)),
        }
        answer
    }

    /// Runs something where attempts are made. Whoever has a hold has made one.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(task);
        }
    }

    /// Whether an attempt has led to nothing, as is known without asking. It is then forgotten.
    pub(crate) fn is_settled(&self, attempt: &Attempt) -> bool {
        let mut open = self.open();
        let is_refused = matches!(open.get(&attempt.id), Some(Flight::Refused));
        if is_refused {
            open.remove(&attempt.id);
        }
        is_refused
    }

    /// Gives back what an attempt was granted, once it has ended.
    pub(crate) async fn settle(&self, store: &Store, attempt: &Attempt) -> Result<()> {
        let (lock, id): (&Lock, _) = (attempt.spec.prepared(), attempt.id);
        let flight = self.open().get(&id).cloned();
        if let Some(Flight::Open(mut ended)) = flight {
            // A task that is gone without a word has ended, too.
            let _ = ended.wait_for(|ended| *ended).await;
            self.open().remove(&id);
        }
        hold::undo(store, &lock.blob, &lease_id(id)).await
    }
}

/// Makes an attempt to its end, and gives back what it took if nobody wants that any longer.
async fn see_through(
    open: Arc<Mutex<Open>>,
    store: Arc<Store>,
    wants: Lock,
    attempt: AttemptId,
    wanted: Wanted,
    reply: oneshot::Sender<Result<Option<Taken>>>,
    ended: watch::Sender<bool>,
) {
    let (blob, id) = (&wants.blob, lease_id(attempt));
    let take = hold::take(&store, blob, &id, wanted);
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
    let unwanted = reply.send(answer).err();
    if unwanted.is_some() {
        // Whoever is to settle it and has not begun asks the service.
        lock(&open).remove(&attempt);
    }
    let is_open = match unwanted {
        Some(Ok(taken)) => taken.is_some(),
        Some(Err(error)) => !error.has_no_effect(),
        None => false,
    };
    ended.send_replace(true);
    while is_open && let Err(error) = hold::undo(&store, blob, &id).await {
        tracing::debug!(%error, "what nobody waits for any longer could not be given back yet");
        // What has an end goes by itself.
        let (None, Some(environment)) = (wanted.lease, store.environment()) else { break };
        Sleep::new(environment.clock.clone(), PATIENCE).await;
    }
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Spec;
    use pilotman_core::{LockOptions, Name, Primitive, Target};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::AzureBlob;

    const LONG: Duration = Duration::from_secs(30);
    const SHOWN: &str = "HTTP/1.1 200 OK\r\netag: \"0x1\"\r\nx-ms-lease-state: leased\r\nx-ms-lease-duration: infinite\r\n\
                         content-length: 0\r\n\r\n";

    /// What a request came to.
    #[derive(Debug, PartialEq, Eq)]
    enum Came {
        /// To take the lease, with this id. It was carried out, and the connection ended without an answer.
        Take(String),
        /// To give it back.
        Give(String),
    }

    /// A service with one blob that is leased by whoever asks, and never tells him.
    async fn mute_service() -> (u16, mpsc::UnboundedReceiver<Came>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, tell.clone()));
            }
        });
        (port, told)
    }

    async fn serve(mut client: TcpStream, tell: mpsc::UnboundedSender<Came>) {
        let (mut seen, mut part) = (String::new(), [0; 4096]);
        while let Ok(count @ 1..) = client.read(&mut part).await {
            seen += &String::from_utf8_lossy(&part[..count]);
            let Some((head, _)) = seen.split_once("\r\n\r\n") else { continue };
            let value = |name: &str| {
                let of = |line: &str| line.split_once(": ").filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned());
                head.lines().find_map(of).unwrap_or_default()
            };
            match value("x-ms-lease-action").as_str() {
                "acquire" => return tell.send(Came::Take(value("x-ms-proposed-lease-id"))).unwrap_or_default(),
                "release" => tell.send(Came::Give(value("x-ms-lease-id"))).unwrap_or_default(),
                _ => {}
            }
            seen.clear();
            if client.write_all(SHOWN.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn store(port: u16) -> Arc<Store> {
        let endpoint = format!("http://127.0.0.1:{port}/locker");
        let azure = AzureBlob::endpoint(&endpoint, "locks").unwrap().account_key("c2VjcmV0").unwrap();
        Arc::new(Store::new(azure.keep_blobs(true)).unwrap())
    }

    fn attempt(store: &Store, id: u128, waits: bool) -> Attempt {
        let target = Target { name: Name::new("a").unwrap(), primitive: Primitive::Mutex };
        let lock = Lock { blob: Arc::new(store.blob("a").unwrap()), token: false };
        let spec = Spec { target, options: LockOptions::default(), lease: None, prepared: Arc::new(lock) };
        Attempt { id: AttemptId(id), spec: Arc::new(spec), waits }
    }

    async fn next(told: &mut mpsc::UnboundedReceiver<Came>) -> Came {
        tokio::time::timeout(LONG, told.recv()).await.expect("it comes").expect("the service runs")
    }

    #[tokio::test]
    async fn an_uncertain_error_that_nobody_hears_is_seen_through() {
        let (port, mut told) = mute_service().await;
        let (store, flights) = (store(port), Flights::default());
        let attempt = attempt(&store, 7, false);
        let mut asked = Box::pin(flights.attempt(&store, &attempt));
        // As soon as it is under way, nobody waits for it any longer, and nobody settles it.
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
        drop(asked);
        let id = lease_id(attempt.id);
        assert_eq!(next(&mut told).await, Came::Take(id.clone()));
        loop {
            match next(&mut told).await {
                // A connection that ends without an answer may be tried once more by the client beneath.
                Came::Take(again) => assert_eq!(again, id),
                given => break assert_eq!(given, Came::Give(id), "what it may have been granted is given back"),
            }
        }
        assert!(flights.open().is_empty());
    }

    #[tokio::test]
    async fn an_uncertain_error_that_is_heard_is_left_to_who_settles_it() {
        let (port, mut told) = mute_service().await;
        let (store, flights) = (store(port), Flights::default());
        let attempt = attempt(&store, 8, true);
        let error = flights.attempt(&store, &attempt).await.err().expect("the answer is lost");
        assert!(!error.has_no_effect() && error.is_retryable(), "{error}");
        assert!(flights.open().is_empty() && !flights.is_settled(&attempt));
        flights.settle(&store, &attempt).await.unwrap();
        let id = lease_id(attempt.id);
        while next(&mut told).await != Came::Give(id.clone()) {}
        assert!(flights.open().is_empty());
    }

    #[tokio::test]
    async fn what_is_refused_is_remembered_for_who_waits_and_then_forgotten() {
        // Nobody listens on port 1: certainly nothing was done.
        let (store, flights) = (store(1), Flights::default());
        for (waits, remembered) in [(false, 0), (true, 1)] {
            let attempt = attempt(&store, 9, waits);
            let error = flights.attempt(&store, &attempt).await.err().expect("nobody is there");
            assert!(error.has_no_effect(), "{error}");
            assert_eq!(flights.open().len(), remembered);
            assert_eq!(flights.is_settled(&attempt), waits);
            assert!(flights.open().is_empty());
        }
    }
}
