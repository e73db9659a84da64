//! Who holds what, and how to break it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::clock::Sleep;
use pilotman_core::{Result, Target};

use super::entries::key_of;
use super::hindrance::PATIENCE;
use super::latch::{BRIEF, stuck_by};
use super::layout::{Entry, HOLDS, NAME};
use super::process::{Life, Process};
use super::shared::Shared;
use super::slot::{DOMAINS, Slot, bucket, called, domain, key, shown};
use super::table::Place;
use super::watch::HINDERED;

/// What the locks of the table are called.
pub(crate) fn physical(place: &Place, domain: &str, key: [u64; 2]) -> String {
    format!("{}#{domain}-{}", place.path.display(), shown(key))
}

/// Tells who holds a name, in all kinds of primitive.
pub(crate) async fn inspect(shared: &Shared, target: &Target) -> Result<Inspection> {
    let slot = Slot::new(shared.options.names, target)?;
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical = physical(&shared.place, domain(slot.kind), slot.key);
    inspection.waiters = Some(0);
    let Some(process) = shared.existing()? else { return Ok(inspection) };
    for name in DOMAINS {
        let key = key(shared.options.names, name, target.name.as_str())?;
        let all = patiently(shared, || Seen::all(&process, bucket(key))).await?;
        for seen in all.iter().filter(|seen| seen.key == key) {
            seen.add_to(&process, &mut inspection);
        }
    }
    Ok(inspection)
}

/// Lists the locks that are held or waited for.
pub(crate) async fn list(shared: &Shared) -> Result<Vec<Inspection>> {
    let Some(process) = shared.existing()? else { return Ok(Vec::new()) };
    let mut found: BTreeMap<String, Inspection> = BTreeMap::new();
    for (index, bucket) in process.table.buckets.iter().enumerate() {
        if bucket.head.load(Ordering::SeqCst) == 0 {
            continue;
        }
        for seen in patiently(shared, || Seen::all(&process, index)).await? {
            let physical = physical(&shared.place, domain(seen.kind), seen.key);
            let inspection = found.entry(physical).or_insert_with_key(|physical| {
                let mut inspection = Inspection::default();
                inspection.name.clone_from(&seen.name);
                inspection.physical = physical.clone();
                inspection.waiters = Some(0);
                inspection
            });
            seen.add_to(&process, inspection);
        }
    }
    Ok(found.into_values().filter(|found| !found.holders.is_empty() || found.waiters != Some(0)).collect())
}

/// Breaks the holds of a target; returns those who had them.
pub(crate) async fn force_release(shared: &Shared, target: &Target) -> Result<Vec<Holder>> {
    let slot = Slot::new(shared.options.names, target)?;
    let Some(process) = shared.existing()? else { return Ok(Vec::new()) };
    let mut broken = Vec::new();
    patiently(shared, || {
        let mut latched = process.latch(&process.table.buckets[slot.bucket()], BRIEF)?;
        latched.break_all(slot.key, |entry| broken.push(Seen::of(entry)))
    })
    .await?;
    Ok(broken.iter().filter(|seen| !seen.is_dead(&process)).map(|seen| seen.holder(&process)).collect())
}

/// Repeats what somebody is in the way of, without keeping this thread from other things meanwhile.
async fn patiently<T>(shared: &Shared, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match work() {
            Err(error) if stuck_by(&error).is_some() && start.elapsed() < PATIENCE => {
                Sleep::new(shared.clock(), HINDERED).await;
            }
            done => return done,
        }
    }
}

/// What an entry said. What it means is looked up when the latch is free again: `/proc` takes its time.
struct Seen {
    key: [u64; 2],
    owner: u64,
    kind: u32,
    state: u32,
    token: u64,
    since: u64,
    name: Option<String>,
}

impl Seen {
    /// The entries of a chain.
    fn all(process: &Process, bucket: usize) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        process.latch(&process.table.buckets[bucket], BRIEF)?.each(|_, entry| {
            all.push(Self::of(entry));
            true
        })?;
        Ok(all)
    }

    fn of(entry: &Entry) -> Self {
        Self {
            key: key_of(entry),
            owner: entry.owner.load(Ordering::Relaxed),
            kind: entry.kind.load(Ordering::Relaxed),
            state: entry.state.load(Ordering::Relaxed),
            token: entry.token.load(Ordering::Relaxed),
            since: entry.since.load(Ordering::Relaxed),
            name: name_of(entry),
        }
    }

    fn is_dead(&self, process: &Process) -> bool {
        process.life(self.owner) == Life::Dead
    }

    fn add_to(&self, process: &Process, inspection: &mut Inspection) {
        if self.is_dead(process) {
            return;
        }
        if self.state != HOLDS {
            *inspection.waiters.get_or_insert(0) += 1;
            return;
        }
        let holder = self.holder(process);
        inspection.token = inspection.token.max(holder.token);
        inspection.holders.push(holder);
    }

    fn holder(&self, process: &Process) -> Holder {
        let mut holder = Holder::default();
        holder.primitive = Some(called(self.kind));
        holder.token = Some(self.token);
        holder.since = UNIX_EPOCH.checked_add(Duration::from_millis(self.since));
        holder.owner = match process.member_of(self.owner) {
            Some(member) => {
                let pid = member.pid.load(Ordering::Relaxed);
                let command = std::fs::read(format!("/proc/{pid}/comm"));
                let text = |command: Vec<u8>| String::from_utf8_lossy(&command).trim_end().to_owned();
                let command = command.map_or_else(|_| "ended".to_owned(), text);
                format!("pid {pid} ({command}), user {}", member.user.load(Ordering::Relaxed))
            }
            None => "a process that has ended".to_owned(),
        };
        holder
    }
}

fn name_of(entry: &Entry) -> Option<String> {
    let length = (entry.length.load(Ordering::Relaxed) as usize).min(NAME);
    let mut bytes: Vec<u8> = entry.name.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(length);
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}
