//! How names become resources of the server.

use std::fmt::Write;
use std::sync::Arc;

use pilotman_core::{Error, NameRule, Primitive, Result, Target};
use sha2::{Digest, Sha256, Sha512};

/// The longest resource that the server takes, in UTF-16 units.
const LONGEST: usize = 255;
/// What a hash of the .NET library has of those.
const DOTNET_HASH: usize = 88;
/// What a semaphore of the .NET library shows of its name.
const DOTNET_READABLE: usize = 12;
/// So much of a resource is shown by the server's own views, which is all of one of ours.
pub(crate) const SHOWN: usize = 32;
/// A permit's number has this many digits at most.
const DIGITS: usize = 10;

/// What a target is at the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// The resource; of a semaphore, what those of its permits begin with.
    pub(crate) name: Arc<str>,
    /// Where those who want a permit stand in line.
    pub(crate) gate: Option<Arc<str>>,
}

/// How targets become resources.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    pub(crate) rule: NameRule,
    pub(crate) prefix: String,
    /// Reader-writer locks are where the .NET library has them: where its mutexes are.
    pub(crate) dotnet_rw: bool,
}

impl Naming {
    /// The resource of a target.
    pub(crate) fn resource(&self, target: &Target) -> Result<Resource> {
        let name = format!("{}{}", self.prefix, target.name.as_str());
        let plain = |name: String| Resource { name: name.into(), gate: None };
        Ok(match target.primitive {
            Primitive::Mutex => plain(resource_name(&name, self.rule)?),
            Primitive::Read | Primitive::UpgradeableRead | Primitive::Write => match self.dotnet_rw {
                true => plain(resource_name(&name, self.rule)?),
                false => plain(hashed('r', &name, SHOWN)),
            },
            Primitive::Permit(_) => match self.rule {
                NameRule::DotNet => {
                    let base = dotnet_semaphore(&name);
                    let gate = format!("busyWait_{base}").into();
                    Resource { name: base.into(), gate: Some(gate) }
                }
                _ => Resource {
                    name: hashed('s', &name, SHOWN - DIGITS).into(),
                    gate: Some(hashed('g', &name, SHOWN).into()),
                },
            },
        })
    }
}

impl Resource {
    /// The resource of a permit.
    pub(crate) fn permit(&self, number: i64) -> String {
        format!("{}{number}", self.name)
    }
}

/// The resource of `sp_getapplock` that a mutex of this name has, for those who lock in a connection of their own.
///
/// # Errors
///
/// `InvalidName` if the rule is [`NameRule::Exact`] and the name is no resource.
pub fn resource_name(name: &str, rule: NameRule) -> Result<String> {
    match rule {
        NameRule::Strict => Ok(hashed('m', name, SHOWN)),
        NameRule::Exact => exact(name),
        _ => Ok(dotnet(name)),
    }
}

/// As the .NET library does: only what is too long is changed.
fn dotnet(name: &str) -> String {
    if units(name) <= LONGEST {
        return name.to_owned();
    }
    // Cut by UTF-16 units, as there: a half of a pair is sent as a replacement character.
    let start: Vec<u16> = name.encode_utf16().take(LONGEST - DOTNET_HASH).collect();
    String::from_utf16_lossy(&start) + &base64(&Sha512::digest(name.as_bytes()))
}

/// As the .NET library names semaphores: the beginning, escaped; a hash; a word.
fn dotnet_semaphore(name: &str) -> String {
    let mut text = String::new();
    for unit in name.encode_utf16() {
        if text.len() >= DOTNET_READABLE {
            break;
        }
        match char::from_u32(u32::from(unit)) {
            Some(c) if c.is_ascii_alphanumeric() => text.push(c),
            _ => write!(text, "{unit:x}").unwrap_or_default(),
        }
    }
    text.truncate(DOTNET_READABLE);
    for byte in Sha256::digest(name.as_bytes()) {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text + "semaphore"
}

/// A name of our own, all of which the server's views show: what kind it is, and a hash.
fn hashed(kind: char, name: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = Sha256::new();
    hash.update(b"pilotman\0");
    hash.update([kind as u8, 0]);
    hash.update(name.as_bytes());
    let digest = hash.finalize();
    let bit = |at: usize| digest.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let sign = |at: usize| char::from(ALPHABET[(0..5).fold(0, |value, offset| value << 1 | bit(at * 5 + offset))]);
    std::iter::once(kind).chain((0..length - 1).map(sign)).collect()
}

/// The name itself, if the server takes it.
fn exact(name: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid_name(format!("with names=exact a name {why}"))
            .with_advice("choose another name, or let it be mapped (names=dotnet or names=strict)")
    };
    match units(name) {
        0 => Err(bad("can't be empty")),
        1..=LONGEST => Ok(name.to_owned()),
        units => Err(bad(&format!("has at most {LONGEST} characters (UTF-16), not {units}"))),
    }
}

