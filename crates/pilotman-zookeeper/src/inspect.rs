//! Who holds what; breaking locks.

use std::time::{Duration, SystemTime};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Error, NameRule, Result, Target};
use zookeeper_client::{Client, Error as DriverError, MultiReadResult, Stat};

use crate::contest::{self, Sibling};
use crate::grant::ACQUIRED;
use crate::layout::{Kind, Layout};
use crate::place::ZkLock;
use crate::{failure, names, path, place, sequence};

/// So many nodes are read by one request.
const BATCH: usize = 128;
/// The queues of a lock's node; readers and writers stand in one.
const QUEUES: [Kind; 3] = [Kind::Mutex, Kind::Write, Kind::Permit];

/// What a node says; `None` for one that left, or that we may not read.
type Said = Option<(Vec<u8>, Stat)>;

/// One queue with what its nodes say.
struct Queue {
    nodes: Vec<(Sibling, Said)>,
    holders: usize,
}

fn request_error(error: DriverError, path: &str) -> Error {
    failure::of_request(error, path).no_effect(true)
}

async fn read(client: &Client, directory: &str, siblings: &[Sibling]) -> Result<Vec<Said>> {
    let mut all = Vec::with_capacity(siblings.len());
    for batch in siblings.chunks(BATCH) {
        let mut reader = client.new_multi_reader();
        for sibling in batch {
            let path = path::child(directory, &sibling.name);
            reader.add_get_data(&path).map_err(|error| request_error(error, &path))?;
        }
        let read = reader.commit().await.map_err(|error| request_error(error, directory))?;
        all.extend(read.into_iter().map(|read| match read {
            MultiReadResult::Data { data, stat } => Some((data, stat)),
            _ => None,
        }));
    }
    Ok(all)
}

/// One queue of the node. How many permits there are is known only for the lock that is asked about; else a permit is
/// held where its node says so.
async fn queue(client: &Client, layout: Layout, directory: &str, kind: Kind, children: &[String]) -> Result<Queue> {
    let (mut siblings, is_sorted) = match contest::queue(layout, kind, children) {
        Ok(siblings) => (siblings, true),
        Err(siblings) => (siblings, false),
    };
    let mut read = read(client, directory, &siblings).await?;
    if !is_sorted {
        let ages = read.iter().enumerate().filter_map(|(at, read)| read.as_ref().map(|(_, stat)| (stat.czxid, at)));
        if let Some((_, at)) = ages.min() {
            sequence::begin_with(&mut siblings, at);
            read.rotate_left(at);
        }
    }
    let mut nodes: Vec<_> = siblings.into_iter().zip(read).collect();
    let holders = match kind {
        Kind::Permit => {
            let has_permit = |read: &Said| read.as_ref().is_some_and(|(data, _)| data == ACQUIRED);
            // A permit can be taken before one that is older has said so.
            nodes.sort_by_key(|(_, read)| !has_permit(read));
            nodes.iter().filter(|(_, read)| has_permit(read)).count()
        }
        _ => {
            let siblings: Vec<Sibling> = nodes.iter().map(|(sibling, _)| sibling.clone()).collect();
            contest::holders(&siblings, 1)
        }
    };
    Ok(Queue { nodes, holders })
}

async fn children(client: &Client, path: &str) -> Result<Vec<String>> {
    match client.list_children(path).await {
        Ok(children) => Ok(children),
        Err(DriverError::NoNode) => Ok(Vec::new()),
        Err(error) => Err(request_error(error, path)),
    }
}

fn holder(sibling: &Sibling, read: &Said) -> Holder {
    let mut holder = Holder::default();
    holder.primitive = Some(sibling.kind.as_str());
    holder.owner = "a node that can't be read".to_owned();
    if let Some((data, stat)) = read {
        let said = if data == ACQUIRED { None } else { place::owner(data) };
        holder.owner = said.unwrap_or_else(|| format!("session 0x{:x}", stat.ephemeral_owner));
        let since = u64::try_from(stat.ctime).ok().map(Duration::from_millis);
        holder.since = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    }
    holder
}

/// Who holds the locks of this node, of all kinds, and how many wait.
async fn look(client: &Client, layout: Layout, path: &str) -> Result<Option<Inspection>> {
    let names = children(client, path).await?;
    let mut inspection = Inspection::default();
    inspection.physical = path.to_owned();
    let (mut waiters, mut is_lock) = (0, false);
    for kind in QUEUES {
        let queue = queue(client, layout, path, kind, &names).await?;
        is_lock |= !queue.nodes.is_empty();
        waiters += queue.nodes.len() - queue.holders;
        inspection.holders.extend(queue.nodes.iter().take(queue.holders).map(|(sibling, read)| holder(sibling, read)));
    }
    inspection.waiters = Some(waiters);
    Ok(is_lock.then_some(inspection))
}

/// The state of one name.
pub(crate) async fn inspect(client: &Client, lock: &ZkLock, target: &Target) -> Result<Inspection> {
    let mut inspection = look(client, lock.shape.layout, &lock.path).await?.unwrap_or_else(|| {
        let mut free = Inspection::default();
        free.physical.clone_from(&lock.path);
        free.waiters = Some(0);
        free
    });
    inspection.name = Some(target.name.as_str().to_owned());
    Ok(inspection)
}

/// The locks below the directory that are held or waited for.
pub(crate) async fn list(client: &Client, layout: Layout, directory: &str, rule: NameRule) -> Result<Vec<Inspection>> {
    let mut found = Vec::new();
    let mut names = children(client, directory).await?;
    names.sort_unstable();
    for name in names {
        let path = path::child(directory, &name);
        // What we may not look at is not ours.
        match look(client, layout, &path).await {
            Ok(Some(mut inspection)) => {
                inspection.name = names::logical(&name, directory, rule);
                found.push(inspection);
            }
            Ok(None) => {}
            Err(error) if error.kind() == pilotman_core::ErrorKind::Misconfigured => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Removes the nodes of those who hold it.
pub(crate) async fn force_release(client: &Client, lock: &ZkLock) -> Result<Vec<Holder>> {
    let names = children(client, &lock.path).await?;
    let queue = queue(client, lock.shape.layout, &lock.path, lock.kind, &names).await?;
    let mut broken = Vec::new();
    for (sibling, read) in queue.nodes.iter().take(queue.holders) {
        let path = path::child(&lock.path, &sibling.name);
        match client.delete(&path, None).await {
            Ok(()) => broken.push(holder(sibling, read)),
            Err(DriverError::NoNode) => {}
            Err(error) => return Err(failure::of_request(error, &path)),
        }
    }
    Ok(broken)
}
