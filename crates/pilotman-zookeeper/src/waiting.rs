//! Until it is our turn. Each wait watches one node: the one before its own.

use std::sync::Arc;

use pilotman_core::backend::{Attempt, Grant, Outcome};
use pilotman_core::{Error, Result};
use zookeeper_client::{Error as DriverError, EventType, MultiReadResult, OneshotWatcher};

use crate::contest::{self, Sibling, Standing};
use crate::grant::{ACQUIRED, Turn, grant, vanished};
use crate::link::Link;
use crate::place::{Listing, Made, Place, ZkLock};
use crate::{failure, path, sequence};

/// So many nodes are read by one request.
const BATCH: usize = 128;

fn lock_of(attempt: &Attempt) -> &Arc<ZkLock> {
    attempt.spec.prepared::<Arc<ZkLock>>()
}

/// One attempt.
pub(crate) async fn try_once(link: &Arc<Link>, attempt: &Attempt) -> Result<Outcome> {
    let place = link.enter(attempt.id, lock_of(attempt), attempt.spec.lease).await?;
    let made = place.make().await.map_err(final_error)?;
    let mut own = Own::new(&place, made);
    match own.look().await.map_err(final_error)? {
        (Standing::Ours, turn) => Ok(Outcome::Granted(grant(&place, attempt, turn).await.map_err(final_error)?)),
        (Standing::Vanished, _) => Err(vanished()),
        _ => {
            // What can't be removed now is an error whose effect is open, and the engine has it removed.
            place.remove().await?;
            link.note_parent(&place.lock);
            Ok(Outcome::Contended { retry_after: None })
        }
    }
}

/// What ended with its session ended for good.
fn final_error(error: Error) -> Error {
    if failure::is_session_end(&error) { failure::session_ended() } else { error }
}

/// Waits for our turn. If the session ends, the wait goes on in another one, at the end of the queue.
pub(crate) async fn wait(link: &Arc<Link>, attempt: &Attempt) -> Result<Grant> {
    loop {
        let place = link.enter(attempt.id, lock_of(attempt), attempt.spec.lease).await?;
        match wait_at(&place, attempt).await {
            Err(error) if failure::is_session_end(&error) => {
                place.session.leave(place.id);
                link.forget(&place.session);
                place.session.end();
                tracing::debug!("a wait goes on in another session");
            }
            Err(error) => {
                link.note_parent(&place.lock);
                return Err(error);
            }
            granted => return granted,
        }
    }
}

async fn wait_at(place: &Arc<Place>, attempt: &Attempt) -> Result<Grant> {
    let made = place.make().await?;
    let mut own = Own::new(place, made);
    loop {
        let (standing, turn) = own.look().await?;
        let turn = match standing {
            Standing::Ours => turn,
            Standing::Vanished => {
                place.set_gone();
                return Err(vanished());
            }
            Standing::Behind { name, last } => match own.until_gone(&name, last).await? {
                true => Turn::Left,
                false => continue,
            },
            Standing::BehindWaiter { name } => {
                own.until_marked(&name).await?;
                continue;
            }
            Standing::First => {
                own.until_change().await?;
                continue;
            }
        };
        return grant(place, attempt, turn).await;
    }
}

/// Our node among the others.
struct Own<'a> {
    place: &'a Place,
    name: String,
    /// The transaction that made it.
    zxid: i64,
    /// The listing that came with it.
    first: Option<Listing>,
}

impl<'a> Own<'a> {
    fn new(place: &'a Place, made: Made) -> Self {
        Self { place, name: path::name(&made.path).to_owned(), zxid: made.zxid, first: made.listing }
    }

    fn sibling(&self, name: &str) -> String {
        path::child(&self.place.lock.path, name)
    }

    /// How we stand.
    async fn look(&mut self) -> Result<(Standing, Turn)> {
        let lock = &self.place.lock;
        loop {
            let (listing, at_once) = match self.first.take() {
                Some(listing) => (listing, true),
                None => (self.list().await?, false),
            };
            let turn = match at_once {
                true => Turn::AtOnce { made: self.zxid, changed: listing.changed },
                false => Turn::Listed { changed: listing.changed },
            };
            let queue = match contest::queue(lock.shape.layout, lock.kind, &listing.children) {
                Ok(queue) => queue,
                Err(queue) => match self.by_age(queue).await? {
                    Some(queue) => queue,
                    None => continue,
                },
            };
            return Ok((contest::standing(&queue, &self.name, lock.permits()), turn));
        }
    }

