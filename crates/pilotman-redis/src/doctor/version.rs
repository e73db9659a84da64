//! What the server's version can do, against what is used of it.

use pilotman_core::backend::Finding;

use super::Look;
use super::told::Told;

/// The oldest that has all commands that a lock takes.
const OLDEST: (u32, u32) = (6, 2);
/// Sharded channels, by which waiters in a cluster are told.
const CLUSTER: (u32, u32) = (7, 0);
/// `WAITAOF`.
pub(super) const ON_DISK: (u32, u32) = (7, 2);

/// Product and version, for people.
pub(super) fn shown(told: &Told) -> Option<String> {
    match told.info("valkey_version") {
        Some(version) => Some(format!("Valkey {version}")),
        None => told.info("redis_version").map(|version| format!("Redis {version}")),
    }
}

/// The version of Redis, or the one that another product is like.
pub(super) fn number(told: &Told) -> Option<(u32, u32)> {
    let mut parts = told.info("redis_version")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn look(look: Look<'_>, told: &Told) -> Option<Finding> {
    let (number, shown) = (number(told)?, shown(told)?);
    let needs = [
        (true, OLDEST, "locks"),
        (look.spec.is_clustered(), CLUSTER, "sharded channels, by which waiters in a cluster are told"),
        (look.on_disk(), ON_DISK, "WAITAOF, by which wait_on_disk waits"),
    ];
    let missing: Vec<String> = needs
        .iter()
        .filter(|(used, needed, _)| *used && number < *needed)
        .map(|(_, (major, minor), what)| format!("{major}.{minor} for {what}"))
        .collect();
    Some(match missing.is_empty() {
        true => Finding::fine("version", format!("{shown} has everything that is used of it")),
        false => Finding::problem("version", format!("{shown} is too old: it takes {}", missing.join(", and ")))
            .advice("install a newer one, or don't use what it lacks"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pilotman_core::backend::Severity;

    use super::*;
    use crate::doctor::Part;
    use crate::options::RedisNode;

    #[test]
    fn a_version_must_have_what_is_used() {
        let plain = RedisNode::endpoint("h").unwrap();
        let on_disk = plain.clone().wait_on_disk(0, Duration::from_secs(1));
        let cluster = RedisNode::cluster(["h"]).unwrap();
        for (spec, version, too_old) in [
            (&plain, "6.0.16", true),
            (&plain, "6.2.0", false),
            (&on_disk, "7.0.15", true),
            (&on_disk, "7.2.4", false),
            (&on_disk, "10.0.0", false),
            (&cluster, "6.2.7", true),
            (&cluster, "7.0.0", false),
        ] {
            let told = Told::of(&format!("redis_version:{version}"), &[]);
            let finding = look(Look { spec, part: Part::Alone }, &told).unwrap();
            let expected = if too_old { Severity::Problem } else { Severity::Fine };
            assert_eq!(finding.severity, expected, "{finding}");
            assert!(finding.what.contains(version), "{finding}");
        }
        let valkey = Told::of("redis_version:7.2.4 valkey_version:8.1.1", &[]);
        assert_eq!((shown(&valkey).as_deref(), number(&valkey)), (Some("Valkey 8.1.1"), Some((7, 2))));
        for odd in ["redis_version:x", "redis_version:7", "a:b"] {
            assert_eq!(number(&Told::of(odd, &[])), None);
        }
    }
}
