//! Who holds what, and how to break it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{Result, Target};

use super::entries::is;
use super::layout::{Entry, HOLDS, NAME};
use super::process::{Life, Process};
use super::shared::Shared;
use super::slot::{DOMAINS, Slot, bucket, called, domain, key, shown};
use super::table::Place;

/// What the locks of the table are called.
pub(crate) fn physical(place: &Place, domain: &str, key: [u64; 2]) -> String {
    format!("{}#{domain}-{}", place.path.display(), shown(key))
}

/// Tells who holds a name, in all kinds of primitive.
pub(crate) fn inspect(shared: &Shared, target: &Target) -> Result<Inspection> {
    let slot = Slot::new(shared.options.names, target)?;
    let mut inspection = Inspection::default();
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical = physical(&shared.place, domain(slot.kind), slot.key);
    inspection.waiters = Some(0);
    let Some(process) = shared.existing()? else { return Ok(inspection) };
    for name in DOMAINS {
        let key = key(shared.options.names, name, target.name.as_str())?;
        let latched = process.latch(&process.table.buckets[bucket(key)])?;
        latched.each(|_, entry| {
            if is(entry, key) {
                add(&process, &mut inspection, entry);
            }
            true
        })?;
    }
    Ok(inspection)
}

/// Lists the locks that are held or waited for.
pub(crate) fn list(shared: &Shared) -> Result<Vec<Inspection>> {
    let Some(process) = shared.existing()? else { return Ok(Vec::new()) };
    let mut found: BTreeMap<String, Inspection> = BTreeMap::new();
    for bucket in &process.table.buckets {
        if bucket.head.load(Ordering::SeqCst) == 0 {
            continue;
        }
        let latched = process.latch(bucket)?;
        latched.each(|_, entry| {
            let key = [entry.key[0].load(Ordering::Relaxed), entry.key[1].load(Ordering::Relaxed)];
            let physical = physical(&shared.place, domain(entry.kind.load(Ordering::Relaxed)), key);
            let inspection = found.entry(physical).or_insert_with_key(|physical| {
                let mut inspection = Inspection::default();
                inspection.name = name_of(entry);
                inspection.physical = physical.clone();
                inspection.waiters = Some(0);
                inspection
            });
            add(&process, inspection, entry);
            true
        })?;
    }
    Ok(found.into_values().filter(|found| !found.holders.is_empty() || found.waiters != Some(0)).collect())
}

/// Breaks the holds of a target; returns those who had them.
pub(crate) fn force_release(shared: &Shared, target: &Target) -> Result<Vec<Holder>> {
    let slot = Slot::new(shared.options.names, target)?;
    let Some(process) = shared.existing()? else { return Ok(Vec::new()) };
    let mut latched = process.latch(&process.table.buckets[slot.bucket()])?;
    let mut broken = Vec::new();
    latched.break_all(slot.key, |entry| {
        if process.life(entry.owner.load(Ordering::Relaxed)) != Life::Dead {
            broken.push(holder(&process, entry));
        }
    })?;
    Ok(broken)
}

fn add(process: &Process, inspection: &mut Inspection, entry: &Entry) {
    if process.life(entry.owner.load(Ordering::Relaxed)) == Life::Dead {
        return;
    }
    if entry.state.load(Ordering::Relaxed) != HOLDS {
        *inspection.waiters.get_or_insert(0) += 1;
        return;
    }
    let holder = holder(process, entry);
    inspection.token = inspection.token.max(holder.token);
    inspection.holders.push(holder);
}

fn holder(process: &Process, entry: &Entry) -> Holder {
    let mut holder = Holder::default();
    holder.primitive = Some(called(entry.kind.load(Ordering::Relaxed)));
    holder.token = Some(entry.token.load(Ordering::Relaxed));
    holder.since = UNIX_EPOCH.checked_add(Duration::from_millis(entry.since.load(Ordering::Relaxed)));
    holder.owner = match process.member_of(entry.owner.load(Ordering::Relaxed)) {
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

fn name_of(entry: &Entry) -> Option<String> {
    let length = (entry.length.load(Ordering::Relaxed) as usize).min(NAME);
    let mut bytes: Vec<u8> = entry.name.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(length);
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}
