//! Who holds what, and how to break it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

use pilotman_core::backend::{Holder, Inspection};
use pilotman_core::{NameRule, Primitive, Result, Target};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::directory;
use crate::failure::failed;
use crate::file::{FileId, LockMode};
use crate::names::{self, Base};
use crate::open;
use crate::owner::{self, Owner};
use crate::place::Place;
use crate::shared::Shared;
use crate::slot;
use crate::token::Counter;

#[cfg(target_os = "linux")]
use crate::proc_locks::Locks;

/// Where the kernel shows no list of locks.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
struct Locks;

#[cfg(not(target_os = "linux"))]
impl Locks {
    fn read(_: impl Fn(FileId) -> bool) -> Self {
        Self
    }
}

/// A lock that somebody has: the process, if known, and whether it is exclusive.
struct Found {
    pid: Option<u32>,
    exclusive: bool,
}

/// Tells who holds a name, in all kinds of primitive.
pub(crate) fn inspect(shared: &Shared, target: &Target) -> Result<Inspection> {
    let base = names::map(&shared.options.directory, shared.options.names, target.name.as_str())?;
    let place = slot::place(&base, target.primitive)?;
    let mut files = vec![slot::place(&base, Primitive::Mutex)?, slot::place(&base, Primitive::Read)?];
    files.extend(permit_files(shared, &Place::new(&base.directory, base.with(names::PERMITS))?)?);
    let mut inspection = of_base(shared, &base, &locks_of(&files))?;
    inspection.name = Some(target.name.as_str().to_owned());
    inspection.physical = place.path.display().to_string();
    inspection.token = Counter::new(place.beside(names::TOKEN)?).last(shared)?;
    Ok(inspection)
}

/// What the kernel tells of these files.
fn locks_of(files: &[Place]) -> Locks {
    let id = |file: &Place| rustix::fs::statat(CWD, &file.raw, AtFlags::SYMLINK_NOFOLLOW).ok();
    let ids: HashSet<FileId> = files.iter().filter_map(id).map(|stat| FileId::of(&stat)).collect();
    Locks::read(|file| ids.contains(&file))
}

fn of_base(shared: &Shared, base: &Base, locks: &Locks) -> Result<Inspection> {
    let mut inspection = Inspection::default();
    let mutex = slot::place(base, Primitive::Mutex)?;
    inspection.physical = mutex.path.display().to_string();
    inspection.token = Counter::new(mutex.beside(names::TOKEN)?).last(shared)?;
    let rw = slot::place(base, Primitive::Read)?;
    let permits = Place::new(&base.directory, base.with(names::PERMITS))?;
    inspection.holders = holders(shared, &mutex, ("mutex", "mutex"), locks)?;
    inspection.holders.extend(holders(shared, &rw, ("write", "read"), locks)?);
    for permit in permit_files(shared, &permits)? {
        inspection.holders.extend(holders(shared, &permit, ("permit", "permit"), locks)?);
    }
    Ok(inspection)
}

/// The lock files of the permits that were ever taken.
fn permit_files(shared: &Shared, permits: &Place) -> Result<Vec<Place>> {
    if directory::open(&permits.directory, shared.trust)?.is_none()
        || directory::open(&permits.path, shared.trust)?.is_none()
    {
        return Ok(Vec::new());
    }
    let mut numbers: Vec<u32> = entries(&permits.path)?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| Place::new(&permits.path, number.to_string().into())).collect()
}

fn entries(path: &Path) -> Result<Vec<OsString>> {
    let fail = |error: std::io::Error| {
        failed("can't read the directory", path, Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(fail)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fail(error)),
    }
}

/// The holders of a file; the names are what an exclusive and a shared holder are called.
fn holders(shared: &Shared, place: &Place, names: (&'static str, &'static str), locks: &Locks) -> Result<Vec<Holder>> {
    let id = match rustix::fs::statat(CWD, &place.raw, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileId::of(&stat),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(failed("can't look at", &place.path, errno)),
    };
    let found = match known(locks, id) {
        found if found.is_empty() => probe(shared, place)?,
        found => found,
    };
    let mut record = None;
    if found.iter().any(|found| found.exclusive) {
        record = owner::read(&place.beside(names::OWNER)?, shared)?;
    }
    Ok(found.into_iter().map(|found| describe(&found, names, record.as_ref())).collect())
}

#[cfg(target_os = "linux")]
fn known(locks: &Locks, id: FileId) -> Vec<Found> {
    // A process that this one can't see, in another container say, has no number here.
    let found = |lock: &crate::proc_locks::Lock| Found {
        pid: Some(lock.pid).filter(|pid| *pid > 0),
        exclusive: lock.exclusive,
    };
    locks.of(id).iter().map(found).collect()
}

#[cfg(not(target_os = "linux"))]
fn known(_: &Locks, _: FileId) -> Vec<Found> {
    Vec::new()
}

/// Finds out by trying, where the kernel doesn't tell: it hides what other containers hold, and some file systems give
/// it other numbers. It holds the lock for an instant, and only if it is free.
fn probe(shared: &Shared, place: &Place) -> Result<Vec<Found>> {
    let fail = |errno| failed("can't probe", &place.path, errno);
    let Some(file) = open::open_existing(place, shared.trust)? else { return Ok(Vec::new()) };
    let found = if !file.try_lock(LockMode::Shared).map_err(fail)? {
        vec![Found { pid: None, exclusive: true }]
    } else if !file.try_lock(LockMode::Exclusive).map_err(fail)? {
        vec![Found { pid: None, exclusive: false }]
    } else {
        Vec::new()
    };
    // Closing the file unlocks it, and wakes whoever met the lock meanwhile.
    Ok(found)
}

