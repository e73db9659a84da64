//! One node of ours: made, found again after an open outcome, given back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join;
use pilotman_core::backend::AttemptId;
use pilotman_core::clock::Time;
use pilotman_core::{Error, LossReason, Primitive, Result};
use tokio::sync::Notify;
use zookeeper_client::{Acl, Acls, CreateMode, Error as DriverError, MultiReadResult};

use crate::layout::{self, Kind, Layout};
use crate::session::{Session, lock};
use crate::{failure, parents, path};

/// So many nodes are read by one request.
const BATCH: usize = 128;

/// One lock as the servers know it, made once for a name and its options.
#[derive(Debug)]
pub(crate) struct ZkLock {
    /// The node whose children stand for holds and waits.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) primitive: Primitive,
    pub(crate) shape: Arc<Shape>,
}

/// How nodes are made.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    pub(crate) acl: Vec<Acl>,
    pub(crate) assume_path_exists: bool,
    /// Who we are, for people.
    pub(crate) owner: String,
}

impl Shape {
    pub(crate) fn acls(&self) -> Acls<'_> {
        Acls::new(&self.acl)
    }
}

impl ZkLock {
    /// How many may hold it at a time, for a semaphore.
    pub(crate) fn permits(&self) -> usize {
        match self.primitive {
            Primitive::Permit(permits) => permits.get() as usize,
            _ => 1,
        }
    }
}

/// The children of a lock's node.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) children: Vec<String>,
    /// The number of the last transaction by which a child came or went.
    pub(crate) changed: i64,
}

/// A node that was just made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: String,
    /// The number of the transaction.
    pub(crate) zxid: i64,
    /// As it was right after that.
    pub(crate) listing: Option<Listing>,
}

/// One attempt's node in one session.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: AttemptId,
    pub(crate) lock: Arc<ZkLock>,
    pub(crate) session: Arc<Session>,
    state: Mutex<State>,
    /// It was made, or that came to nothing.
    settled: Notify,
}

#[derive(Debug)]
struct State {
    path: Option<String>,
    /// Its creation is under way.
    making: bool,
    /// Nobody wants it any longer.
    doomed: bool,
    /// It is a hold with this lease, until this time unless renewed.
    held: Option<(Duration, Time)>,
    /// Its lease has ended.
    lapsed: bool,
    /// Its node was seen to be gone.
    gone: bool,
    /// A deletion was sent whose outcome is open.
    deleting: bool,
    /// Its node is watched for its holder.
    watched: bool,
    /// Its removal is under way in the background.
    sweeping: bool,
}

/// What giving back found.
pub(crate) enum Removed {
    Removed,
    /// It was not there.
    Missing,
}

impl Place {
    /// A place in this session; `None`: the session takes no more.
    pub(crate) fn enter(session: &Arc<Session>, id: AttemptId, lock: &Arc<ZkLock>) -> Option<Arc<Self>> {
        let state = State {
            path: None,
            making: true,
            doomed: false,
            held: None,
            lapsed: false,
            gone: false,
            deleting: false,
            watched: false,
            sweeping: false,
        };
        let place = Arc::new(Self {
            id,
            lock: lock.clone(),
            session: session.clone(),
            state: Mutex::new(state),
            settled: Notify::new(),
        });
        session.enter(&place).then_some(place)
    }

    /// The path of its node, once it is there.
    pub(crate) fn path(&self) -> Option<String> {
        lock(&self.state).path.clone()
    }

    /// It is a hold from now on.
    pub(crate) fn hold(&self, lease: Duration, from: Time) {
        lock(&self.state).held = Some((lease, from.after(lease)));
    }

