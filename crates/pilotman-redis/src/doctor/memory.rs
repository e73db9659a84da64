//! Whether locks can be evicted, or refused for want of memory.

use pilotman_core::backend::Finding;

use super::told::Told;

/// From this part of the memory on it is worth a warning.
const NEARLY_FULL: u64 = 90;

pub(super) fn look(told: &Told) -> Vec<Finding> {
    let (Some(limit), Some(policy)) = (told.number("maxmemory"), told.info("maxmemory_policy")) else {
        return Vec::new();
    };
    let mut findings = vec![eviction(limit, policy)];
    let uncounted = told.number("mem_not_counted_for_evict").unwrap_or(0);
    if limit > 0
        && let Some(used) = told.number("used_memory")
    {
        findings.extend(room(limit, used.saturating_sub(uncounted)));
    }
    findings
}

fn eviction(limit: u64, policy: &str) -> Finding {
    let advice = "CONFIG SET maxmemory-policy noeviction, or give locks a server of their own";
    match (policy, limit) {
        ("noeviction", _) => Finding::fine("eviction", "no lock is evicted: maxmemory-policy is noeviction"),
        (_, 0) => Finding::note(
            "eviction",
            format!("maxmemory-policy is {policy}: as soon as a maxmemory is set, locks can be evicted"),
        )
        .advice(advice),
        _ => {
            let which = if policy.starts_with("volatile") { " (they are volatile)" } else { "" };
            Finding::problem(
                "eviction",
                format!(
                    "maxmemory-policy is {policy}: when {} are used, locks are evicted{which}, and others \
                     can have them, too",
                    size(limit)
                ),
            )
            .advice(advice)
        }
    }
}

fn room(limit: u64, used: u64) -> Option<Finding> {
    let percent = u128::from(used) * 100 / u128::from(limit);
    let what = format!("{} of the {} of maxmemory are used", size(used), size(limit));
    let advice = "raise maxmemory, or give locks a server of their own";
    match percent {
        100.. => Some(Finding::problem("memory", format!("{what}: locks are refused (OOM)")).advice(advice)),
        percent if percent >= u128::from(NEARLY_FULL) => {
            Some(Finding::warning("memory", format!("{what}; beyond that locks are refused (OOM)")).advice(advice))
        }
        _ => Some(Finding::fine("memory", what)),
    }
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 10 * 1024 && unit + 1 < units.len() {
        (value, unit) = (value / 1024, unit + 1);
    }
    format!("{value} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use pilotman_core::backend::Severity::{self, Fine, Note, Problem, Warning};

    use super::*;

    fn severities(info: &str) -> Vec<(&'static str, Severity)> {
        look(&Told::of(info, &[])).iter().map(|found| (found.about, found.severity)).collect()
    }

    #[test]
    fn only_noeviction_keeps_locks() {
        for policy in ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"] {
            let info = format!("maxmemory:1000 used_memory:1 maxmemory_policy:{policy}");
            assert_eq!(severities(&info), [("eviction", Problem), ("memory", Fine)], "{policy}");
            let unlimited = format!("maxmemory:0 used_memory:1 maxmemory_policy:{policy}");
            assert_eq!(severities(&unlimited), [("eviction", Note)], "{policy}");
        }
        assert_eq!(severities("maxmemory:0 maxmemory_policy:noeviction used_memory:9"), [("eviction", Fine)]);
        assert_eq!(severities("used_memory:9"), []);
    }

    #[test]
    fn a_full_memory_is_told_before_it_is_full() {
        for (used, severity) in [(899, Fine), (900, Warning), (999, Warning), (1000, Problem), (5000, Problem)] {
            let info = format!("maxmemory:1000 maxmemory_policy:noeviction used_memory:{used}");
            assert_eq!(severities(&info), [("eviction", Fine), ("memory", severity)], "{used}");
        }
        // What replicas are still to be sent doesn't count.
        let info = "maxmemory:1000 maxmemory_policy:noeviction used_memory:1500 mem_not_counted_for_evict:700";
        assert_eq!(severities(info), [("eviction", Fine), ("memory", Fine)]);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(10), "10 bytes");
        assert_eq!(size(100 * 1024 * 1024), "100 MiB");
        assert_eq!(size(u64::MAX), "16777215 TiB");
    }
}
