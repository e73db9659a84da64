//! File events: one inotify instance and one thread that reads it, per process, from the first wait on.
//!
//! It has a thread of its own because `observe` is called outside of any runtime, and because a caller's runtime may
//! have no I/O driver.

use std::collections::HashMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// What happened to a file, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A description of it was closed: its lock, if it had one, is free a moment later. Or somebody looked at it.
    Closed,
    /// Anything else, by which its lock is free or the file is another one already.
    Other,
}

type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// What to listen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Whatever can mean that a lock is free.
    Wake,
    /// Whatever can mean that the file is no longer the one at its path.
    Loss,
}

impl Interest {
    fn mask(self) -> WatchFlags {
        let loss = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        match self {
            Self::Loss => loss,
            // The last two matter for directories.
            Self::Wake => {
                loss | WatchFlags::ACCESS
                    | WatchFlags::CLOSE_WRITE
                    | WatchFlags::CLOSE_NOWRITE
                    | WatchFlags::DELETE
                    | WatchFlags::MOVED_FROM
            }
        }
    }
}

/// Listens to the events of a file until it is dropped.
pub(crate) struct Subscription {
    instance: Arc<Instance>,
    watch: i32,
    number: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// Has `listener` called, on a thread that must not be kept, for each event of the open file.
pub(crate) fn subscribe(file: BorrowedFd<'_>, interest: Interest, listener: Listener) -> Result<Subscription, Errno> {
    let instance = Instance::get()?;
    let (watch, number) = {
        let mut registry = instance.registry();
        // By the descriptor, so that it is this file even if its path leads elsewhere by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Several listeners of one file share a watch, which then tells whatever any of them wants to know.
        let watch = inotify::add_watch(&instance.fd, path, interest.mask() | WatchFlags::MASK_ADD)?;
        registry.number += 1;
        let number = registry.number;
        registry.listeners.entry(watch).or_default().push((number, listener));
        (watch, number)
    };
    Ok(Subscription { instance, watch, number })
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut registry = self.instance.registry();
        let Some(listeners) = registry.listeners.get_mut(&self.watch) else { return };
        listeners.retain(|(number, _)| *number != self.number);
        if listeners.is_empty() {
            registry.listeners.remove(&self.watch);
            // Fails only if the file is gone, and the watch with it.
            let _ = inotify::remove_watch(&self.instance.fd, self.watch);
        }
    }
}

struct Instance {
    process: u32,
    fd: OwnedFd,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    listeners: HashMap<i32, Vec<(u64, Listener)>>,
    number: u64,
}

impl Instance {
    fn get() -> Result<Arc<Self>, Errno> {
        static INSTANCE: Mutex<Option<Arc<Instance>>> = Mutex::new(None);
        let mut current = INSTANCE.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        // A forked child has the parent's instance but not its thread.
        if let Some(instance) = current.as_ref().filter(|instance| instance.process == process) {
            return Ok(instance.clone());
        }
        let fd = inotify::init(CreateFlags::CLOEXEC)?;
        let instance = Arc::new(Self { process, fd, registry: Mutex::default() });
        let reader = instance.clone();
        std::thread::Builder::new()
            .name("pilotman-events".into())
            .spawn(move || reader.read())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        *current = Some(instance.clone());
        Ok(instance)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => self.tell(event.wd(), event.events()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::warn!(%errno, "file events can't be read any longer; waiters fall back on their timers");
                    return;
                }
            }
        }
    }

    fn tell(&self, watch: i32, events: ReadFlags) {
        let listeners: Vec<Listener> = {
            let mut registry = self.registry();
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Something was missed; everybody has to look.
                registry.listeners.values().flatten().map(|(_, listener)| listener.clone()).collect()
            } else if events.contains(ReadFlags::IGNORED) {
                // The watch is gone with its file.
                registry.listeners.remove(&watch).into_iter().flatten().map(|(_, listener)| listener).collect()
            } else {
                registry.listeners.get(&watch).into_iter().flatten().map(|(_, listener)| listener.clone()).collect()
            }
        };
        let closed = events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::CLOSE_NOWRITE);
        let event = if closed { Event::Closed } else { Event::Other };
        for listener in listeners {
            // A listener wakes foreign code; its panic must not end the events of the whole process.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| listener(event))).is_err() {
                tracing::error!("a listener of file events panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::mpsc;
    use std::time::Duration;

    fn listen(file: &std::fs::File, interest: Interest) -> (Subscription, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        let listener = move |event| {
            let _ = sender.send(event);
        };
        (subscribe(file.as_fd(), interest, Arc::new(listener)).unwrap(), receiver)
    }

    #[test]
    fn events_reach_those_who_listen_and_end_with_the_subscription() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = std::fs::File::create(&path).unwrap();
        let long = Duration::from_secs(10);
        let (wake, woken) = listen(&file, Interest::Wake);
        let (loss, lost) = listen(&file, Interest::Loss);
        drop(std::fs::File::open(&path).unwrap());
        assert_eq!(woken.recv_timeout(long), Ok(Event::Closed));
        drop(wake);
        std::fs::remove_file(&path).unwrap();
        while lost.recv_timeout(long).expect("the removal is told") == Event::Closed {}
        assert_eq!(woken.recv_timeout(long), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(loss);
    }
}
