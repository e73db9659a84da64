//! Waiting for a lock to become free.

use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pilotman_core::Result;
use pilotman_core::backend::{Attempt, AttemptId, BoxFuture, Watch};
use pilotman_core::clock::Sleep;

use crate::events::{Event, Interest, Subscription, subscribe};
use crate::file::FileId;
use crate::shared::{Shared, lock};
use crate::slot::{FileSlot, Files};
use crate::waiters::Waiters;

/// A process that dies closes its files a moment before its locks are free: attempts at these distances after a close.
const AFTER_CLOSE: [Duration; 6] = [
    Duration::from_micros(50),
    Duration::from_micros(150),
    Duration::from_micros(300),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
];
/// The timer behind the events: what they can't tell (another machine's release) is noticed after 100 to 250 ms.
const TIMER: Duration = Duration::from_millis(100);
const TIMER_JITTER: Duration = Duration::from_millis(150);
/// Without events: pauses that double from the first to the last.
const POLL_FIRST: Duration = Duration::from_millis(1);
const POLL_LAST: Duration = Duration::from_millis(50);

const CLOSED: u8 = 1;
const OTHER: u8 = 2;

/// What the listener tells the waiter.
#[derive(Debug, Default)]
struct Signal {
    events: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    fn tell(&self, event: u8) {
        self.events.fetch_or(event, Ordering::AcqRel);
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<u8> {
        *lock(&self.waker) = Some(cx.waker().clone());
        match self.events.swap(0, Ordering::AcqRel) {
            0 => Poll::Pending,
            events => Poll::Ready(events),
        }
    }
}

/// The wait of one attempt.
#[derive(Debug)]
pub(crate) struct FileWatch {
    shared: Arc<Shared>,
    slot: Arc<FileSlot>,
    id: AttemptId,
    /// No pause is longer than this, if the caller said so.
    retry: Option<Duration>,
    signal: Arc<Signal>,
    watched: Option<Watched>,
    /// Completes at once: the caller may have made its attempt before the watch was there.
    fresh: bool,
    /// How many of the quick attempts after a close have been made.
    quick: usize,
    pause: Duration,
}

#[derive(Debug)]
struct Watched {
    id: FileId,
    waiters: Arc<Waiters>,
    /// `None` if there are no events to be had.
    events: Option<Subscription>,
}

impl FileWatch {
    pub(crate) fn new(shared: &Arc<Shared>, slot: Arc<FileSlot>, attempt: &Attempt) -> Result<Self> {
        let mut watch = Self {
            shared: shared.clone(),
            slot,
            id: attempt.id,
            retry: attempt.spec.options.retry,
            signal: Arc::default(),
            watched: None,
            fresh: true,
            quick: AFTER_CLOSE.len(),
            pause: POLL_FIRST,
        };
        watch.follow()?;
        watch.prepare()?;
        Ok(watch)
    }

    /// Watches the file that attempts are made on now. Says whether it is another than before.
    fn follow(&mut self) -> Result<bool> {
        match &self.slot.files {
            Files::Mutex(file) | Files::Write { file, .. } => {
                let (file, waiters) = file.current(&self.shared)?;
                Ok(self.watch(file.id, &file.fd(), waiters))
            }
            Files::Read(readers) => {
                let (file, waiters) = readers.current(&self.shared)?;
                Ok(self.watch(file.id, &file.fd(), waiters))
            }
            Files::Permit(permits) => {
                let (directory, waiters) = permits.current(&self.shared)?;
                let id = rustix::fs::fstat(&directory).map(|stat| FileId::of(&stat)).map_err(|errno| {
                    crate::failure::failed("can't look at the permits in", &permits.place.path, errno)
                })?;
                Ok(self.watch(id, &directory, waiters))
            }
        }
    }

    fn watch(&mut self, id: FileId, file: &impl AsFd, waiters: Arc<Waiters>) -> bool {
        if let Some(watched) = &mut self.watched
            && watched.id == id
        {
            watched.waiters = waiters;
            return false;
        }
        // Searching a large semaphore closes files, which must not make others search again.
        let closing_counts = !matches!(&self.slot.files, Files::Permit(permits) if !permits.is_small());
        let signal = self.signal.clone();
        let listener = move |event| match event {
            Event::Closed if closing_counts => signal.tell(CLOSED),
            Event::Closed => {}
            Event::Other => signal.tell(OTHER),
        };
        let events = match subscribe(file.as_fd(), Interest::Wake, Arc::new(listener)) {
            Ok(events) => Some(events),
            Err(errno) => {
                tracing::debug!(%errno, "no file events; waiting is polling");
                None
            }
        };
        self.watched = Some(Watched { id, waiters, events });
        true
    }

    /// Whatever must be so before the next attempt.
    fn prepare(&self) -> Result<()> {
        let key = match &self.slot.files {
            Files::Mutex(file) => {
                file.doubt();
                file.key
            }
            Files::Write { file, gate } => {
                file.doubt();
                gate.close(&self.shared, self.id)?;
                file.key
            }
            Files::Read(readers) => readers.key,
            Files::Permit(permits) => permits.key,
        };
        if let Some(watched) = &self.watched {
            watched.waiters.mark(key);
        }
        Ok(())
    }

    fn next_pause(&mut self) -> Duration {
        let events = self.watched.as_ref().is_some_and(|watched| watched.events.is_some());
        let pause = if let Some(quick) = AFTER_CLOSE.get(self.quick) {
            self.quick += 1;
            *quick
        } else if events {
            let jitter = self.shared.random() % TIMER_JITTER.as_nanos() as u64;
            TIMER + Duration::from_nanos(jitter)
        } else {
            let pause = self.pause;
            self.pause = (pause * 2).min(POLL_LAST);
            // Between half of it and all of it, so that waiters don't march in step.
            let half = pause / 2;
            half + Duration::from_nanos(self.shared.random() % (half.as_nanos() as u64).max(1))
        };
        self.retry.map_or(pause, |retry| pause.min(retry))
    }

    async fn wait(&mut self) {
        if std::mem::take(&mut self.fresh) {
            return;
        }
        match self.follow() {
            // The last attempt was made on a file that was not watched yet.
            Ok(true) => return,
            Ok(false) => {}
            // The next attempt meets it too, and reports it.
            Err(error) => tracing::debug!(%error, "the lock file can't be watched at the moment"),
        }
        let before = self.quick;
        let mut sleep = Sleep::new(self.shared.clock(), self.next_pause());
        let signal = self.signal.clone();
        // If this is dropped midway, the pause counts anew.
        let after = std::mem::replace(&mut self.quick, before);
        let told = std::future::poll_fn(|cx| match signal.poll(cx) {
            Poll::Ready(events) => Poll::Ready(Some(events)),
            Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| None),
        })
        .await;
        self.quick = match told {
            None => after,
            Some(events) if events & CLOSED != 0 => 0,
            Some(_) => AFTER_CLOSE.len(),
        };
        if told.is_some() {
            self.pause = POLL_FIRST;
        }
    }
}

impl Watch for FileWatch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.wait().await;
            if let Err(error) = self.prepare() {
                tracing::debug!(%error, "the gate can't be closed at the moment; readers may go first");
            }
        })
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        if let Files::Write { file, gate } = &self.slot.files
            && gate.open(self.id)
        {
            // Readers that were kept out by nothing but the gate.
            file.wake(&self.shared);
        }
    }
}