fn units(name: &str) -> usize {
    name.encode_utf16().count()
}

/// In base 64, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let at = |index: usize| u32::from(part.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            match index <= part.len() {
                true => text.push(char::from(ALPHABET[(group >> (18 - 6 * index) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use pilotman_core::Name;
    use proptest::prelude::*;

    use super::*;

    fn naming(rule: NameRule) -> Naming {
        Naming { rule, prefix: String::new(), dotnet_rw: false }
    }

    fn target(name: &str, primitive: Primitive) -> Target {
        Target { name: Name::new(name).unwrap(), primitive }
    }

    fn permit() -> Primitive {
        Primitive::Permit(NonZeroU32::new(3).unwrap())
    }

    #[test]
    fn names_are_those_of_the_dotnet_library() {
        for name in ["abc", "ABC", "\\", "é", &"x".repeat(255), &"🚂".repeat(127)] {
            assert_eq!(dotnet(name), name);
        }
        let long = dotnet(&"a".repeat(256));
        assert_eq!(units(&long), 255);
        assert!(long.starts_with(&"a".repeat(167)) && long.ends_with("=="), "{long}");
    }

    #[test]
    fn semaphores_are_those_of_the_dotnet_library() {
        for (name, expected) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855semaphore"),
            ("a_simple_name", "a5fsimple5fn5becacaa1afce7173bf71d20caf31364c2b10c21f7490c942fdc45467aba2d2asemaphore"),
            ("a", "aca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bbsemaphore"),
            ("A", "A559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffdsemaphore"),
            ("!?#", "213f231be5b6313c68d3c674c3b17246eaaa3222fe5bc23d9173ac6f58319c6004d6bfsemaphore"),
        ] {
            assert_eq!(dotnet_semaphore(name), expected);
        }
        assert_eq!(dotnet_semaphore(&"x".repeat(1000)).len(), 85);
    }

    #[test]
    fn base_64_is_padded() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn a_pair_that_is_cut_leaves_a_replacement() {
        let name = format!("{}🚂{}", "a".repeat(166), "b".repeat(200));
        assert!(dotnet(&name).starts_with(&format!("{}\u{fffd}", "a".repeat(166))));
    }

    #[test]
    fn exact_names_are_taken_or_refused() {
        let long = "x".repeat(256);
        assert_eq!(exact("a b/Ü").unwrap(), "a b/Ü");
        assert_eq!(exact(&long[1..]).unwrap(), long[1..]);
        for bad in ["", &long, &"🚂".repeat(128)] {
            assert_eq!(exact(bad).unwrap_err().kind(), pilotman_core::ErrorKind::InvalidName);
        }
    }

    #[test]
    fn kinds_of_one_name_have_different_resources() {
        for rule in [NameRule::DotNet, NameRule::Strict, NameRule::Exact] {
            let of = |primitive| naming(rule).resource(&target("x", primitive)).unwrap();
            let (mutex, rw, semaphore) = (of(Primitive::Mutex), of(Primitive::Read), of(permit()));
            assert_eq!(rw, of(Primitive::Write));
            assert_eq!(rw, of(Primitive::UpgradeableRead));
            assert_ne!(mutex.name, rw.name);
            let names = [Some(semaphore.name.clone()), semaphore.gate];
            assert!(!names.contains(&Some(mutex.name)) && !names.contains(&Some(rw.name)));
        }
        let dotnet = Naming { dotnet_rw: true, ..naming(NameRule::DotNet) };
        assert_eq!(&*dotnet.resource(&target("x", Primitive::Read)).unwrap().name, "x");
    }

    proptest! {
        #[test]
        fn every_name_fits(name in "\\PC{1,300}") {
            for rule in [NameRule::DotNet, NameRule::Strict] {
                for primitive in [Primitive::Mutex, Primitive::Write, permit()] {
                    let resource = naming(rule).resource(&target(&name, primitive)).unwrap();
                    let longest = match primitive {
                        Primitive::Permit(_) => resource.permit(i64::from(u32::MAX - 1)),
                        _ => resource.name.to_string(),
                    };
                    prop_assert!((1..=LONGEST).contains(&units(&longest)), "{longest}");
                    prop_assert!(resource.gate.is_none_or(|gate| units(&gate) <= LONGEST));
                    prop_assert!(rule == NameRule::DotNet || !matches!(primitive, Primitive::Permit(_)) || longest.len() <= SHOWN);
                }
            }
        }

        #[test]
        fn strict_names_differ(one in "\\PC{1,80}", other in "\\PC{1,80}") {
            let of = |name: &str| resource_name(name, NameRule::Strict).unwrap();
            prop_assert_eq!(one == other, of(&one) == of(&other));
        }
    }
}
