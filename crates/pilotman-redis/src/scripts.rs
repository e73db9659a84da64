//! The scripts that run on the server, each one atomic. Their sources are the `.lua` files beside this one; what they
//! share is put before them.

use std::sync::LazyLock;

/// One script and the hash by which a server knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) body: String,
    pub(crate) hash: String,
    /// It can run again when it is not known whether it ran. A second break would break the next holder.
    pub(crate) repeatable: bool,
}

impl Script {
    pub(crate) fn new(name: &'static str, parts: &[&str]) -> Self {
        let body = parts.concat();
        let hash = redis::Script::new(&body).get_hash().to_owned();
        Self { name, body, hash, repeatable: !name.ends_with("_break") }
    }
}

const COMMON: &str = include_str!("scripts/common.lua");
const MUTEX_KEYS: &str = "local LOCK, QUEUE, WAITERS, COUNTER = KEYS[1], KEYS[2], KEYS[3], KEYS[4]\n";
const MUTEX_ADVANCE: &str = include_str!("scripts/mutex_advance.lua");
const SHARED_KEYS: &str =
    "local HOLDERS, QUEUE, WAITERS, COUNTER, DETAILS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]\n";
const SHARED_ADVANCE: &str = include_str!("scripts/shared_advance.lua");

macro_rules! mutex {
    ($($name:ident = $file:literal $(after $fast:literal)?;)*) => {$(
        #[doc = concat!("`", $file, ".lua`.")]
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let fast = concat!($(include_str!(concat!("scripts/", $fast, ".lua")))?);
            let body = include_str!(concat!("scripts/", $file, ".lua"));
            Script::new($file, &[fast, MUTEX_KEYS, COMMON, MUTEX_ADVANCE, body])
        });
    )*};
}

macro_rules! shared {
    ($($name:ident = $file:literal;)*) => {$(
        #[doc = concat!("`", $file, ".lua`.")]
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let body = include_str!(concat!("scripts/", $file, ".lua"));
            Script::new($file, &[SHARED_KEYS, COMMON, SHARED_ADVANCE, body])
        });
    )*};
}

mutex! {
    MUTEX_ACQUIRE = "mutex_acquire" after "mutex_acquire_fast";
    MUTEX_RELEASE = "mutex_release" after "mutex_release_fast";
    MUTEX_MINT = "mutex_mint";
    MUTEX_BREAK = "mutex_break";
    MUTEX_INSPECT = "mutex_inspect";
}

shared! {
    SHARED_ACQUIRE = "shared_acquire";
    SHARED_RELEASE = "shared_release";
    SHARED_MINT = "shared_mint";
    SHARED_BREAK = "shared_break";
    SHARED_INSPECT = "shared_inspect";
}

/// `mutex_renew.lua`: its keys are those of many locks.
pub(crate) static MUTEX_RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new("mutex_renew", &[include_str!("scripts/mutex_renew.lua")]));
/// `shared_renew.lua`: its keys are those of many locks.
pub(crate) static SHARED_RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new("shared_renew", &[include_str!("scripts/shared_renew.lua")]));

/// All of them, to be loaded when a connection is made.
pub(crate) fn all() -> [&'static Script; 12] {
    [
        &MUTEX_ACQUIRE,
        &MUTEX_RELEASE,
        &MUTEX_RENEW,
        &MUTEX_MINT,
        &MUTEX_BREAK,
        &MUTEX_INSPECT,
        &SHARED_ACQUIRE,
        &SHARED_RELEASE,
        &SHARED_RENEW,
        &SHARED_MINT,
        &SHARED_BREAK,
        &SHARED_INSPECT,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_a_hash_of_its_own() {
        let hashes: std::collections::HashSet<_> = all().iter().map(|script| &script.hash).collect();
        assert_eq!(hashes.len(), all().len());
        assert!(all().iter().all(|script| script.hash.len() == 40 && !script.name.is_empty()));
    }
}