fn describe(found: &Found, names: (&'static str, &'static str), record: Option<&Owner>) -> Holder {
    let mut holder = Holder::default();
    holder.primitive = Some(if found.exclusive { names.0 } else { names.1 });
    // A record that a dead holder has left names another process.
    let record = record.filter(|record| found.pid.is_none_or(|pid| pid == record.pid));
    let host = record.map_or_else(owner::host, |record| record.host.clone());
    let command = record.map(|record| record.command.clone()).or_else(|| found.pid.and_then(command));
    holder.owner = match (found.pid.or(record.map(|record| record.pid)), command) {
        (Some(pid), Some(command)) => format!("pid {pid} on {host} ({command})"),
        (Some(pid), None) => format!("pid {pid} on {host} (ended; a child of it may hold the lock)"),
        (None, _) => "a process that can't be seen from here".into(),
    };
    holder.since = record.map(|record| record.since);
    holder.token = record.and_then(|record| record.token);
    holder
}

/// What a living process is called.
fn command(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Lists the locks that have files in the directory.
pub(crate) fn list(shared: &Shared) -> Result<Vec<Inspection>> {
    let directory = &shared.options.directory;
    if directory::open(directory, shared.trust)?.is_none() {
        return Ok(Vec::new());
    }
    // For each base, a file that can have the logical name noted.
    let mut bases: BTreeMap<OsString, Vec<Place>> = BTreeMap::new();
    for entry in entries(directory)? {
        let Some(name) = entry.to_str() else { continue };
        let (base, noted) = if let Some(base) = name.strip_suffix(names::PERMITS) {
            (base, permit_files(shared, &Place::new(directory, entry.clone())?)?.into_iter().next())
        } else if let Some(base) = name.strip_suffix(names::RW) {
            (base, Some(Place::new(directory, entry.clone())?))
        } else {
            (name, Some(Place::new(directory, entry.clone())?))
        };
        let sibling = names::SIBLINGS.iter().any(|ending| base.ends_with(ending));
        let ours = names::is_mapped(base) || shared.options.names == NameRule::Exact;
        if base.is_empty() || base.starts_with(".pilotman-") || sibling || !ours {
            continue;
        }
        bases.entry(base.into()).or_default().extend(noted);
    }
    let locks = Locks::read(|_| true);
    let mut list = Vec::new();
    for (file, noted) in bases {
        if !is_file_or_gone(&directory.join(&file)) {
            continue;
        }
        let exact = file.to_str().filter(|_| shared.options.names == NameRule::Exact).map(str::to_owned);
        let base = Base { directory: directory.clone(), file };
        let mut inspection = of_base(shared, &base, &locks)?;
        inspection.name = exact;
        for place in noted {
            if inspection.name.is_none() {
                inspection.name = noted_name(shared, &place)?;
            }
        }
        list.push(inspection);
    }
    Ok(list)
}

fn is_file_or_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// The logical name that a lock file has as its content.
fn noted_name(shared: &Shared, place: &Place) -> Result<Option<String>> {
    let Some(file) = open::open_existing(place, shared.trust)? else { return Ok(None) };
    let mut content = vec![0; 8192];
    let length = match rustix::io::pread(file.fd(), &mut content, 0) {
        Ok(length) => length,
        Err(errno) => return Err(failed("can't read", &place.path, errno)),
    };
    Ok(parse_note(&content[..length]))
}

fn parse_note(content: &[u8]) -> Option<String> {
    let mut lines = std::str::from_utf8(content).ok()?.lines();
    lines.next()?.strip_prefix("pilotman ")?;
    serde_json::from_str(lines.next()?).ok()
}

/// Takes the files away that are held, so that the next holder gets new ones; returns those who held them.
pub(crate) fn force_release(shared: &Shared, target: &Target) -> Result<Vec<Holder>> {
    let base = names::map(&shared.options.directory, shared.options.names, target.name.as_str())?;
    let place = slot::place(&base, target.primitive)?;
    let (files, names) = match target.primitive {
        Primitive::Mutex => (vec![place], ("mutex", "mutex")),
        Primitive::Permit(_) => (permit_files(shared, &place)?, ("permit", "permit")),
        _ => (vec![place], ("write", "read")),
    };
    let locks = locks_of(&files);
    let mut broken = Vec::new();
    for file in files {
        let holders = holders(shared, &file, names, &locks)?;
        if holders.is_empty() {
            continue;
        }
        let Some(directory) = directory::open(&file.directory, shared.trust)? else { continue };
        match rustix::fs::unlinkat(&directory, &file.name, AtFlags::empty()) {
            // Somebody else did the same just now.
            Ok(()) | Err(Errno::NOENT) => broken.extend(holders),
            Err(errno) => return Err(failed("can't remove", &file.path, errno)),
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_and_anything_else_is_none() {
        assert_eq!(parse_note(b"pilotman mutex\n\"a \\n\\\"b\"\n").as_deref(), Some("a \n\"b"));
        for other in [&b""[..], b"pilotman mutex\n", b"4711\n", b"pilotman mutex\nname\n", b"\xff\xfe", b"\"a\"\n"] {
            assert_eq!(parse_note(other), None);
        }
    }
}
