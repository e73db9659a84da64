//! How names become names of the server.

use std::sync::Arc;

use pilotman_core::{Error, NameRule, Result};
use sha2::{Digest, Sha256, Sha512};

/// The longest name that both servers take, in UTF-16 units.
const LONGEST: usize = 64;
/// What a hash of the .NET library has of those.
const DOTNET_HASH: usize = 32;
/// What a strict name shows of the original.
const READABLE: usize = 11;

/// The name of a lock as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LockName {
    usual: Arc<str>,
    /// MySQL refuses signs outside the basic plane, which MariaDB takes.
    on_mysql: Option<Arc<str>>,
}

impl LockName {
    /// The name of `name` under this rule.
    pub(crate) fn new(name: &str, rule: NameRule) -> Result<Self> {
        let usual = match rule {
            NameRule::Strict => strict(name),
            NameRule::Exact => exact(name)?,
            _ => dotnet(name),
        };
        let is_wide = |c: char| c.len_utf16() > 1;
        let on_mysql = (rule != NameRule::Exact && usual.contains(is_wide)).then(|| {
            let plain: String = usual.chars().map(|c| if is_wide(c) { '_' } else { c }).take(DOTNET_HASH).collect();
            (plain + &dotnet_hash(name)).into()
        });
        Ok(Self { usual: usual.into(), on_mysql })
    }

    /// What MariaDB calls it, and MySQL where it can.
    pub(crate) fn as_str(&self) -> &str {
        &self.usual
    }

    /// What this server calls it.
    pub(crate) fn on(&self, is_mariadb: bool) -> &str {
        match &self.on_mysql {
            Some(name) if !is_mariadb => name,
            _ => &self.usual,
        }
    }
}

/// As the .NET library does.
fn dotnet(name: &str) -> String {
    let lower: String = name.chars().map(lower).collect();
    if lower == name && units(name) <= LONGEST {
        return lower;
    }
    // Cut by UTF-16 units, as there: a half of a pair is sent as a replacement character.
    let start: Vec<u16> = lower.encode_utf16().take(LONGEST - DOTNET_HASH).collect();
    String::from_utf16_lossy(&start) + &dotnet_hash(name)
}

/// The first 160 bits of SHA-512 in base 32, least significant bits first.
fn dotnet_hash(name: &str) -> String {
    let digest = Sha512::digest(name.as_bytes());
    let bit = |at: usize| usize::from(digest[at / 8] >> (at % 8) & 1);
    base32(DOTNET_HASH, |at| (0..5).fold(0, |value, offset| value | bit(at * 5 + offset) << offset))
}

fn base32(length: usize, value: impl Fn(usize) -> usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    (0..length).map(|at| char::from(ALPHABET[value(at) % 32])).collect()
}

/// Beginning and hash of the whole name.
fn strict(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let readable: String = name.chars().take(READABLE).map(plain).collect();
    let digest = Sha256::digest(name.as_bytes());
    let bit = |at: usize| digest.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let hash = base32(52, |at| (0..5).fold(0, |value, offset| value << 1 | bit(at * 5 + offset)));
    format!("{readable}.{hash}")
}

/// The name itself, if both servers take it and tell it from all others.
fn exact(name: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid_name(format!("with names=exact a name {why}"))
            .with_advice("choose another name, or let it be mapped (names=dotnet or names=strict)")
    };
    if name.is_empty() {
        return Err(bad("can't be empty"));
    }
    if units(name) > LONGEST {
        return Err(bad("has at most 64 characters"));
    }
    if name.chars().any(|c| lower(c) != c) {
        return Err(bad("has no upper-case letters, which MySQL would not tell from others"));
    }
    Ok(name.to_owned())
}

fn units(name: &str) -> usize {
    name.encode_utf16().count()
}

/// The lower case of one sign, as .NET has it whatever the language: never several signs.
fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => lower,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mapped(name: &str, rule: NameRule) -> String {
        LockName::new(name, rule).unwrap().as_str().to_owned()
    }

    #[test]
    fn names_are_those_of_the_dotnet_library() {
        for (name, expected) in [
            ("abc", "abc".to_owned()),
            ("ABC", "abczj4qr6tvn4a3kmgq4bukhowqyfrlxsb3".to_owned()),
            ("\\", "\\".to_owned()),
            (&"a".repeat(64), "a".repeat(64)),
            (&"\\".repeat(64), "\\".repeat(64)),
            (&"x".repeat(65), "x".repeat(32) + "gkd2zq6c6ey6mhs45clqg7vij6ycgo43"),
        ] {
            assert_eq!(mapped(name, NameRule::DotNet), expected);
        }
        assert_eq!(dotnet_hash(""), "p6ad62yppho33ytkibum5wbqhqvbcsxa");
    }

    #[test]
    fn lower_case_is_that_of_one_sign() {
        // This one has a lower case of two signs, which .NET doesn't use.
        assert_eq!(mapped("İ", NameRule::DotNet), "İ");
        assert_ne!(mapped("É", NameRule::DotNet), mapped("é", NameRule::DotNet));
        assert_eq!(mapped("é", NameRule::DotNet), "é");
    }

    #[test]
    fn a_pair_that_is_cut_leaves_a_replacement() {
        let name = format!("{}🚂{}", "a".repeat(31), "b".repeat(40));
        assert!(mapped(&name, NameRule::DotNet).starts_with(&format!("{}\u{fffd}", "a".repeat(31))));
    }

    #[test]
    fn mysql_gets_no_wide_signs() {
        let name = LockName::new("🚂", NameRule::DotNet).unwrap();
        assert_eq!(name.on(true), "🚂");
        assert_eq!(name.on(false), format!("_{}", dotnet_hash("🚂")));
        let name = LockName::new("plain", NameRule::DotNet).unwrap();
        assert_eq!(name.on(false), name.on(true));
    }

    #[test]
    fn exact_names_are_taken_or_refused() {
        assert_eq!(mapped("a b/ü", NameRule::Exact), "a b/ü");
        for bad in ["", "A", "É", &"x".repeat(65)] {
            let error = LockName::new(bad, NameRule::Exact).unwrap_err();
            assert_eq!(error.kind(), pilotman_core::ErrorKind::InvalidName, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_fits_both_servers(name in "\\PC{1,80}") {
            for rule in [NameRule::DotNet, NameRule::Strict] {
                let mapped = LockName::new(&name, rule).unwrap();
                for server in [mapped.on(true), mapped.on(false)] {
                    prop_assert!(units(server) <= LONGEST && server.len() <= 192, "{server}");
                    prop_assert!(server.chars().all(|c| lower(c) == c));
                }
                prop_assert!(mapped.on(false).chars().all(|c| c.len_utf16() == 1));
            }
        }

        #[test]
        fn strict_names_differ(one in "\\PC{1,80}", other in "\\PC{1,80}") {
            prop_assert_eq!(one == other, mapped(&one, NameRule::Strict) == mapped(&other, NameRule::Strict));
        }
    }
}