    /// Its lease runs anew. `false`: it had ended.
    pub(crate) fn extend(&self, from: Time) -> bool {
        let mut state = lock(&self.state);
        match &mut state.held {
            Some((lease, until)) => {
                *until = (*until).max(from.after(*lease));
                true
            }
            None => false,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        lock(&self.state).held.is_some()
    }

    /// The lease of the hold that it is.
    pub(crate) fn held_lease(&self) -> Option<Duration> {
        lock(&self.state).held.map(|(lease, _)| lease)
    }

    /// Ends the hold if its lease has ended. Whether the node is to be removed by the caller: nobody wants it any longer, and
    /// whoever began to remove it may have been dropped in the middle.
    pub(crate) fn begin_sweep(&self, now: Time) -> bool {
        let mut state = lock(&self.state);
        if state.held.is_some_and(|(_, until)| until <= now) {
            state.held = None;
            state.lapsed = true;
            state.doomed = true;
        }
        let begins = state.doomed && !state.making && !state.sweeping;
        state.sweeping |= begins;
        begins
    }

    /// What [`Self::begin_sweep`] asks for. What fails is tried again with the next sweep.
    pub(crate) async fn sweep(&self) {
        if let Err(error) = self.remove().await {
            tracing::debug!(%error, "a node that nobody wants could not be removed yet");
        }
        lock(&self.state).sweeping = false;
    }

    /// Why the hold is none any more, as far as is known here.
    pub(crate) fn loss(&self) -> Option<LossReason> {
        let state = lock(&self.state);
        match () {
            () if state.gone => Some(LossReason::Gone),
            () if state.lapsed => Some(LossReason::Expired),
            () if self.session.has_ended() => Some(LossReason::SessionEnded),
            () => None,
        }
    }

    /// The node was seen to be missing.
    pub(crate) fn set_gone(&self) {
        lock(&self.state).gone = true;
    }

    /// Whether its node is to be watched from now on, by the caller; only once.
    pub(crate) fn begin_watch(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).watched, true)
    }

    /// It can't be watched.
    pub(crate) fn end_watch(&self) {
        lock(&self.state).watched = false;
    }

    pub(crate) fn is_watched(&self) -> bool {
        lock(&self.state).watched
    }

    /// Makes the node in a task of its own: what is dropped in the middle is still accounted for.
    pub(crate) async fn make(self: &Arc<Self>) -> Result<Made> {
        let place = self.clone();
        let made = tokio::spawn(async move {
            let made = place.make_node().await;
            let doomed = {
                let mut state = lock(&place.state);
                state.making = false;
                state.path = made.as_ref().ok().map(|made| made.path.clone());
                state.doomed
            };
            place.settled.notify_waiters();
            if made.is_err() {
                place.session.leave(place.id);
            } else if doomed {
                place.remove_surely().await;
            }
            made
        });
        made.await.unwrap_or_else(|_| Err(Error::unavailable("the runtime of the session has ended").no_effect(false)))
    }

    async fn make_node(&self) -> Result<Made> {
        let lock = &*self.lock;
        let shape = &*lock.shape;
        let name = shape.layout.new_name(lock.kind, self.id).ok_or_else(|| Error::unsupported("no such nodes"))?;
        let prefix = path::child(&lock.path, &name);
        let data = match shape.layout.names_attempts() {
            true => shape.owner.clone(),
            false => format!("{}{}", tag(self.id), shape.owner),
        };
        let options = CreateMode::EphemeralSequential.with_acls(shape.acls());
        let client = &self.session.client;
        let mut made_parents = Vec::new();
        loop {
            // Both are sent at once; the server answers them in this order.
            let created = client.create(&prefix, data.as_bytes(), &options);
            let listed = client.get_children(&lock.path);
            let error = match join(created, listed).await {
                (Ok((stat, number)), listed) => {
                    let listing = listed.ok().map(|(children, stat)| Listing { children, changed: stat.pzxid });
                    return Ok(Made { path: format!("{prefix}{number}"), zxid: stat.czxid, listing });
                }
                (Err(error), _) => error,
            };
            match error {
                DriverError::NoNode if shape.assume_path_exists => {
                    return Err(Error::misconfigured(format!("the node {} is not there", failure::shown(&lock.path)))
                        .with_advice("create it, or let it be created (assume_path_exists)"));
                }
                DriverError::NoNode => {
                    parents::make(client, &lock.path, shape, &mut made_parents).await?;
                }
                error if failure::ends_session(&error) => return Err(failure::lost_session()),
                error if failure::is_open(&error) => {
                    if let Some(made) = self.find().await? {
                        return Ok(made);
                    }
                }
                error => {
                    parents::take_back(client, &made_parents).await;
                    return Err(failure::of_request(error, &lock.path));
                }
            }
        }
    }

    /// Looks for the node after a creation whose outcome is open.
    async fn find(&self) -> Result<Option<Made>> {
        let client = &self.session.client;
        loop {
            match self.look_for().await {
                Ok(found) => return Ok(found),
                Err(error) if failure::ends_session(&error) => return Err(failure::lost_session()),
                Err(DriverError::NoNode) => return Ok(None),
                // Whatever it is: who stops looking leaves the node behind.
                Err(error) => {
                    tracing::debug!(%error, "a node whose creation has an open outcome is looked for again");
                    self.session.pause().await;
                }
            }
            if client.state().is_terminated() {
                return Err(failure::lost_session());
            }
        }
    }

    async fn look_for(&self) -> std::result::Result<Option<Made>, DriverError> {
        let client = &self.session.client;
        let lock = &*self.lock;
        // Another server than before may not have heard of it yet.
        let (synced, children) = join(client.sync(&lock.path), client.list_children(&lock.path)).await;
        synced?;
        let mut candidates: Vec<String> = children?;
        let own_name = layout::protection(self.id);
        let names_attempts = lock.shape.layout.names_attempts();
        candidates.retain(|name| match names_attempts {
            true => name.starts_with(&own_name),
            false => lock.shape.layout.parse(name).is_some_and(|(kind, _)| kind == lock.kind),
        });
        let tag = tag(self.id);
        for batch in candidates.chunks(BATCH) {
            let mut reader = client.new_multi_reader();
            for name in batch {
                reader.add_get_data(&path::child(&lock.path, name))?;
            }
            for (name, read) in batch.iter().zip(reader.commit().await?) {
                let MultiReadResult::Data { data, stat } = read else { continue };
                let is_ours = names_attempts || data.starts_with(tag.as_bytes());
                if is_ours && stat.ephemeral_owner == client.session_id().0 {
                    let path = path::child(&lock.path, name);
                    return Ok(Some(Made { path, zxid: stat.czxid, listing: None }));
                }
            }
        }
        Ok(None)
    }

    /// Removes the node, however often the connection is lost meanwhile. Waits for its creation to end first, if that is
    /// under way.
    pub(crate) async fn remove(&self) -> Result<Removed> {
        let path = loop {
            let settled = self.settled.notified();
            {
                let mut state = lock(&self.state);
                state.held = None;
                state.doomed = true;
                if !state.making {
                    break state.path.clone();
                }
            }
            settled.await;
        };
        let removed = match path {
            Some(path) => self.delete(&path).await?,
            None => Removed::Missing,
        };
        self.session.leave(self.id);
        Ok(removed)
    }

    async fn delete(&self, path: &str) -> Result<Removed> {
        loop {
            // Whoever is dropped here leaves an open outcome to the next.
            let again = std::mem::replace(&mut lock(&self.state).deleting, true);
            match self.session.client.delete(path, None).await {
                Ok(()) => return Ok(Removed::Removed),
                Err(DriverError::NoNode) if again => return Ok(Removed::Removed),
                Err(DriverError::NoNode) => return Ok(Removed::Missing),
                Err(error) if failure::ends_session(&error) => return Ok(Removed::Missing),
                Err(error) if failure::is_open(&error) => self.session.pause().await,
                Err(error) => {
                    lock(&self.state).deleting = again;
                    // It is still there.
                    return Err(failure::of_request(error, path).no_effect(false));
                }
            }
        }
    }

    /// Removes the node in the background.
    pub(crate) async fn remove_surely(&self) {
        if let Err(error) = self.remove().await {
            tracing::warn!(%error, "a node could not be removed; it goes with the session");
        }
    }
}

/// What stands at the beginning of a node's data, so that it is found again.
pub(crate) fn tag(id: AttemptId) -> String {
    format!("{id} ")
}

/// Who made a node, by its data, for people.
pub(crate) fn owner(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    let is_tag = |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let owner = match text.split_once(' ') {
        Some((first, rest)) if is_tag(first) => rest,
        _ => text,
    };
    let shown: String = owner.chars().take(200).flat_map(char::escape_debug).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_without_the_tag() {
        let data = format!("{}pid 7 on h", tag(AttemptId(5)));
        assert_eq!(owner(data.as_bytes()).as_deref(), Some("pid 7 on h"));
        assert_eq!(owner(b"10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(owner(b""), None);
        assert_eq!(owner(b"\xff"), None);
        assert_eq!(owner(b"a\x1b").as_deref(), Some("a\\u{1b}"));
    }
}
