//! The scripts that run on each node, each one atomic there. Their sources are in `scripts/quorum/`.

use std::sync::LazyLock;

use crate::scripts::{MUTEX_RENEW, SHARED_RENEW, Script};

/// The scripts of one family of locks.
pub(super) struct Family {
    pub(super) acquire: Script,
    pub(super) release: Script,
    /// The one that a single node has, too.
    pub(super) renew: &'static LazyLock<Script>,
    pub(super) fill: Script,
    pub(super) raise: Script,
    pub(super) mint: Script,
    pub(super) inspect: Script,
    pub(super) break_all: Script,
}

const KEYS: &str =
    "local LOCK, QUEUE, WAITERS, COUNTER, META, DETAILS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]\n";
/// What is told to scripts that look at the set of nodes, and to the others.
const WITH_SET: &str = "local SET, P = ARGV[1], ARGV[2]\n";
const WITHOUT: &str = "local P = ARGV[1]\n";
const COMMON: &str = include_str!("../scripts/quorum/common.lua");
const MEMBER: &str = include_str!("../scripts/quorum/member.lua");
const MUTEX_HOLDS: &str = include_str!("../scripts/quorum/mutex.lua");
const SHARED_HOLDS: &str = include_str!("../scripts/quorum/shared.lua");

/// Mutexes: a string, as other libraries have it.
pub(super) static MUTEX: LazyLock<Family> = LazyLock::new(|| {
    let fast = include_str!("../scripts/quorum/acquire_fast.lua");
    family(MUTEX_HOLDS, fast, &MUTEX_RENEW)
});
/// Reader-writer locks and semaphores: holders in a sorted set.
pub(super) static SHARED: LazyLock<Family> = LazyLock::new(|| family(SHARED_HOLDS, "", &SHARED_RENEW));
/// `meta.lua`.
pub(super) static META: LazyLock<Script> =
    LazyLock::new(|| Script::new("quorum_meta", &[include_str!("../scripts/quorum/meta.lua")]));

fn family(holds: &str, fast: &str, renew: &'static LazyLock<Script>) -> Family {
    let plain = |name, body| Script::new(name, &[KEYS, WITHOUT, holds, COMMON, body]);
    let member = |name, fast, body| Script::new(name, &[fast, KEYS, WITH_SET, holds, COMMON, MEMBER, body]);
    Family {
        acquire: once(member("quorum_acquire", fast, include_str!("../scripts/quorum/acquire.lua"))),
        release: plain("quorum_release", include_str!("../scripts/quorum/release.lua")),
        renew,
        fill: once(member("quorum_fill", "", include_str!("../scripts/quorum/fill.lua"))),
        raise: plain("quorum_raise", include_str!("../scripts/quorum/raise.lua")),
        mint: plain("quorum_mint", include_str!("../scripts/quorum/mint.lua")),
        inspect: plain("quorum_inspect", include_str!("../scripts/quorum/inspect.lua")),
        break_all: plain("quorum_break", include_str!("../scripts/quorum/break.lua")),
    }
}

/// What takes a lock is not repeated behind the asker's back: it could come after the release.
fn once(script: Script) -> Script {
    Script { repeatable: false, ..script }
}

/// All of them, to be loaded when a connection is made.
pub(super) fn all() -> Vec<&'static Script> {
    let (mutex, shared): (&'static Family, &'static Family) = (&MUTEX, &SHARED);
    let mut all: Vec<&'static Script> = vec![&META];
    for family in [mutex, shared] {
        all.extend([&family.acquire, &family.release, &**family.renew, &family.fill]);
        all.extend([&family.raise, &family.mint, &family.inspect, &family.break_all]);
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_script_has_a_hash_of_its_own() {
        let hashes: std::collections::HashSet<_> = super::all().iter().map(|script| &script.hash).collect();
        assert_eq!(hashes.len(), super::all().len());
    }
}
