//! The I/O thread of this process: it drives connections, waits, renewals and releases, whatever the caller's runtime
//! does or doesn't do.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::sync::lock;
use crate::{Error, Result};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The I/O thread, and what is on its way there. To wake a thread costs a system call, so it is woken for the first of
/// what gathers and not for each.
pub(super) struct IoThread {
    queued: Mutex<Vec<Task>>,
    arrived: Notify,
}

impl IoThread {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let first = {
            let mut queued = lock(&self.queued);
            queued.push(Box::pin(task));
            queued.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
    }

    async fn run(&self) {
        loop {
            self.arrived.notified().await;
            for task in std::mem::take(&mut *lock(&self.queued)) {
                // The task reports what it finds itself; nobody waits for its end.
                drop(tokio::spawn(task));
            }
        }
    }
}

/// The I/O thread, which starts with the first call and lives as long as the process.
pub(super) fn thread() -> Result<Arc<IoThread>> {
    static THREAD: Mutex<Option<(u32, Arc<IoThread>)>> = Mutex::new(None);
    let generation = crate::fork::generation();
    let mut current = lock(&THREAD);
    if let Some((made_in, thread)) = &*current
        && *made_in == generation
    {
        return Ok(thread.clone());
    }
    // Not remembered: what the system refuses now it may grant later.
    let thread =
        start().map_err(|error| Error::unavailable("can't start the I/O thread").with_source(error).no_effect(true))?;
    // In a forked child, the parent's runtime is not there to be taken down.
    std::mem::forget(current.replace((generation, thread.clone())));
    Ok(thread)
}

fn start() -> std::io::Result<Arc<IoThread>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = Arc::new(IoThread { queued: Mutex::default(), arrived: Notify::new() });
    let running = thread.clone();
    std::thread::Builder::new().name("pilotman-io".into()).spawn(move || runtime.block_on(running.run()))?;
    Ok(thread)
}
