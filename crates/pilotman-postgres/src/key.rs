//! The numbers that PostgreSQL knows advisory locks by, and how names become such numbers.

use std::fmt;
use std::str::FromStr;

use pilotman_core::{Error, Primitive, Result, Target};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The number of an advisory lock.
///
/// PostgreSQL has two spaces of them, which don't touch: one number of 64 bits, and two of 32 bits. It is written as 16
/// hexadecimal digits, or as twice 8 with a comma between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostgresKey {
    /// One number of 64 bits.
    Big(i64),
    /// Two numbers of 32 bits.
    Pair(i32, i32),
}

/// As long an ASCII name is a key as it is, in the .NET library.
const ASCII_CHARS: usize = 9;
/// The bits of a semaphore's key that count its permits: semaphores with fewer don't touch each other.
const PERMIT_BITS: u32 = 12;

impl PostgresKey {
    /// The key that the .NET library gives a name: see the [page](crate#names-and-keys).
    pub fn of_name(name: &str) -> Self {
        Self::of_ascii(name).or_else(|| Self::of_hex(name)).unwrap_or_else(|| {
            let hash = Sha1::digest(name.as_bytes());
            let mut first = [0; 8];
            first.copy_from_slice(&hash[..8]);
            Self::Big(i64::from_le_bytes(first))
        })
    }

    /// A short ASCII name: 7 bits for each character, then a 0, then 1s to the end of the 64 bits.
    fn of_ascii(name: &str) -> Option<Self> {
        if name.len() > ASCII_CHARS || !name.is_ascii() {
            return None;
        }
        let packed = name.bytes().fold(0u64, |packed, byte| packed << 7 | u64::from(byte));
        let rest = 64 - 7 * name.len() as u32;
        let packed = packed.checked_shl(rest).unwrap_or(0) | (u64::MAX >> (64 - rest) >> 1);
        Some(Self::pair(packed))
    }

    fn of_hex(name: &str) -> Option<Self> {
        let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name.split_once(',') {
            None if is_hex(name, 16) => u64::from_str_radix(name, 16).ok().map(|key| Self::Big(key.cast_signed())),
            Some((first, second)) if is_hex(first, 8) && is_hex(second, 8) => {
                let number = |text| u32::from_str_radix(text, 16).ok().map(u32::cast_signed);
                Some(Self::Pair(number(first)?, number(second)?))
            }
            _ => None,
        }
    }

    fn pair(packed: u64) -> Self {
        Self::Pair(((packed >> 32) as u32).cast_signed(), (packed as u32).cast_signed())
    }

    /// A key of our own, which stands for nothing in the .NET library.
    fn hashed(kind: &str, name: &str) -> u64 {
        let mut hash = Sha256::new();
        hash.update(b"pilotman\0");
        hash.update(kind.as_bytes());
        hash.update(b"\0");
        hash.update(name.as_bytes());
        let hash = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_be_bytes(first)
    }

    /// The key of a target. A semaphore's is that of its gate; its permits follow.
    pub(crate) fn of_target(target: &Target, strict: bool) -> Self {
        let name = target.name.as_str();
        let hashed = |kind| Self::Big(Self::hashed(kind, name).cast_signed());
        match target.primitive {
            Primitive::Mutex if strict => hashed("mutex"),
            Primitive::Mutex => Self::of_name(name),
            Primitive::Read | Primitive::UpgradeableRead | Primitive::Write => hashed("rw"),
            Primitive::Permit(_) => {
                Self::Big((Self::hashed("semaphore", name) >> PERMIT_BITS << PERMIT_BITS).cast_signed())
            }
        }
    }

    /// The key of a permit of the semaphore with this gate.
    pub(crate) fn permit(self, number: u32) -> Self {
        match self {
            Self::Big(gate) => Self::Big(gate.wrapping_add(1 + i64::from(number))),
            Self::Pair(..) => self,
        }
    }

    /// As PostgreSQL's functions take it: `K`, or `A,B`.
    pub fn decimal(self) -> String {
        match self {
            Self::Big(key) => key.to_string(),
            Self::Pair(first, second) => format!("{first},{second}"),
        }
    }

    /// The short ASCII name that this is the key of, if it is one's.
    pub(crate) fn short_name(self) -> Option<String> {
        let Self::Pair(first, second) = self else { return None };
        let packed = u64::from(first.cast_unsigned()) << 32 | u64::from(second.cast_unsigned());
        let length = (63 - packed.trailing_ones()) / 7;
        let name: String = (0..length).map(|at| char::from((packed >> (64 - 7 * (at + 1)) & 0x7F) as u8)).collect();
        (!name.is_empty() && Self::of_name(&name) == self).then_some(name)
    }

    /// As it is written in SQL, as arguments of a function.
    pub(crate) fn arguments(self) -> String {
        match self {
            Self::Big(key) => format!("'{key}'::int8"),
            Self::Pair(first, second) => format!("'{first}'::int4,'{second}'::int4"),
        }
    }

