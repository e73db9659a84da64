//! The nodes above ours: made when they are missing, removed when nobody needs them, as the .NET library does. Curator's
//! are containers, which the servers remove.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::clock::Time;
use pilotman_core::{Error, Result};
use zookeeper_client::{Client, CreateMode, Error as DriverError};

use crate::layout::Layout;
use crate::place::Shape;
use crate::session::lock;
use crate::{failure, path};

/// How long a lock's node is kept after its last use here: who uses it again at once need not make it again.
const LINGER: Duration = Duration::from_secs(1);
/// So many are removed at a time.
const BATCH: usize = 512;

/// Makes a lock's node and those above it, and adds those that were not there to `made`.
pub(crate) async fn make(client: &Client, lock_path: &str, shape: &Shape, made: &mut Vec<String>) -> Result<()> {
    let mode = match shape.layout {
        Layout::Curator => CreateMode::Container,
        Layout::DotNet => CreateMode::Persistent,
    };
    let mut missing = vec![lock_path];
    while let Some(next) = missing.last().copied() {
        match client.create(next, b"", &mode.with_acls(shape.acls())).await {
            Ok(_) => {
                made.push(next.to_owned());
                missing.pop();
            }
            Err(DriverError::NodeExists) => {
                missing.pop();
            }
            Err(DriverError::NoNode) => match path::parent(next) {
                Some(above) if above != "/" => missing.push(above),
                _ => {
                    return Err(no_chroot());
                }
            },
            Err(error) if failure::ends_session(&error) => return Err(failure::lost_session()),
            // Whether it was made or not, the next round sees.
            Err(error) if failure::is_open(&error) => {}
            Err(error) => {
                take_back(client, made).await;
                return Err(failure::of_request(error, next));
            }
        }
    }
    Ok(())
}

/// Removes what was made for nothing, the last first.
pub(crate) async fn take_back(client: &Client, made: &[String]) {
    for path in made.iter().rev() {
        if let Err(error) = client.delete(path, None).await {
            tracing::debug!(%error, "a node that was made for nothing stays");
        }
    }
}

/// The root of everything that this client sees is not there.
pub(crate) fn no_chroot() -> Error {
    Error::misconfigured("the chroot is not there")
        .with_advice("create that node, or use another chroot")
        .no_effect(true)
}

/// The nodes of locks that may be empty now.
#[derive(Debug, Default)]
pub(crate) struct Parents(Mutex<HashMap<String, Time>>);

impl Parents {
    /// A node below this one was removed.
    pub(crate) fn note(&self, path: &str, now: Time) {
        lock(&self.0).insert(path.to_owned(), now);
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Those that were not used for a while, or all of them.
    fn take(&self, now: Option<Time>) -> Vec<String> {
        let mut noted = lock(&self.0);
        let is_due = |at: Time| now.is_none_or(|now| now.since(at) >= LINGER);
        let due: Vec<String> = noted.iter().filter(|(_, at)| is_due(**at)).map(|(path, _)| path.clone()).collect();
        for path in &due {
            noted.remove(path);
        }
        due
    }

    /// Removes those that are due and empty. `now`: `None` for all.
    pub(crate) async fn remove(&self, client: &Client, now: Option<Time>, is_used: impl Fn(&str) -> bool) {
        let due: Vec<String> = self.take(now).into_iter().filter(|path| !is_used(path)).collect();
        for batch in due.chunks(BATCH) {
            for (path, deleted) in batch.iter().zip(join_all(batch.iter().map(|path| client.delete(path, None))).await)
            {
                match deleted {
                    Ok(()) | Err(DriverError::NotEmpty | DriverError::NoNode) => {}
                    Err(error) => tracing::debug!(%error, path, "the node of a lock stays"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_due_a_while_after_their_last_use() {
        let parents = Parents::default();
        let at = |millis| Time::ZERO.after(Duration::from_millis(millis));
        parents.note("/a", at(0));
        parents.note("/b", at(500));
        parents.note("/a", at(400));
        assert!(parents.take(Some(at(1399))).is_empty());
        assert_eq!(parents.take(Some(at(1400))), ["/a"]);
        assert_eq!(parents.take(None), ["/b"]);
        assert!(parents.is_empty());
    }
}
