//! A backend that fails when it is told to, and ways to wait without guessing how long.
// Each test binary uses a part of this.
#![allow(dead_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pilotman_core::backend::{
    Attempt, Backend, BoxFuture, Environment, Grant, Holder, Holding, Inspection, LocalBackend, Outcome, Prepared,
    Released, Renewal,
};
use pilotman_core::memory::MemoryBackend;
use pilotman_core::{Capabilities, Error, LockOptions, Result, Target};

/// So long may take what happens at once on an idle machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What a [`Scripted`] backend is to do, and what it did.
#[derive(Debug, Default)]
pub(crate) struct Script {
    panic_in: Mutex<Option<&'static str>>,
    lose_answer: AtomicBool,
    release_takes: Mutex<Duration>,
    log: Mutex<Vec<&'static str>>,
}

impl Script {
    /// The next call of this operation panics.
    pub(crate) fn panic_in(&self, operation: &'static str) {
        *self.panic_in.lock().unwrap() = Some(operation);
    }

    /// The next local attempt is made, but fails.
    pub(crate) fn lose_answer(&self) {
        self.lose_answer.store(true, Ordering::SeqCst);
    }

    /// Releases in the background take this long from now on.
    pub(crate) fn release_takes(&self, time: Duration) {
        *self.release_takes.lock().unwrap() = time;
    }

    /// The releases, abandons, observations and closes so far.
    pub(crate) fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, operation: &'static str) {
        self.log.lock().unwrap().push(operation);
    }

    fn enter(&self, operation: &'static str) {
        let panics = self.panic_in.lock().unwrap().take_if(|planned| *planned == operation).is_some();
        assert!(!panics, "told to panic in {operation}");
    }
}

/// The memory backend behind a script, and so that the engine takes it for remote if wished.
#[derive(Debug)]
pub(crate) struct Scripted {
    inner: MemoryBackend,
    is_local: bool,
    script: Arc<Script>,
}

impl Scripted {
    fn new(inner: MemoryBackend, is_local: bool) -> (Self, Arc<Script>) {
        let script = Arc::new(Script::default());
        (Self { inner, is_local, script: script.clone() }, script)
    }

    /// A backend whose operations run on the I/O thread.
    pub(crate) fn remote() -> (Self, Arc<Script>) {
        Self::new(MemoryBackend::new(), false)
    }

    /// As [`Self::remote`], on a space that others see too.
    pub(crate) fn remote_shared(space: &str) -> (Self, Arc<Script>) {
        Self::new(MemoryBackend::shared(space), false)
    }

    /// A backend whose operations run on the caller's thread.
    pub(crate) fn local() -> (Self, Arc<Script>) {
        Self::new(MemoryBackend::new(), true)
    }
}

impl Backend for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn start(&self, environment: Environment) {
        self.inner.start(environment);
    }

    fn prepare(&self, target: &Target, options: &LockOptions) -> Result<Prepared> {
        self.script.enter("prepare");
        self.inner.prepare(target, options)
    }

    fn physical_name(&self, target: &Target) -> Result<String> {
        self.inner.physical_name(target)
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.check()
    }

    fn local(&self) -> Option<&dyn LocalBackend> {
        self.is_local.then_some(self)
    }

    fn try_acquire<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            self.script.enter("try_acquire");
            Backend::try_acquire(&self.inner, attempt).await
        })
    }

    fn enqueue<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(async move {
            self.script.enter("enqueue");
            self.inner.enqueue(attempt).await
        })
    }

    fn abandon<'a>(&'a self, attempts: &'a [Attempt]) -> BoxFuture<'a, Vec<Result<()>>> {
        self.script.note("abandon");
        self.inner.abandon(attempts)
    }

    fn renew<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Renewal>>> {
        self.inner.renew(holds)
    }

    fn release<'a>(&'a self, holds: &'a [Arc<Holding>]) -> BoxFuture<'a, Vec<Result<Released>>> {
        Box::pin(async move {
            self.script.enter("release");
            let time = *self.script.release_takes.lock().unwrap();
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            self.script.note("release");
            Backend::release(&self.inner, holds).await
        })
    }

    fn mint<'a>(&'a self, hold: &'a Holding) -> BoxFuture<'a, Result<u64>> {
        Backend::mint(&self.inner, hold)
    }

    fn observe(&self, hold: &Arc<Holding>) {
        self.script.note("observe");
        self.inner.observe(hold);
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Inspection>> {
        self.inner.inspect(target)
    }

    fn force_release<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Vec<Holder>>> {
        self.inner.force_release(target)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.script.note("close");
        self.inner.close()
    }
}

impl LocalBackend for Scripted {
    fn try_acquire(&self, attempt: &Attempt) -> Result<Outcome> {
        self.script.enter("try_acquire");
        let outcome = LocalBackend::try_acquire(&self.inner, attempt)?;
        if self.script.lose_answer.swap(false, Ordering::SeqCst) {
            return Err(Error::unavailable("the answer to the attempt was lost").no_effect(false));
        }
        Ok(outcome)
    }

    fn release(&self, hold: &Holding) -> Result<Released> {
        self.script.enter("release");
        self.script.note("release");
        LocalBackend::release(&self.inner, hold)
    }

    fn mint(&self, hold: &Holding) -> Result<u64> {
        LocalBackend::mint(&self.inner, hold)
    }
}

/// Polls once, for a future that is to begin waiting before the test goes on.
pub(crate) fn poll_once<T>(work: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

/// What is expected to end. A hang becomes a failure.
pub(crate) async fn within_long<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("this has ended in time")
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs what may hang for ever on a thread of its own. A hang becomes a failure.
pub(crate) fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(LONG).expect("this has ended in time, and without a panic")
}

/// Notes that it was woken.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
