//! What the nodes of a lock are called.

use pilotman_core::Primitive;
use pilotman_core::backend::AttemptId;

use crate::sequence;

/// How the nodes of locks are laid out: with which other library's holders ours exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Layout {
    /// As the .NET library DistributedLock does: `lock-`, `read-`, `write-`, `semaphore-`.
    #[default]
    DotNet,
    /// As the recipes of Apache Curator do: `InterProcessMutex`, `InterProcessReadWriteLock`. There are no semaphores.
    Curator,
}

/// What a node stands for, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Mutex,
    Read,
    Write,
    Permit,
}

impl Kind {
    /// The kind of what is asked for; `None` for one that ZooKeeper has not.
    pub(crate) fn of(primitive: Primitive) -> Option<Self> {
        match primitive {
            Primitive::Mutex => Some(Self::Mutex),
            Primitive::Read => Some(Self::Read),
            Primitive::Write => Some(Self::Write),
            Primitive::Permit(_) => Some(Self::Permit),
            Primitive::UpgradeableRead => None,
        }
    }

    /// Whether nodes of these kinds stand in one queue.
    pub(crate) fn is_in_one_queue_with(self, other: Self) -> bool {
        let side = |kind| matches!(kind, Self::Read | Self::Write);
        self == other || side(self) && side(other)
    }

    /// The stable name of the primitive.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Read => "read",
            Self::Write => "write",
            Self::Permit => "permit",
        }
    }
}

/// All of them.
const KINDS: [Kind; 4] = [Kind::Mutex, Kind::Read, Kind::Write, Kind::Permit];

impl Layout {
    /// Whether the name of a node has the id of its attempt in it; otherwise its data has.
    pub(crate) fn names_attempts(self) -> bool {
        self == Self::Curator
    }

    /// What stands before the number.
    fn mark(self, kind: Kind) -> Option<&'static str> {
        Some(match (self, kind) {
            (Self::DotNet, Kind::Mutex) => "lock-",
            (Self::DotNet, Kind::Read) => "read-",
            (Self::DotNet, Kind::Write) => "write-",
            (Self::DotNet, Kind::Permit) => "semaphore-",
            (Self::Curator, Kind::Mutex) => "lock-",
            (Self::Curator, Kind::Read) => "__READ__",
            (Self::Curator, Kind::Write) => "__WRIT__",
            (Self::Curator, Kind::Permit) => return None,
        })
    }

    /// The name of a new node, but for the number that the server puts behind it.
    pub(crate) fn new_name(self, kind: Kind, id: AttemptId) -> Option<String> {
        let mark = self.mark(kind)?;
        Some(match self {
            Self::DotNet => mark.to_owned(),
            Self::Curator => format!("{}{mark}", protection(id)),
        })
    }

    /// The kind and the number of a node; `None`: it is no lock's.
    pub(crate) fn parse(self, name: &str) -> Option<(Kind, i32)> {
        KINDS.into_iter().find_map(|kind| {
            let mark = self.mark(kind)?;
            let digits = match self {
                Self::DotNet => name.strip_prefix(mark)?,
                Self::Curator => name.rsplit_once(mark)?.1,
            };
            Some((kind, sequence::number(digits)?))
        })
    }
}

/// What Curator calls the protection of a node: by it a client finds its node again.
pub(crate) fn protection(id: AttemptId) -> String {
    let hex = format!("{:032x}", id.0);
    format!("_c_{}-{}-{}-{}-{}-", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_and_read_again() {
        let id = AttemptId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        for (layout, kind, made) in [
            (Layout::DotNet, Kind::Mutex, "lock-"),
            (Layout::DotNet, Kind::Permit, "semaphore-"),
            (Layout::Curator, Kind::Mutex, "_c_01234567-89ab-cdef-0123-456789abcdef-lock-"),
            (Layout::Curator, Kind::Read, "_c_01234567-89ab-cdef-0123-456789abcdef-__READ__"),
            (Layout::Curator, Kind::Write, "_c_01234567-89ab-cdef-0123-456789abcdef-__WRIT__"),
        ] {
            let name = layout.new_name(kind, id).unwrap();
            assert_eq!(name, made);
            assert_eq!(layout.parse(&format!("{name}0000000007")), Some((kind, 7)));
            assert_eq!(layout.parse(&format!("{name}-2147483648")), Some((kind, i32::MIN)));
            assert_eq!(layout.parse(&name), None);
            assert_eq!(layout.parse(&format!("{name}7")), None);
        }
        assert_eq!(Layout::Curator.new_name(Kind::Permit, id), None);
        for other in ["leases", "locks", "x0000000001", "ba0000000002", "xlock-0000000001", ""] {
            assert_eq!(Layout::DotNet.parse(other), None, "{other}");
        }
        assert_eq!(Layout::Curator.parse("leases"), None);
    }

    #[test]
    fn readers_and_writers_stand_in_one_queue() {
        assert!(Kind::Read.is_in_one_queue_with(Kind::Write));
        assert!(!Kind::Read.is_in_one_queue_with(Kind::Mutex));
        assert!(!Kind::Mutex.is_in_one_queue_with(Kind::Permit));
    }
}
