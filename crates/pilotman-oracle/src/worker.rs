//! The thread of one session: drivers block, and must not do so on the thread of the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use pilotman_core::{Error, Result};
use tokio::sync::oneshot;

use crate::driver::{Call, Connection, Driver, Failure, Value};

type Job = Box<dyn FnOnce(&mut dyn Connection) -> bool + Send>;

/// See the [module](self). The connection of one that is dropped is closed as soon as its call has ended.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    /// Nothing is known of the session any more: no farewell.
    is_given_up: Arc<AtomicBool>,
    ended: Option<oneshot::Receiver<()>>,
    /// What the driver knows of the session.
    pub(crate) serial: Option<u64>,
}

impl Worker {
    /// Opens a connection in a thread of its own. If nobody waits for it any longer, it is closed again. `thread_of` is kept until
    /// the thread ends, and `turn` until the connection is open or can't be.
    pub(crate) async fn open<T: Send + 'static, U: Send + 'static>(
        driver: Arc<dyn Driver>,
        limit: Duration,
        (thread_of, turn): (T, U),
    ) -> Result<Self, Failure> {
        let (reply, answer) = oneshot::channel();
        let named = std::thread::Builder::new().name("pilotman-oracle".to_owned());
        let spawned = named.spawn(move || {
            let connected = calmly(|| driver.connect(limit));
            drop(turn);
            match connected {
                Ok(connection) => serve(connection, reply),
                // Whoever asked may have gone.
                Err(failure) => drop(reply.send(Err(failure))),
            }
            drop(thread_of);
        });
        if let Err(error) = spawned {
            return Err(Failure::over(format!("no thread could be started for a session: {error}")));
        }
        answer.await.unwrap_or_else(|_| Err(Failure::over("the thread of a session has ended")))
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let answer = calmly(|| work(connection));
            let goes_on = !matches!(&answer, Err(failure) if failure.after != crate::driver::After::Usable);
            // Who has gone gives the session up.
            let _ = reply.send(answer);
            goes_on
        });
        let gone = || Failure::over("the thread of the session has ended");
        self.jobs.send(job).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Runs a block; the OUT binds.
    pub(crate) async fn run(&self, call: Call, limit: Duration) -> Result<Vec<Value>, Failure> {
        self.ask(move |connection| connection.run(&call, limit)).await
    }

    /// Runs a query; the rows.
    pub(crate) async fn query(&self, call: Call, limit: Duration) -> Result<Vec<Vec<Value>>, Failure> {
        self.ask(move |connection| connection.query(&call, limit)).await
    }

    pub(crate) async fn ping(&self, limit: Duration) -> Result<(), Failure> {
        self.ask(move |connection| connection.ping(limit)).await
    }

    /// Logs off, and waits until that is done.
    pub(crate) async fn close(mut self) {
        let ended = self.ended.take();
        self.is_given_up.store(false, Ordering::Release);
        // Without a sender the thread comes to its end.
        let (jobs, _) = mpsc::channel();
        self.jobs = jobs;
        if let Some(ended) = ended {
            // An error says the same: it has ended.
            let _ = ended.await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // After [`Self::close`] nothing is left to be told.
        if self.ended.is_some() {
            self.is_given_up.store(true, Ordering::Release);
        }
    }
}

/// Runs jobs until there will be no more.
fn serve(mut connection: Box<dyn Connection>, reply: oneshot::Sender<Result<Worker, Failure>>) {
    let (jobs, todo) = mpsc::channel::<Job>();
    let (end, ended) = oneshot::channel();
    let is_given_up = Arc::new(AtomicBool::new(false));
    let worker = Worker { jobs, is_given_up: is_given_up.clone(), ended: Some(ended), serial: connection.serial() };
    if let Err(unwanted) = reply.send(Ok(worker)) {
        drop(unwanted);
        return finish(connection, false);
    }
    let mut goes_on = true;
    while goes_on && let Ok(job) = todo.recv() {
        goes_on = job(&mut *connection);
    }
    // Jobs that are left are answered by being dropped.
    drop(todo);
    finish(connection, !goes_on || is_given_up.load(Ordering::Acquire));
    // Nobody may be there to hear it.
    let _ = end.send(());
}

fn finish(connection: Box<dyn Connection>, abort: bool) {
    let done = calmly(|| {
        match abort {
            true => connection.abort(),
            false => connection.close(),
        }
        Ok(())
    });
    if let Err(failure) = done {
        tracing::debug!(error = %failure, "a session did not end well");
    }
}

/// An answer that the driver can't cope with is an error, not the end of the thread.
fn calmly<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure::over("the database's answer is none that the driver knows")))
}

/// An error of opening, for who has no failure of the driver to show.
pub(crate) fn too_many_hang(limit: Duration) -> Error {
    Error::unavailable(format!("earlier attempts to connect, or calls, are still without an answer, after {limit:?}"))
        .with_advice("see whether the database answers at all")
        .no_effect(true)
}