    /// The condition by which its rows in `pg_locks` are found, of `count` keys from this one on.
    pub(crate) fn rows(self, count: u32) -> String {
        let here = "locktype='advisory' and database=(select oid from pg_catalog.pg_database \
                    where datname=pg_catalog.current_database())";
        match self {
            Self::Big(first) => {
                let key = "(classid::int8<<32|objid::int8)";
                let last = first.wrapping_add(i64::from(count) - 1);
                let within = match first <= last {
                    true => format!("{key} between '{first}'::int8 and '{last}'::int8"),
                    false => format!("({key}>='{first}'::int8 or {key}<='{last}'::int8)"),
                };
                format!("{here} and objsubid=1 and {within}")
            }
            Self::Pair(first, second) => {
                let (first, second) = (first.cast_unsigned(), second.cast_unsigned());
                format!("{here} and objsubid=2 and classid::int8={first} and objid::int8={second}")
            }
        }
    }
}

impl fmt::Display for PostgresKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Big(key) => write!(f, "{key:016x}"),
            Self::Pair(first, second) => write!(f, "{first:08x},{second:08x}"),
        }
    }
}

impl FromStr for PostgresKey {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self> {
        Self::of_hex(text).ok_or_else(|| {
            Error::misconfigured("this is no key of an advisory lock")
                .with_advice("write 16 hexadecimal digits, or twice 8 with a comma between")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vector of the .NET library's own test `TestNameHashing`.
    #[test]
    fn dotnet_name_hashing() {
        assert_eq!(PostgresKey::of_name(&"\u{6f22}".repeat(18)), PostgresKey::Big(-5_707_277_204_051_710_361));
    }

    #[test]
    fn dotnet_ascii_names_are_packed() {
        let packed = |name: &str| match PostgresKey::of_name(name) {
            PostgresKey::Pair(first, second) => {
                u64::from(first.cast_unsigned()) << 32 | u64::from(second.cast_unsigned())
            }
            key => panic!("{name}: {key}"),
        };
        assert_eq!(packed(""), u64::MAX >> 1, "a 0, then 1s");
        assert_eq!(packed("a"), u64::from(b'a') << 57 | (u64::MAX >> 8));
        // Nine characters are 63 bits; the last one is the 0.
        let nine = "abcdefghi".bytes().fold(0u64, |packed, byte| packed << 7 | u64::from(byte)) << 1;
        assert_eq!(packed("abcdefghi"), nine);
        assert!(matches!(PostgresKey::of_name("abcdefghij"), PostgresKey::Big(_)));
        assert!(matches!(PostgresKey::of_name("ä"), PostgresKey::Big(_)));
    }

    #[test]
    fn dotnet_numbers_are_keys_as_they_are() {
        assert_eq!(PostgresKey::of_name("00000000000000ff"), PostgresKey::Big(255));
        assert_eq!(PostgresKey::of_name("ffffffffffffffff"), PostgresKey::Big(-1));
        assert_eq!(PostgresKey::of_name("00000001,ffffffff"), PostgresKey::Pair(1, -1));
        assert!("00000001".parse::<PostgresKey>().is_err());
    }

    #[test]
    fn kinds_of_one_name_do_not_meet() {
        let key = |primitive| {
            let name = pilotman_core::Name::new("n").unwrap();
            PostgresKey::of_target(&Target { name, primitive }, true)
        };
        let permit = key(Primitive::Permit(std::num::NonZeroU32::MIN));
        assert_ne!(key(Primitive::Mutex), key(Primitive::Read));
        assert_eq!(key(Primitive::Write), key(Primitive::Read));
        assert_ne!(permit, key(Primitive::Read));
        assert_ne!(permit, permit.permit(0));
        let last = permit.permit(4094);
        assert!(matches!((permit, last), (PostgresKey::Big(gate), PostgresKey::Big(last)) if last - gate == 4095));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(big: i64, first: i32, second: i32) {
            for key in [PostgresKey::Big(big), PostgresKey::Pair(first, second)] {
                prop_assert_eq!(key.to_string().parse::<PostgresKey>().unwrap(), key);
                // It is also the name by which .NET means the same key.
                prop_assert_eq!(PostgresKey::of_name(&key.to_string()), key);
                let _ = key.short_name();
            }
        }

        #[test]
        fn short_names_have_keys_of_their_own(one in "[ -~]{0,9}", other in "[ -~]{0,9}") {
            prop_assert_eq!(PostgresKey::of_name(&one) == PostgresKey::of_name(&other), one == other);
            prop_assert_eq!(PostgresKey::of_name(&one).short_name(), Some(one).filter(|one| !one.is_empty()));
        }

        #[test]
        fn any_name_has_a_key(name in any::<String>()) {
            let _ = PostgresKey::of_name(&name);
        }
    }
}