    async fn list(&self) -> Result<Listing> {
        loop {
            match self.place.session.client.get_children(&self.place.lock.path).await {
                Ok((children, stat)) => return Ok(Listing { children, changed: stat.pzxid }),
                Err(DriverError::NoNode) => {
                    self.place.set_gone();
                    return Err(vanished());
                }
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// A request failed: the pause before it is repeated, if it is worth repeating.
    async fn again(&self, error: DriverError) -> Result<()> {
        if failure::ends_session(&error) {
            return Err(failure::lost_session());
        }
        if !failure::is_open(&error) {
            return Err(failure::of_request(error, &self.place.lock.path).no_effect(false));
        }
        self.place.session.pause().await;
        Ok(())
    }

    /// Puts the oldest first when the numbers don't tell which it is. `None`: it left meanwhile.
    async fn by_age(&self, mut queue: Vec<Sibling>) -> Result<Option<Vec<Sibling>>> {
        let client = &self.place.session.client;
        let mut oldest: Option<(i64, usize)> = None;
        for (nth, batch) in queue.chunks(BATCH).enumerate() {
            let read = loop {
                let mut reader = client.new_multi_reader();
                for sibling in batch {
                    let path = self.sibling(&sibling.name);
                    reader.add_get_data(&path).map_err(|error| failure::of_request(error, &path))?;
                }
                match reader.commit().await {
                    Ok(read) => break read,
                    Err(error) => self.again(error).await?,
                }
            };
            for (at, read) in read.into_iter().enumerate() {
                if let MultiReadResult::Data { stat, .. } = read {
                    let age = (stat.czxid, nth * BATCH + at);
                    oldest = Some(oldest.map_or(age, |other| other.min(age)));
                }
            }
        }
        Ok(oldest.map(|(_, at)| {
            sequence::begin_with(&mut queue, at);
            queue
        }))
    }

    /// Waits until this node goes. `true`: it has, and it was the only one before ours.
    async fn until_gone(&self, name: &str, last: bool) -> Result<bool> {
        let path = self.sibling(name);
        loop {
            match self.place.session.client.check_and_watch_stat(&path).await {
                Ok((None, _)) => return Ok(last),
                Ok((Some(_), watcher)) => match self.event(watcher).await? {
                    EventType::NodeDeleted => return Ok(last),
                    // Its holder wrote into it, or the connection was lost for a while.
                    _ => continue,
                },
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// Waits until this node goes or has a permit.
    async fn until_marked(&self, name: &str) -> Result<()> {
        let path = self.sibling(name);
        loop {
            match self.place.session.client.get_and_watch_data(&path).await {
                Ok((data, ..)) if data == ACQUIRED => return Ok(()),
                Ok((_, _, watcher)) => {
                    if self.event(watcher).await? == EventType::NodeDeleted {
                        return Ok(());
                    }
                }
                Err(DriverError::NoNode) => return Ok(()),
                // Others may hide what is in their nodes; not that they are there.
                Err(DriverError::NoAuth) => return self.until_change().await,
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// Waits until any node comes or goes.
    async fn until_change(&self) -> Result<()> {
        let lock = &self.place.lock;
        loop {
            match self.place.session.client.get_and_watch_children(&lock.path).await {
                Ok((children, _, watcher)) => {
                    // What changed before the watch was there is not told by it.
                    let queue = contest::queue(lock.shape.layout, lock.kind, &children);
                    let still = queue.is_ok_and(|queue| {
                        !matches!(
                            contest::standing(&queue, &self.name, lock.permits()),
                            Standing::Ours | Standing::Vanished
                        )
                    });
                    if still {
                        self.event(watcher).await?;
                    }
                    return Ok(());
                }
                Err(DriverError::NoNode) => return Ok(()),
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// What the watched node has come to.
    async fn event(&self, watcher: OneshotWatcher) -> Result<EventType> {
        let event = watcher.changed().await;
        if event.event_type == EventType::Session && event.session_state.is_terminated() {
            return Err(failure::lost_session());
        }
        Ok(event.event_type)
    }
}
