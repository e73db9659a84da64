//! How names become names of `DBMS_LOCK`.

use std::fmt;
use std::sync::Arc;

use pilotman_core::{Error, NameRule, Primitive, Result};
use sha2::{Digest, Sha256, Sha512};

use crate::options::Oracle;

/// The longest name: so many UTF-16 units in the .NET library, and so many bytes at the server.
const LONGEST: usize = 128;
/// What a hash of the .NET library has of those: SHA-512 in base 64.
const DOTNET_HASH: usize = 88;
/// What a strict name shows of the original.
const READABLE: usize = 40;
/// Names that begin so are Oracle's own.
const RESERVED: &str = "ORA$";

/// The name of a lock as the database knows it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LockName(Arc<str>);

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LockName {
    /// The name of `name`, as it is used with these options.
    pub(crate) fn new(name: &str, primitive: Primitive, oracle: &Oracle) -> Result<Self> {
        let prefixed = format!("{}{name}", oracle.prefix);
        let is_mutex = primitive == Primitive::Mutex;
        let physical = match oracle.names {
            NameRule::Exact => exact(&prefixed)?,
            NameRule::Strict if is_mutex => strict(&prefixed, ""),
            NameRule::Strict => strict(&prefixed, ".rw"),
            _ if is_mutex || oracle.dotnet_rw => dotnet(&prefixed),
            _ => strict(&prefixed, ".rw"),
        };
        Ok(Self(physical.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// As the .NET library does, where the server takes it. It refuses names of more than 128 bytes, which .NET lets through if they have
/// fewer signs; nobody there has such a lock.
fn dotnet(name: &str) -> String {
    let mapped = match name.encode_utf16().count() <= LONGEST {
        true => name.to_owned(),
        false => {
            // Cut by UTF-16 units, as there: a half of a pair is sent as a replacement character.
            let start: Vec<u16> = name.encode_utf16().take(LONGEST - DOTNET_HASH).collect();
            String::from_utf16_lossy(&start) + &base64(&Sha512::digest(name.as_bytes()))
        }
    };
    match mapped.len() <= LONGEST {
        true => mapped,
        false => strict(name, ""),
    }
}

/// Beginning and hash of the whole name, in ASCII: whatever the character set of the database, nothing is lost.
fn strict(name: &str, kind: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let readable: String = name.chars().take(READABLE).map(plain).collect();
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{readable}{kind}.{hex}")
}

/// The name itself, if the server takes it.
fn exact(name: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid_name(format!("with names=exact a name {why}"))
            .with_advice("choose another name, or let it be mapped (names=dotnet or names=strict)")
    };
    if name.is_empty() {
        return Err(bad("can't be empty"));
    }
    if name.len() > LONGEST {
        return Err(bad("has at most 128 bytes"));
    }
    if name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) {
        return Err(bad("can't begin with ORA$, which Oracle keeps for itself"));
    }
    Ok(name.to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let group = part.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..4 {
            let sign = char::from(ALPHABET[(group >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= part.len() { sign } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mapped(name: &str, rule: NameRule, primitive: Primitive) -> String {
        let oracle = Oracle::new("h/S").unwrap().names(rule);
        LockName::new(name, primitive, &oracle).unwrap().as_str().to_owned()
    }

    fn mutex(name: &str, rule: NameRule) -> String {
        mapped(name, rule, Primitive::Mutex)
    }

    #[test]
    fn base_64_is_that_of_everybody() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn names_are_those_of_the_dotnet_library() {
        // The rule: unchanged up to 128 UTF-16 units, otherwise 40 of them and SHA-512 in base 64.
        for name in ["abc", "ABC", "\\", "a b", &"a".repeat(128), &"\\".repeat(128)] {
            assert_eq!(mutex(name, NameRule::DotNet), name);
        }
        let long = "x".repeat(129);
        let expected = "x".repeat(40) + &base64(&Sha512::digest(long.as_bytes()));
        assert_eq!(mutex(&long, NameRule::DotNet), expected);
        assert_eq!(expected.len(), 128);
        assert!(expected.ends_with("=="));
        // The hash of nothing, as everybody has it.
        assert!(
            base64(&Sha512::digest(b""))
                .starts_with("z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwv")
        );
    }

    #[test]
    fn what_the_server_would_refuse_is_hashed() {
        let name = "é".repeat(100);
        let physical = mutex(&name, NameRule::DotNet);
        assert!(physical.is_ascii() && physical.len() <= LONGEST, "{physical}");
        assert_eq!(mutex(&"é".repeat(64), NameRule::DotNet), "é".repeat(64));
    }

    #[test]
    fn kinds_of_one_name_are_locks_of_their_own_unless_dotnet_has_them_as_one() {
        let of = |primitive| mapped("x", NameRule::DotNet, primitive);
        assert_ne!(of(Primitive::Mutex), of(Primitive::Write));
        assert_eq!(of(Primitive::Read), of(Primitive::Write));
        assert_eq!(of(Primitive::Read), of(Primitive::UpgradeableRead));
        let oracle = Oracle::new("h/S").unwrap().dotnet_rw(true);
        assert_eq!(LockName::new("x", Primitive::Write, &oracle).unwrap().as_str(), "x");
    }

    #[test]
    fn exact_names_are_taken_or_refused() {
        assert_eq!(mutex("a b/ü", NameRule::Exact), "a b/ü");
        let oracle = Oracle::new("h/S").unwrap().names(NameRule::Exact);
        for bad in ["", "ORA$x", "ora$x", &"x".repeat(129), &"é".repeat(65)] {
            let error = LockName::new(bad, Primitive::Mutex, &oracle).unwrap_err();
            assert_eq!(error.kind(), pilotman_core::ErrorKind::InvalidName, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_fits(name in "\\PC{1,200}") {
            for rule in [NameRule::DotNet, NameRule::Strict] {
                for primitive in [Primitive::Mutex, Primitive::Write] {
                    let mapped = mapped(&name, rule, primitive);
                    prop_assert!(!mapped.is_empty() && mapped.len() <= LONGEST, "{mapped}");
                }
            }
        }

        #[test]
        fn strict_names_differ(one in "\\PC{1,80}", other in "\\PC{1,80}") {
            let (mapped_one, mapped_other) = (mutex(&one, NameRule::Strict), mutex(&other, NameRule::Strict));
            prop_assert_eq!(one == other, mapped_one == mapped_other);
        }
    }
}
