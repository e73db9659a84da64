//! Drives a file backend as the engine does.
// Each test binary uses a part of this.
#![allow(dead_code)]

use std::path::Path;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pilotman_core::backend::{Attempt, AttemptId, Backend, Holding, LocalBackend, Outcome, Released, Spec};
use pilotman_core::clock::{Clock, Sleep, SystemClock};
use pilotman_core::{Error, LockOptions, Name, Primitive, Result, Target};
use pilotman_file::{FileBackend, FileOptions};

/// So long may take what happens at once on an idle machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn permits(count: u32) -> Primitive {
    Primitive::Permit(count.try_into().unwrap())
}

pub(crate) fn target(name: &str, primitive: Primitive) -> Target {
    Target { name: Name::new(name).unwrap(), primitive }
}

/// One name, primitive and set of options of one backend.
#[derive(Clone)]
pub(crate) struct Lock {
    pub(crate) backend: Arc<FileBackend>,
    pub(crate) spec: Arc<Spec>,
}

pub(crate) fn backend(directory: &Path) -> Arc<FileBackend> {
    Arc::new(FileBackend::new(FileOptions::new(directory)).unwrap())
}

pub(crate) fn lock_of(backend: &Arc<FileBackend>, name: &str, primitive: Primitive) -> Lock {
    lock_with(backend, name, primitive, LockOptions::default())
}

pub(crate) fn lock_with(backend: &Arc<FileBackend>, name: &str, primitive: Primitive, options: LockOptions) -> Lock {
    let target = target(name, primitive);
    let prepared = backend.prepare(&target, &options).unwrap();
    Lock { backend: backend.clone(), spec: Arc::new(Spec { target, options, lease: None, prepared }) }
}

/// A lock of a backend of its own, as another process would have it.
pub(crate) fn lock(directory: &Path, name: &str, primitive: Primitive) -> Lock {
    lock_of(&backend(directory), name, primitive)
}

pub(crate) fn fenced(directory: &Path, name: &str, primitive: Primitive) -> Lock {
    let mut options = LockOptions::default();
    options.token = true;
    lock_with(&backend(directory), name, primitive, options)
}

/// A hold with its token.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) holding: Arc<Holding>,
    pub(crate) token: Option<u64>,
}

impl Lock {
    pub(crate) fn attempt(&self, waits: bool) -> Attempt {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        static PROCESS: OnceLock<u32> = OnceLock::new();
        let process = *PROCESS.get_or_init(std::process::id);
        let id = u128::from(process) << 64 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed));
        Attempt { id: AttemptId(id), spec: self.spec.clone(), waits }
    }

    pub(crate) fn try_with(&self, attempt: &Attempt) -> Result<Option<Held>> {
        match LocalBackend::try_acquire(&*self.backend, attempt)? {
            Outcome::Granted(grant) => {
                let holding = Arc::new(Holding { attempt: attempt.clone(), state: grant.state });
                Ok(Some(Held { holding, token: grant.token }))
            }
            Outcome::Contended { .. } => Ok(None),
        }
    }

    pub(crate) fn try_acquire(&self) -> Result<Option<Held>> {
        self.try_with(&self.attempt(false))
    }

    pub(crate) fn take(&self) -> Held {
        self.try_acquire().unwrap().expect("the lock is free")
    }

    pub(crate) fn is_free(&self) -> bool {
        match self.try_acquire().unwrap() {
            Some(held) => {
                self.release(&held);
                true
            }
            None => false,
        }
    }

    pub(crate) fn refusal(&self) -> Error {
        self.try_acquire().expect_err("the attempt is refused")
    }

    pub(crate) fn release(&self, held: &Held) -> Released {
        LocalBackend::release(&*self.backend, &held.holding).unwrap()
    }

    /// Waits as the engine does.
    pub(crate) async fn wait(&self) -> Held {
        self.wait_telling(|| {}).await
    }

    /// Calls `contended` after each attempt that fails.
    pub(crate) async fn wait_telling(&self, mut contended: impl FnMut()) -> Held {
        let attempt = self.attempt(true);
        let mut watch = self.backend.watch(&attempt).await.unwrap();
        loop {
            if let Some(held) = self.try_with(&attempt).unwrap() {
                return held;
            }
            contended();
            watch.changed().await;
        }
    }

    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Held> {
        pollster::block_on(within(limit, self.wait()))
    }

    pub(crate) fn wait_long(&self) -> Held {
        self.wait_for(LONG).expect("the lock becomes free in time")
    }
}

pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (mut work, mut sleep) = (pin!(work), pin!(Sleep::new(clock, limit)));
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

pub(crate) fn poll_once<T>(work: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What this process is to do if it was started by [`child`].
pub(crate) fn role() -> Option<String> {
    std::env::var("PILOTMAN_FILE_TEST_ROLE").ok()
}

/// Runs one test of this binary once more, in a process of its own and with a role.
pub(crate) fn child(test: &str, role: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("PILOTMAN_FILE_TEST_ROLE", role)
        .env("PILOTMAN_FILE_TEST_DIRECTORY", directory)
        .stdin(Stdio::null());
    command
}

pub(crate) fn child_directory() -> std::path::PathBuf {
    std::env::var_os("PILOTMAN_FILE_TEST_DIRECTORY").unwrap().into()
}

pub(crate) fn succeed(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
