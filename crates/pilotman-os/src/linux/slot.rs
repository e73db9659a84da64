//! What is kept for one name and primitive: its key and what its entries say.

use pilotman_core::{Error, NameRule, Primitive, Result, Target};
use sha2::{Digest, Sha256};

use super::layout::{BUCKETS, MUTEX, PERMIT, READ, WRITE};
use crate::names;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) key: [u64; 2],
    pub(crate) kind: u32,
    /// How many permits there are.
    pub(crate) limit: u32,
    pub(crate) name: Box<str>,
}

/// What is locked under a name: these don't disturb each other.
pub(crate) const DOMAINS: [&str; 3] = ["mutex", "rw", "permit"];

pub(crate) fn domain(kind: u32) -> &'static str {
    match kind {
        READ | WRITE => "rw",
        PERMIT => "permit",
        _ => "mutex",
    }
}

/// What a hold of this kind is called.
pub(crate) fn called(kind: u32) -> &'static str {
    match kind {
        READ => "read",
        WRITE => "write",
        PERMIT => "permit",
        _ => "mutex",
    }
}

impl Slot {
    pub(crate) fn new(rule: NameRule, target: &Target) -> Result<Self> {
        let (kind, limit) = match target.primitive {
            Primitive::Mutex => (MUTEX, 1),
            Primitive::Read => (READ, 0),
            Primitive::Write => (WRITE, 1),
            Primitive::Permit(permits) => (PERMIT, permits.get()),
            Primitive::UpgradeableRead => {
                return Err(Error::unsupported("locks of the operating system have no upgradeable reads"));
            }
        };
        let name = target.name.as_str();
        Ok(Self { key: key(rule, domain(kind), name)?, kind, limit, name: name.into() })
    }

    pub(crate) fn bucket(&self) -> usize {
        bucket(self.key)
    }
}

pub(crate) fn bucket(key: [u64; 2]) -> usize {
    (key[0] % BUCKETS as u64) as usize
}

/// Half of a SHA-256: two of n names have the same key with odds of n² in 2¹²⁹.
pub(crate) fn key(rule: NameRule, domain: &str, name: &str) -> Result<[u64; 2]> {
    let (rule, physical) = match rule {
        NameRule::DotNet => ("dotnet", names::dotnet(name)),
        NameRule::Strict => ("strict", name.to_owned()),
        NameRule::Exact => ("exact", name.to_owned()),
        _ => return Err(Error::unsupported("the os backend does not know this rule for names")),
    };
    let mut hash = Sha256::new();
    for part in [rule, domain] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(physical.as_bytes());
    let digest = hash.finalize();
    let word = |at: usize| digest[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    Ok([word(0), word(8)])
}

/// As people see it.
pub(crate) fn shown(key: [u64; 2]) -> String {
    format!("{:016x}{:016x}", key[0], key[1])
}
