//! Who holds a lock, noted beside it for people who look.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pilotman_core::backend::AttemptId;
use pilotman_core::{Error, Result};
use serde_json::{Value, json};

use crate::failure::{failed, unfit};
use crate::file::LockFile;
use crate::open;
use crate::place::Place;
use crate::shared::Shared;

/// No record is longer; what is longer was not written by us.
const LONGEST: usize = 16 * 1024;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) host: String,
    pub(crate) command: String,
    pub(crate) since: SystemTime,
    pub(crate) token: Option<u64>,
}

/// Notes this process as the holder.
pub(crate) fn write(place: &Place, shared: &Shared, id: AttemptId, token: Option<u64>) -> Result<()> {
    let fail = |errno| failed("can't write the holder's record", &place.path, errno);
    let file = open::open_or_create(place, shared.trust, None)?;
    // Not into a file that has another name elsewhere.
    if rustix::fs::fstat(file.fd()).map_err(fail)?.st_nlink != 1 {
        return Err(unfit(&place.path, "is linked to from elsewhere", "remove it"));
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = json!({
        "pid": std::process::id(),
        "host": host(),
        "user": std::env::var("USER").ok(),
        "uid": shared.trust.user,
        "command": shared.options.holder_command.clone().unwrap_or_else(program),
        "since": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        "token": token,
        "hold": public(id),
    });
    rustix::fs::ftruncate(file.fd(), 0).map_err(fail)?;
    let record = format!("{record}\n");
    let written = rustix::io::pwrite(file.fd(), record.as_bytes(), 0).map_err(fail)?;
    if written < record.len() { Err(fail(rustix::io::Errno::NOSPC)) } else { Ok(()) }
}

/// Takes the record of this hold away, but not that of another.
pub(crate) fn clear(place: &Place, shared: &Shared, id: AttemptId) -> Result<()> {
    let Some(file) = open::open_existing(place, shared.trust)? else { return Ok(()) };
    let ours = content(&file, place)?.is_some_and(|record| record["hold"] == public(id));
    if ours {
        rustix::fs::ftruncate(file.fd(), 0)
            .map_err(|errno| failed("can't clear the holder's record", &place.path, errno))?;
    }
    Ok(())
}

/// The record, if there is a sound one.
pub(crate) fn read(place: &Place, shared: &Shared) -> Result<Option<Owner>> {
    let Some(file) = open::open_existing(place, shared.trust)? else { return Ok(None) };
    Ok(content(&file, place)?.and_then(|record| parse(&record)))
}

fn content(file: &LockFile, place: &Place) -> Result<Option<Value>> {
    let mut content = vec![0; LONGEST];
    let length = rustix::io::pread(file.fd(), &mut content, 0)
        .map_err(|errno| -> Error { failed("can't read the holder's record", &place.path, errno) })?;
    Ok(serde_json::from_slice(&content[..length]).ok())
}

fn parse(record: &Value) -> Option<Owner> {
    Some(Owner {
        pid: record["pid"].as_u64()?.try_into().ok()?,
        host: record["host"].as_str()?.to_owned(),
        command: record["command"].as_str()?.to_owned(),
        since: UNIX_EPOCH.checked_add(Duration::from_millis(record["since"].as_u64()?))?,
        token: record["token"].as_u64(),
    })
}

/// Enough of an id to tell holds apart, and not enough to release one.
fn public(id: AttemptId) -> String {
    format!("{:08x}", id.0 as u32)
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&path).file_name().unwrap_or(&path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileOptions;

    #[test]
    fn a_record_is_read_back_and_cleared_by_its_own_hold_only() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(FileOptions::new(directory.path()).holder_command("backup.sh"));
        let place = Place::new(directory.path(), "a.owner".into()).unwrap();
        assert_eq!(read(&place, &shared).unwrap(), None);
        write(&place, &shared, AttemptId(7), Some(3)).unwrap();
        let owner = read(&place, &shared).unwrap().unwrap();
        assert_eq!((owner.pid, owner.command.as_str(), owner.token), (std::process::id(), "backup.sh", Some(3)));
        assert!(owner.since.elapsed().unwrap() < Duration::from_secs(60));
        clear(&place, &shared, AttemptId(8)).unwrap();
        assert!(read(&place, &shared).unwrap().is_some());
        clear(&place, &shared, AttemptId(7)).unwrap();
        assert_eq!(read(&place, &shared).unwrap(), None);
    }

    #[test]
    fn whatever_else_is_in_the_file_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(FileOptions::new(directory.path()));
        let place = Place::new(directory.path(), "a.owner".into()).unwrap();
        for other in ["", "null", "[1]", "{\"pid\": -1}", "{\"pid\": 4711, \"host\": 5}", "\u{0}\u{1}"] {
            std::fs::write(&place.path, other).unwrap();
            assert_eq!(read(&place, &shared).unwrap(), None);
        }
    }

    #[test]
    fn a_link_to_a_file_of_value_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::new(FileOptions::new(directory.path()));
        let place = Place::new(directory.path(), "a.owner".into()).unwrap();
        let value = directory.path().join("value");
        std::fs::write(&value, "gold").unwrap();
        std::fs::hard_link(&value, &place.path).unwrap();
        assert!(write(&place, &shared, AttemptId(7), None).is_err());
        std::fs::remove_file(&place.path).unwrap();
        std::os::unix::fs::symlink(&value, &place.path).unwrap();
        assert!(write(&place, &shared, AttemptId(7), None).is_err());
        assert_eq!(std::fs::read_to_string(&value).unwrap(), "gold");
    }
}
