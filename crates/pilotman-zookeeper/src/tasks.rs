//! Where the driver's tasks run. By itself it finds the runtime through a list that the linker gathers from all crates, and
//! depending on what else a program has the linker leaves that entry out: then the driver panics when it connects. So it is told.

use std::future::{Future, poll_fn};
use std::pin::pin;

use spawns_core::{Spawn, Task};

/// The runtime that polls.
struct Here;

impl Spawn for Here {
    fn spawn(&self, task: Task) {
        // It reports what it finds to its client; nobody waits for its end.
        drop(tokio::spawn(Box::into_pin(task.future)));
    }
}

/// Does this, with tasks that it starts on the runtime that polls it.
pub(crate) async fn on_this_runtime<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _scope = spawns_core::enter(&Here);
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_started_within_runs_here() {
        let ended = on_this_runtime(async {
            // Also after it has waited.
            tokio::task::yield_now().await;
            spawns_core::spawn(async { 7 }).await
        });
        assert_eq!(ended.await.expect("it runs"), 7);
    }
}
