//! What a restart loses, against what the locks count on.

use pilotman_core::backend::{Finding, Severity};

use super::told::Told;
use super::{Look, Part, version};

/// What a restart loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loses {
    Nothing,
    /// What a crash of the machine leaves unwritten: the process alone may crash.
    LastSecond,
    Unflushed,
    SinceSnapshot,
    Everything,
    /// The save points were not told.
    SnapshotOrEverything,
}

pub(super) fn look(look: Look<'_>, told: &Told) -> Vec<Finding> {
    let Some(aof) = told.info("aof_enabled").map(|enabled| enabled != "0") else { return Vec::new() };
    let mut findings = vec![restart(look, told, aof)];
    findings.extend(failing(told, aof));
    findings
}

fn loses(told: &Told, aof: bool) -> Loses {
    match (aof, told.setting("appendfsync"), told.setting("save")) {
        (true, Some("always"), _) => Loses::Nothing,
        (true, Some("no"), _) => Loses::Unflushed,
        (true, ..) => Loses::LastSecond,
        (false, _, Some("")) => Loses::Everything,
        (false, _, Some(_)) => Loses::SinceSnapshot,
        (false, _, None) => Loses::SnapshotOrEverything,
    }
}

fn restart(look: Look<'_>, told: &Told, aof: bool) -> Finding {
    if look.on_disk() {
        return match aof {
            true => Finding::fine("persistence", "each lock is on disk before it counts (wait_on_disk)"),
            false => Finding::problem("persistence", "wait_on_disk needs an append-only file, and appendonly is off")
                .advice("CONFIG SET appendonly yes, and in redis.conf"),
        };
    }
    let what = match loses(told, aof) {
        Loses::Nothing => {
            return Finding::fine("persistence", "a restart loses nothing: appendfsync is always");
        }
        Loses::LastSecond => "a crash of its machine loses the locks of the last second or two (appendfsync everysec)",
        Loses::Unflushed => {
            "a crash of its machine loses the locks that the system had not written yet, of half a minute perhaps \
             (appendfsync no)"
        }
        Loses::SinceSnapshot => "a restart loses the locks since the last snapshot (there is no append-only file)",
        Loses::Everything => "a restart loses all locks (nothing is written to disk)",
        Loses::SnapshotOrEverything => {
            "a restart loses all locks, or those since the last snapshot (there is no append-only file)"
        }
    };
    match look.part {
        // Its votes are set aside for as long as a lock lasts that it may have forgotten.
        Part::OfQuorum => Finding::note("persistence", format!("{what}; the quorum keeps them all the same")),
        Part::Alone => {
            let advice = match version::number(told) {
                _ if look.spec.is_clustered() => {
                    "set appendonly yes and appendfsync always, or use a quorum of independent servers (redlock://)"
                }
                Some(version) if version >= version::ON_DISK => {
                    "set appendonly yes and use wait_on_disk, or use a quorum of independent servers (redlock://)"
                }
                _ => {
                    "set appendonly yes and appendfsync always (or wait_on_disk, from Redis 7.2 on), or use a quorum \
                     of independent servers (redlock://)"
                }
            };
            Finding::warning("persistence", format!("{what}, and others can have them")).advice(advice)
        }
    }
}

/// Whether the last write to disk failed, after which writes are refused.
fn failing(told: &Told, aof: bool) -> Option<Finding> {
    let failed = |field: &str| told.info(field).is_some_and(|status| status != "ok");
    let (severity, what) = match () {
        () if aof && failed("aof_last_write_status") => {
            (Severity::Problem, "the append-only file could not be written, so writes are refused (MISCONF)")
        }
        () if failed("rdb_last_bgsave_status") => (
            Severity::Problem,
            "the last snapshot failed, so writes are refused (MISCONF) unless stop-writes-on-bgsave-error is no",
        ),
        () if aof && failed("aof_last_bgrewrite_status") => {
            (Severity::Warning, "the append-only file could not be made shorter, and grows until the disk is full")
        }
        () => return None,
    };
    Some(Finding::new(severity, "saving", what).advice("look at the server's log and its disk"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotman_core::backend::Severity::{Fine, Note, Problem, Warning};

    use super::*;
    use crate::options::RedisNode;

    const OFF: &str = "redis_version:7.2.4 aof_enabled:0";
    const ON: &str = "redis_version:7.2.4 aof_enabled:1";

    fn found(spec: &RedisNode, part: Part, info: &str, settings: &[(&str, &str)]) -> Vec<Finding> {
        look(Look { spec, part }, &Told::of(info, settings))
    }

    #[test]
    fn what_a_restart_loses_is_told_and_weighed() {
        let plain = RedisNode::endpoint("h").unwrap();
        for (info, settings, words) in [
            (OFF, &[("save", "")][..], "loses all locks (nothing"),
            (OFF, &[("save", "3600 1")], "since the last snapshot"),
            (OFF, &[], "all locks, or those since"),
            (ON, &[("appendfsync", "everysec")], "last second"),
            (ON, &[("appendfsync", "no")], "not written yet"),
            (ON, &[], "last second"),
        ] {
            for (part, severity) in [(Part::Alone, Warning), (Part::OfQuorum, Note)] {
                let all = found(&plain, part, info, settings);
                assert_eq!((all.len(), all[0].about, all[0].severity), (1, "persistence", severity), "{all:?}");
                assert!(all[0].what.contains(words), "{all:?}");
                let advised = all[0].advice.as_ref().is_some_and(|advice| advice.contains("wait_on_disk"));
                assert_eq!(advised, part == Part::Alone, "{all:?}");
            }
        }
        for part in [Part::Alone, Part::OfQuorum] {
            assert_eq!(found(&plain, part, ON, &[("appendfsync", "always")])[0].severity, Fine);
        }
        assert_eq!(found(&plain, Part::Alone, "redis_version:7.2.4", &[]), []);
    }

    #[test]
    fn waiting_for_the_disk_needs_a_file() {
        let on_disk = RedisNode::endpoint("h").unwrap().wait_on_disk(0, Duration::from_secs(1));
        assert_eq!(found(&on_disk, Part::Alone, ON, &[("appendfsync", "everysec")])[0].severity, Fine);
        let all = found(&on_disk, Part::OfQuorum, OFF, &[("save", "")]);
        assert_eq!(all[0].severity, Problem, "{all:?}");
    }

    #[test]
    fn a_disk_that_refuses_is_a_problem() {
        let plain = RedisNode::endpoint("h").unwrap();
        for (info, severity) in [
            (format!("{ON} aof_last_write_status:err"), Some(Problem)),
            (format!("{OFF} rdb_last_bgsave_status:err"), Some(Problem)),
            (format!("{ON} aof_last_bgrewrite_status:err"), Some(Warning)),
            // The file is off, so its last status is history.
            (format!("{OFF} aof_last_write_status:err rdb_last_bgsave_status:ok"), None),
        ] {
            let all = found(&plain, Part::Alone, &info, &[]);
            let saving = all.iter().find(|found| found.about == "saving").map(|found| found.severity);
            assert_eq!(saving, severity, "{info}");
        }
    }
}
