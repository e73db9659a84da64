//! Is this set up safely?

use std::sync::atomic::Ordering;

use pilotman_core::Result;
use pilotman_core::backend::Finding;

use super::layout::{ENTRIES, MEMBERS, TID};
use super::shared::Shared;

/// The users below are those of the system, whose files a log-out leaves alone.
const FIRST_PERSON: u32 = 1000;

pub(crate) fn diagnose(shared: &Shared) -> Result<Vec<Finding>> {
    let process = shared.current()?;
    let path = shared.place.path.display();
    let members = process.table.members.iter().filter(|member| member.word.load(Ordering::SeqCst) & TID != 0).count();
    let entries = process.table.used().iter().filter(|entry| entry.owner.load(Ordering::SeqCst) != 0).count();
    let mut findings = vec![Finding::fine(
        "table",
        format!("{path}: {members} of {MEMBERS} processes, {entries} of {ENTRIES} holds and waits"),
    )];
    if entries > ENTRIES / 2 || members > MEMBERS / 2 {
        findings.push(
            Finding::warning("table", "the lock table is more than half full")
                .advice("hold fewer locks at a time, or use another directory for some"),
        );
    }
    if let Some(owner) = owner(shared) {
        let whose = if shared.options.shared { "the one who made the shared table" } else { "this user" };
        findings.push(
            Finding::note(
                "logout",
                format!(
                    "systemd-logind with RemoveIPC=yes (its default) removes the files of {whose} (id {owner}) from \
                     /dev/shm when the last session of that user ends, and the locks with them"
                ),
            )
            .advice("let that user linger (loginctl enable-linger), or set a directory"),
        );
    }
    if shared.options.shared {
        findings.push(Finding::note(
            "shared",
            "every user of this machine can write the table: they can break each other's locks and processes",
        ));
    }
    Ok(findings)
}

/// The user whose log-out removes the table, if there is one.
fn owner(shared: &Shared) -> Option<u32> {
    if shared.options.directory.is_some() {
        return None;
    }
    let owner = match shared.options.shared {
        true => rustix::fs::lstat(&shared.place.path).ok()?.st_uid,
        false => rustix::process::geteuid().as_raw(),
    };
    (owner >= FIRST_PERSON).then_some(owner)
}
